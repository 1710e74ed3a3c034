"""A chart as data: panels of series over axes. What draws it is the renderer's affair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One side of a panel. unit: SI, written with prefixes. names: categories instead of numbers, from below (or left) up."""

    title: str = ""
    unit: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None
    names: tuple[str, ...] = ()
    share: bool = False  # 0 to 1, written in per cent
    turned: bool = False  # large values below, as rows of a picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one name in one colour.

    kind: points, line, steps, area, bars (from the axis of names), ticks (a short line across each bar) or heat.
    x, y: values; of bars and ticks one side is the category's name. text: what a pointer over each value is told.
    low, high: ends of an interval along the axis of numbers. cells: of heat, (rows, columns).
    colour: its place in the palette; "quiet" and "ink" for what is no data of its own. Symbols follow colours, so that
    no reader depends on colour alone.
    """

    name: str
    kind: str
    x: Sequence[Any] = ()
    y: Sequence[Any] = ()
    colour: int | str = 0
    text: Sequence[str] = ()
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    size: float = 8.0
    dashed: bool = False
    cells: Any = None
    base: Sequence[float] = ()  # where bars begin; 0
    links: Sequence[str] = ()  # where a click on each value leads, in the app
    step: int = 1  # of heat: cores that one cell stands for


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes. labels: (x, y, text) written into the plot, inwards from what stands at an end of x."""

    series: tuple[Series, ...]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    labels: tuple[tuple[float, float, str], ...] = ()
    weight: float = 1.0  # of its height beside the others

    def towards(self, x: float) -> str:
        """The side of a label at `x` that stands there: left, center or right."""
        return {self.x.low: "left", self.x.high: "right"}.get(x, "center")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Panels one below another, or in `columns`. height: pixels of a plain screen. joined: panels share what their x axis is."""

    title: str
    panels: tuple[Panel, ...]
    note: str = ""
    columns: int = 1
    height: int = 480
    width: int = 900
    joined: bool = False

    @property
    def legend(self) -> tuple[str, ...]:
        """Names that a legend explains: none where one series says all, or where the axis names it."""
        seen = dict.fromkeys(s.name for p in self.panels for s in p.series if s.name and s.kind != "heat")
        return tuple(seen) if len(seen) > 1 else ()

    def rows(self) -> list[dict[str, Any]]:
        """Every value that is drawn, a row each, for those who want the numbers: panel, series, x, y, ends of its interval."""
        return [
            {"panel": panel.title, "series": series.name, "x": x, "y": y}
            | ({} if series.low is None or series.high is None else {"low": series.low[i], "high": series.high[i]})
            for panel in self.panels
            for series in panel.series
            if series.name and series.kind != "heat"
            for i, (x, y) in enumerate(zip(series.x, series.y, strict=True))
        ]
