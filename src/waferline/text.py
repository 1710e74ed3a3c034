"""Numbers as people read them: three significant digits with a metric prefix."""

from __future__ import annotations

import math

_STEPS = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)


def metric(value: float, unit: str = "") -> str:
    """`metric(0.0042, "s")` is `4.20 ms`; `metric(1.6e10, "B")` is `16.0 GB`."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return f"0 {unit}".strip()
    size = abs(value)
    scale, prefix = next(((s, p) for s, p in _STEPS if size >= s * 0.9995), _STEPS[-1])
    return f"{_three(value / scale)} {prefix}{unit}".strip()


def _three(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"


def percent(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if value and abs(value) < 0.1:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.0f} %"


def dollars(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"${value:,.0f}" if value >= 100 else f"${value:.3g}"
