"""Points of two quantities, and the front of those that no other beats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import number
from waferline.units import unit_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Points of one colour. text: what a pointer over each is told. joined: a line goes through them, as through a front.
    links: where a click on each leads."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    text: Sequence[str] = ()
    joined: bool = False
    links: Sequence[str] = ()


def scatter(title: str, x: Axis, y: Axis, groups: Sequence[Group], *, note: str = "", diagonal: bool = False) -> Chart:
    """Groups of points over two quantities. diagonal: the line of agreement, for predicted over measured values."""
    lines = [
        Series(name="", kind="line", x=group.x, y=group.y, colour=n, dashed=True)
        for n, group in enumerate(groups)
        if group.joined
    ]
    points = [
        Series(
            name=g.name,
            kind="points",
            x=g.x,
            y=g.y,
            text=g.text,
            links=g.links,
            colour=n,
            size=9 if len(g.x) < 200 else 6,
        )
        for n, g in enumerate(groups)
    ]
    if diagonal:
        values = [v for group in groups for side in (group.x, group.y) for v in side]
        ends = (min(values), max(values)) if values else (1.0, 1.0)
        lines.append(Series(name="", kind="line", x=ends, y=ends, colour="ink"))
    return Chart(title=title, panels=(Panel(series=(*lines, *points), x=x, y=y),), note=note, height=520)


def points_chart(
    columns: Mapping[str, Sequence[Any]],
    x: str,
    y: str,
    *,
    best: Collection[int] = (),
    title: str = "",
    name: str = "points",
) -> Chart:
    """Points by two of their columns (fields with their unit in the name); those of `best` are a front, which a line joins."""

    def told(i: int) -> str:
        return "\n".join(f"{k}: {number(v[i]) if isinstance(v[i], float) else v[i]}" for k, v in columns.items())

    rest = [i for i in range(len(columns[x])) if i not in best]
    groups = [
        Group(name=called, x=[columns[x][i] for i in some], y=[columns[y][i] for i in some],
              text=[told(i) for i in some], joined=called == "front")
        for called, some in (("front", sorted(best, key=lambda i: columns[x][i])), (name, rest))
        if some
    ]  # fmt: skip
    return scatter(title or f"{y} against {x}", _axis(x), _axis(y), groups)


_SYMBOLS = {"second": "s", "byte": "B", "joule": "J", "watt": "W", "flop": "FLOP"}


def _axis(field: str) -> Axis:
    return Axis(title=field, unit=_SYMBOLS.get(unit_of(field), ""))
