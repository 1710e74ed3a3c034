"""A chart as data: panels under one another, each with its series. What draws it, to a page or a picture, is another matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# Okabe and Ito (2008): told apart by readers with any colour vision, on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8A8A")

Kind = Literal["line", "step", "area", "dots", "bars"]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name. kind: how they are drawn; bars have names in `x`, lie flat, and stack on those of other series.

    low, high: ends of an interval around each `y`. hover: what a reader is told of each point. colour: index into `COLOURS`.
    quiet: a guide line, thin and grey.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[Any]
    kind: Kind = "line"
    low: Sequence[Any] | None = None
    high: Sequence[Any] | None = None
    hover: Sequence[str] | None = None
    colour: int = 0
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. share: its height against the other panels'."""

    x_title: str
    y_title: str
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    from_zero: bool = False
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels under one another that share what is on their x axis, with a title and a line of small print."""

    title: str
    panels: Sequence[Panel]
    note: str = ""
    height: int = 480
    data: Sequence[dict[str, Any]] = ()
    """The rows behind the picture, for export."""

    @property
    def has_bars(self) -> bool:
        return any(s.kind == "bars" for panel in self.panels for s in panel.series)
