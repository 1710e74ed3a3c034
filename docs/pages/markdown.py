"""Markdown tables for generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from waferline.report.table import Column, Table

DOCS = Path(__file__).parent.parent


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int | None = None) -> str:
    """A Markdown table of cells that are Markdown themselves; the first `left` columns (all, by default) stand left."""
    typed = [Column(c, left=left is None or i < left, markup=True) for i, c in enumerate(columns)]
    return Table("", typed, [[str(cell) for cell in row] for row in rows]).markdown()


def write(name: str, text: str) -> Path:
    """Write one page under docs/ and answer with its path."""
    path = DOCS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    return path
