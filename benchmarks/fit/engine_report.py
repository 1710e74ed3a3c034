"""The fit of an engine as a line on the terminal."""

from __future__ import annotations

import numpy as np

from benchmarks.fit.engine_family import Family
from benchmarks.fit.engine_fit import figures


def line(f: Family) -> str:
    """One family: rows, error on them, error of each split."""
    text = f"{f.engine:18s} {f.vendor:16s} n={len(f.parts.rows):5d} fit {_error(f.errors)}"
    for h in f.held:
        if h.groups > 1:
            text += f" | {h.by} left out ({h.groups}) {_error(h.errors)}"
    return text


def _error(errors: np.ndarray) -> str:
    median, p90, bias = figures(errors)
    return f"{100 * median:.1f} % (p90 {100 * p90:.0f} %, bias {100 * bias:+.0f} %)"
