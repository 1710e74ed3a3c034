"""Where a figure comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """A citation."""

    title: str
    url: str
    date: str  # ISO date of reading or publication
