"""`solve`: a prediction turned round. The value of one number of a scenario at which goals just hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError, unknown
from waferline.machines.hardware import load_hardware
from waferline.predict.result import Result
from waferline.predict.run import run
from waferline.predict.scenario import OUTPUT_TOKENS, PROMPT_TOKENS, Scenario
from waferline.search.goal import Bound
from waferline.search.hardware_change import PARTS, scaled
from waferline.workloads.load import load_model

# Field → the most that is tried. Parts of the machine are solved as factors of what it has.
COUNTS = {
    "batch": 65_536, "prompt": 4_194_304, "output": 1_048_576, "context": 8_388_608,
    "tp": 1024, "pp": 1024, "dp": 4096, "ep": 1024, "images": 4096, "micro_batch": 4096, "steps": 10_000,
}  # fmt: skip
_COARSE, _FINE = 64, 64  # points of a grid, and of the one between two of them
_FACTORS = (1e-2, 1e3)  # of a part of the machine
_DEGREES = ("tp", "pp", "dp", "ep")


@dataclass(frozen=True, slots=True)
class Solution:
    """value: where the goals just hold, None where they never do. nearest: then the value that comes closest, and its figures.

    edge: largest or smallest value that holds. at: the goals' fields there.
    """

    field: str
    value: float | None
    edge: str
    at: dict[str, float]
    nearest: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"how": "predicted", **{name: getattr(self, name) for name in self.__slots__}}


def solve(field: str, goals: Sequence[str], scenario: Scenario) -> Solution:
    """The largest value of `field` for which every goal holds where small ones hold, else the smallest.

    field: a count of the scenario (`COUNTS`), or a part of the machine (`PARTS`) as a factor of what it has. A value at which the
    model does not fit holds no goal. Raises: as `run`; UnknownNameError for a field that is no number or that no answer has;
    InvalidInputError for a field that is given, too.
    """
    bounds = [Bound.of(goal) for goal in goals]
    if not bounds:
        raise InvalidInputError("solve needs a goal", hint="--for tpot<=20ms")
    if field not in COUNTS and field not in PARTS:
        raise unknown("field to solve for", field, (*COUNTS, *PARTS))
    if field in COUNTS and getattr(scenario, field) is not None:
        raise InvalidInputError(f"{field} is what is solved for: leave it out")
    asked = replace(
        scenario, model=load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume),
        machine=load_hardware(scenario.machine), input_shape=None, assume=None, intervals=False,
    )  # fmt: skip
    grid = _grid(field, asked)
    held, values = _held(asked, field, grid, bounds)
    if not held.any():
        return _infeasible(field, grid, values, bounds)
    edge = "largest" if held[0] else "smallest"
    at = int(np.flatnonzero(held)[-1 if held[0] else 0])
    beyond = at + (1 if held[0] else -1)
    if 0 <= beyond < grid.size and field not in _DEGREES:
        fine = _between(field, grid[at], grid[beyond])
        inner, found = _held(asked, field, fine, bounds)
        while inner.any() and fine.size > 2 and field in COUNTS and np.abs(np.diff(fine)).max() > 1:
            last = int(np.flatnonzero(inner)[-1])
            fine = _between(field, fine[last], fine[min(last + 1, fine.size - 1)])
            inner, found = _held(asked, field, fine, bounds)
        last = int(np.flatnonzero(inner)[-1])
        return Solution(field, float(fine[last]), edge, {n: float(v[last]) for n, v in found.items()})
    return Solution(field, float(grid[at]), edge, {n: float(v[at]) for n, v in values.items()})


def _grid(field: str, asked: Scenario) -> AnyArray:
    if field in PARTS:
        return np.geomspace(*_FACTORS, _COARSE)
    most = COUNTS[field]
    if field in _DEGREES:
        return 2.0 ** np.arange(int(np.log2(most)) + 1)
    least = 1 if field != "context" else int((asked.prompt or PROMPT_TOKENS) + (asked.output or OUTPUT_TOKENS))
    return np.unique(np.round(np.geomspace(least, most, _COARSE)))


def _between(field: str, holds: float, fails: float) -> AnyArray:
    """From a value that holds to one that does not."""
    if field in PARTS:
        return np.geomspace(holds, fails, _FINE)
    return np.unique(np.round(np.linspace(holds, fails, _FINE)))[:: 1 if fails > holds else -1]


def _held(asked: Scenario, field: str, grid: AnyArray, bounds: Sequence[Bound]) -> tuple[AnyArray, dict[str, AnyArray]]:
    """Where every goal holds, and the goals' fields; NaN where there is no answer."""
    if field in PARTS or field in _DEGREES:
        results = [_one(asked, field, float(v)) for v in grid]
    else:
        every: Any = {field: grid}
        results = [run(replace(asked, **every)).result]
    first = next((r for r in results if r is not None), None)
    if first is None:
        _ = run(_with(asked, field, float(grid[0])))  # raises what is wrong
        raise UnsupportedError(f"no value of {field} has an answer")
    held = np.ones(grid.size, bool)
    values: dict[str, AnyArray] = {}
    fits = _column(results, "feasible", grid.size) if "feasible" in first else np.ones(grid.size)
    for bound in bounds:
        name = next((n for n in bound.fields if n in first), None)
        if name is None:
            raise unknown("field", bound.fields[-1], first.values)
        values[name] = _column(results, name, grid.size)
        with np.errstate(invalid="ignore"):
            held &= (values[name] <= bound.limit) if bound.most else (values[name] >= bound.limit)
    return held & (fits == 1.0), values


def _with(asked: Scenario, field: str, value: float) -> Scenario:
    if field in PARTS:
        return replace(asked, machine=scaled(asked.machine, field, value))
    changed: Any = {field: int(value)}
    return replace(asked, **changed)


def _one(asked: Scenario, field: str, value: float) -> Result | None:
    try:
        return run(_with(asked, field, value)).result
    except WaferlineError:
        return None


def _column(results: Sequence[Result | None], name: str, size: int) -> AnyArray:
    if len(results) == 1 and size != 1 and results[0] is not None:
        return np.broadcast_to(np.asarray(results[0][name], dtype=float), (size,))
    return np.array([np.nan if r is None else float(r[name]) for r in results])


def _infeasible(field: str, grid: AnyArray, values: dict[str, AnyArray], bounds: Sequence[Bound]) -> Solution:
    """The value whose farthest goal is nearest."""
    misses = []
    for bound, (_, column) in zip(bounds, values.items(), strict=False):
        ratio = column / bound.limit if bound.limit else column
        misses.append(ratio if bound.most else 1.0 / np.maximum(ratio, 1e-300))
    worst = np.nan_to_num(np.max(misses, axis=0), nan=np.inf)
    at = int(np.argmin(worst))
    return Solution(field, None, "none", {n: float(v[at]) for n, v in values.items()}, nearest=float(grid[at]))
