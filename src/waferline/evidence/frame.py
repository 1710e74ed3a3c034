"""Rows and outcomes as columns: what a fit needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from waferline.evidence.outcome import Outcome
from waferline.evidence.rows import Row

Columns = dict[str, npt.NDArray]

_TEXT = {f.name for f in fields(Row) if f.type == "str"}
_OUTCOME_NUMBERS = ("predicted", "low90", "high90", "light")

# What a group of left-out rows may share.
GROUP_KEYS = ("hardware", "model", "engine", "source", "engine_version", "phase", "metric", "weight_format")


def to_columns(rows: Sequence[Row]) -> Columns:
    """One array per column of the schema, in row order: text as str, numbers as float64 (nan: not stated)."""
    out: Columns = {}
    for f in fields(Row):
        values = [getattr(row, f.name) for row in rows]
        if f.name in _TEXT:
            out[f.name] = np.array(values, dtype=str)
        elif f.name == "complete":
            out[f.name] = np.array(values, dtype=bool)
        else:
            out[f.name] = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return out


def outcome_columns(outcomes: Sequence[Outcome]) -> Columns:
    """The rows' columns and their prediction: predicted, low90, high90, light (nan: refused), tier, log_error.

    log_error: log(predicted time / published time) whatever the metric, nan where the row is not scored.
    """
    out = to_columns([o.row for o in outcomes])
    for name in _OUTCOME_NUMBERS:
        out[name] = np.array([np.nan if (v := getattr(o, name)) is None else v for o in outcomes], dtype=np.float64)
    out["tier"] = np.array([o.tier or "" for o in outcomes])
    out["scored"] = np.array([o.scored for o in outcomes])
    out["log_error"] = np.array([o.slower if o.scored else np.nan for o in outcomes])
    return out


def groups(columns: Columns, by: str | Sequence[str]) -> npt.NDArray[np.intp]:
    """A group number for every row: rows agree in all of `by` exactly when their numbers agree.

    Raises: UnknownNameError for a column that is not there.
    """
    from waferline.errors import unknown

    keys = [by] if isinstance(by, str) else list(by)
    for key in keys:
        if key not in columns:
            raise unknown("column", key, columns)
    joined = np.array(["\x1f".join(map(str, row)) for row in zip(*(columns[k] for k in keys), strict=True)])
    return np.unique(joined, return_inverse=True)[1]


def log_quantiles(outcomes: Sequence[Outcome], levels: Sequence[float] = (0.05, 0.25, 0.75, 0.95)) -> tuple[float, ...]:
    """Quantiles of log(published time / predicted time) of scored rows: what an interval of such rows is made of."""
    logs = [-o.slower for o in outcomes if o.scored]
    return tuple(float(q) for q in np.quantile(logs, levels)) if logs else tuple(np.nan for _ in levels)
