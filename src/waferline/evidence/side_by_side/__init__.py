"""Predicted beside measured: the same operator, model or load asked of predict and run for real."""

from waferline.evidence.side_by_side.known import Known, known_machine, known_or_none, predicted

__all__ = ["Known", "known_machine", "known_or_none", "predicted"]
