"""Writes `docs/accuracy.md`: the accuracy card over every published row at hand."""

from __future__ import annotations

from pathlib import Path

from docs.pages.markdown import DOCS
from waferline.report.evidence_card import build as write_card


def build() -> list[Path]:
    """Write docs/accuracy.md."""
    return write_card(DOCS)
