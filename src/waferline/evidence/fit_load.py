"""Fits how serving benchmarks load each engine (`data/load.yaml`): `python -m waferline.evidence.fit_load`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.evidence.ask_serving import served_parts
from waferline.evidence.folder import evidence_rows
from waferline.evidence.load import DATA, Closed, Habits, closed_load
from waferline.evidence.request import Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of

FloatArray = npt.NDArray[np.float64]

_METRICS = ("tpot_s", "ttft_s")
_FEWEST_ROWS = 40  # of one metric; engines with fewer take the habits of all engines together
_START = (1.0, 0.2, 0.05)


@dataclass(frozen=True, slots=True)
class Load:
    """Closed-load rows of one engine with the pieces of their prediction."""

    engine: str
    model: str
    metric: str
    value: float
    pieces: tuple[float, ...]  # of `Closed`, in the order of its fields


def closed_loads(rows: Sequence[Row]) -> list[Load]:
    """Every scorable TTFT and TPOT row whose clients all find a place in memory."""
    groups: dict[tuple[str, ...], list[tuple[Row, Request]]] = {}
    for row in rows:
        if row.phase != "serve" or row.metric not in _METRICS or row.suspect:
            continue
        request = request_of(row)
        if isinstance(request, Request) and request.load == "closed":
            groups.setdefault(request.group, []).append((row, request))
    found = []
    for members in groups.values():
        load = served_parts([request for _, request in members]).load["value"]
        columns = [np.broadcast_to(getattr(load, f.name), (len(members),)) for f in fields(Closed)]
        for i, (row, request) in enumerate(members):
            pieces = tuple(float(column[i]) for column in columns)
            found.append(Load(request.engine, request.model, row.metric, row.value, pieces))
    return [x for x in found if x.pieces[3] <= x.pieces[4]]


def together(loads: Sequence[Load]) -> Closed:
    """The pieces of many rows as arrays."""
    columns = np.array([x.pieces for x in loads]).T
    return Closed(*columns)


def predicted(loads: Sequence[Load], habits: Habits, step_share: float = 1.0) -> FloatArray:
    """The metric of every row, the decode step taken as `step_share` of what the model says."""
    c = together(loads)
    times = closed_load(Closed(c.prefill_s, c.prompt_s, c.step_s * step_share, *_tail(c)), habits)
    return np.where([x.metric == "tpot_s" for x in loads], times.itl_s, times.ttft_s)


def _tail(c: Closed) -> tuple[FloatArray, FloatArray, FloatArray]:
    return c.clients, c.running, c.output_tokens


def fit(loads: Sequence[Load]) -> tuple[Habits, float]:
    """(habits, share of the predicted step that was measured) with the least mean |log error|.

    The share is fitted beside the habits so that a decode step that is off does not bend them; it is told, not used.
    """
    from scipy.optimize import minimize

    values = np.array([x.value for x in loads])

    def loss(p: FloatArray) -> float:
        stall, burst, front_s, share = np.abs(p)
        guess = predicted(loads, Habits(stall, burst, front_s), share)
        return float(np.mean(np.abs(np.log(guess / values))))

    best = minimize(loss, [*_START, 1.0], method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-3, "fatol": 1e-5})
    stall, burst, front_s, share = (float(x) for x in np.abs(best.x))
    return Habits(round(stall, 3), round(burst, 3), round(front_s, 4)), round(share, 3)


def figures(loads: Sequence[Load]) -> dict[str, Any]:
    """One entry of the file: habits, rows, error on them, and error on models that were left out one by one."""
    habits, share = fit(loads)
    errors = {metric: _error([x for x in loads if x.metric == metric], habits) for metric in _METRICS}
    out: dict[str, list[float]] = {metric: [] for metric in _METRICS}
    for model in sorted({x.model for x in loads}):
        rest = [x for x in loads if x.model != model]
        if not rest:
            continue
        others, _ = fit(rest)
        for metric in _METRICS:
            mine = [x for x in loads if x.model == model and x.metric == metric]
            out[metric] += _errors(mine, others) if mine else []
    held_out = {metric: round(float(np.median(e)), 3) for metric, e in out.items() if e}
    return {
        **{f.name: getattr(habits, f.name) for f in fields(Habits)},
        "rows": len(loads),
        "median_error": errors,
        "median_error_of_models_left_out": held_out,
        "measured_over_predicted_step": share,
    }


def _errors(loads: Sequence[Load], habits: Habits) -> list[float]:
    guess = predicted(loads, habits)
    return [float(abs(g / x.value - 1.0)) for g, x in zip(guess, loads, strict=True)]


def _error(loads: Sequence[Load], habits: Habits) -> float:
    return round(float(np.median(_errors(loads, habits))), 3)


def main() -> None:
    """Fit all engines with enough rows and write the file."""
    import yaml

    loads = closed_loads(evidence_rows())
    engines = {"default": figures(loads)}
    for engine in sorted({x.engine for x in loads}):
        mine = [x for x in loads if x.engine == engine]
        if min(sum(x.metric == m for x in mine) for m in _METRICS) >= _FEWEST_ROWS:
            engines[engine] = figures(mine)
    head = (
        "# How serving benchmarks load an engine: see `load.py` for stall, burst and front_s.\n"
        "# Written by `python -m waferline.evidence.fit_load` from published closed-load TTFT and TPOT rows.\n"
    )
    body = {"fitted": datetime.date.today().isoformat(), "engines": engines}
    DATA.write_text(head + yaml.safe_dump(body, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
