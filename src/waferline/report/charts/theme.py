"""Colours of charts, on a light and on a dark ground."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito (2008): told apart by readers with any colour vision. On dark their blue is too deep for 3:1 (WCAG 1.4.11),
# and on white their yellow is too pale, so neither is used there.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07A00", "#3E8FC4", "#5F6B76")
_DARK = ("#56B4E9", "#E69F00", "#2CC295", "#E08FBD", "#F0E442", "#8AB8E6", "#B6C0CA")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """ground: of the page; ink: of text; grid: of lines behind data; quiet: of what only accompanies data."""

    ground: str
    ink: str
    grid: str
    quiet: str
    palette: tuple[str, ...]
    heat: tuple[str, str] = ("Viridis", "viridis")  # Plotly's and matplotlib's name of one scale

    def colour(self, which: int | str) -> str:
        if isinstance(which, int):
            return self.palette[which % len(self.palette)]
        return {"ink": self.ink, "quiet": self.quiet}[which]


THEMES = {
    False: Theme("#ffffff", "#1f2933", "#e4e7eb", "#6b7680", _LIGHT),
    True: Theme("#12171d", "#e6eaee", "#2a333d", "#9aa5b1", _DARK),
}


def symbol(which: int | str) -> str:
    """The marker that goes with a colour."""
    return SYMBOLS[which % len(SYMBOLS)] if isinstance(which, int) else SYMBOLS[0]
