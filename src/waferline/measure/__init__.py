"""Running operators, models and servers for real: every answer is a `Measurement`, or a `Refusal` that says why not."""

from waferline.measure.contract import Check, Conditions, Measurement, Refusal
from waferline.measure.engine import measure

__all__ = ["Check", "Conditions", "Measurement", "Refusal", "measure"]
