"""Quantities over time, one small panel below another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import AnyArray
from waferline.report.charts.chart import Axis, Chart, Panel, Series

_MOST = 4000  # values a line keeps; a screen has fewer columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A quantity over time. kind: line, steps (it holds until the next value), area, or points."""

    name: str
    time_s: Sequence[float] | AnyArray
    values: Sequence[float] | AnyArray
    kind: str = "steps"
    colour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Quantities that share an axis."""

    title: str
    tracks: tuple[Track, ...]
    axis: Axis


def timeline(title: str, lanes: Sequence[Lane], *, x: str = "time", note: str = "") -> Chart:
    """Lanes over one axis of seconds. Long tracks are thinned evenly to what a screen can show."""
    last = len(lanes) - 1
    panels = tuple(
        Panel(
            series=tuple(_line(track) for track in lane.tracks),
            x=Axis(title=x if n == last else "", unit="s"),
            y=lane.axis,
            title=lane.title,
        )
        for n, lane in enumerate(lanes)
    )
    return Chart(title=title, panels=panels, joined=True, height=140 + 200 * len(lanes), note=note)


def _line(track: Track) -> Series:
    time, values = np.asarray(track.time_s, float), np.asarray(track.values, float)
    kept = np.unique(np.linspace(0, max(time.size - 1, 0), min(time.size, _MOST)).astype(int))
    return Series(
        name=track.name, kind=track.kind, x=time[kept].tolist(), y=values[kept].tolist(), colour=track.colour, size=4
    )
