"""Where a logarithmic axis is marked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from waferline.report.charts.chart import Axis
from waferline.text import metric, percent


def log_ticks(axis: Axis, values: Iterable[float]) -> tuple[list[float], list[str]]:
    """(where, what is written there): the fewer decades, the more marks in each, the unit at every one."""
    known = [float(v) for v in values if v > 0]
    low, high = axis.low or min(known, default=1.0), axis.high or max(known, default=1.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = (last - first) // 12 + 1  # decades
    steps = (1, 2, 3, 4, 5, 6, 8) if high < 12 * low else (1, 2, 5) if high < 300 * low else (1,)
    at = [step * 10.0**decade for decade in range(first, last + 1, every) for step in steps]
    return at, [percent(v) if axis.share else _written(v, axis.unit) for v in at]


def _written(value: float, unit: str) -> str:
    return re.sub(r"\.0+\b", "", metric(value, unit) if unit or value >= 1 else f"{value:g}")
