"""Groups of training rows put to the door of every face, `predict.scenario.run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from waferline.arrays import FloatArray, Floats
from waferline.evidence.answer import VARIANTS, Answer, answers, single
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.fit import BoolArray
from waferline.predict.result import Result
from waferline.predict.run import run
from waferline.predict.scenario import Scenario

SIZES = (
    "input_tokens", "batch", "micro_batch", "virtual_stages", "tp", "pp", "ep", "dp", "slices", "context_parallel", "passes",
)  # fmt: skip
_WITH_RECOMPUTATION = 4.0 / 3.0  # Narayanan et al. 2021, equation 3: a second forward pass beside three
_WHOLE_JOB = ("total_tokens_per_s", "samples_per_s")  # devices that share a sequence speed these up, and the step
_KEYS = {
    "value": "step_time_s",
    "low90": "step_time_low90_s",
    "high90": "step_time_high90_s",
    "light": "light_step_time_s",
}


def ask_training(requests: Sequence[Request]) -> list[Answer]:
    """Answers for training requests of one group. Every metric is the step time in another unit.

    Raises: any WaferlineError of the model, for the whole group.
    """
    first = requests[0]
    numbers = {name: np.array([getattr(r, name) for r in requests], dtype=np.float64) for name in SIZES}
    result = solve(first, {name: single(column) for name, column in numbers.items()})
    shape = numbers["batch"].shape
    expected = np.broadcast_to(result["step_time_s"], shape)
    names = [r.answer for r in requests]
    fields = {name: np.broadcast_to(_field(result, name), shape) for name in set(names)}
    at_expected = np.array([fields[name][i] for i, name in enumerate(names)])
    is_time = np.array([name == "step_time_s" for name in names])
    shared = numbers["context_parallel"]
    at_expected = at_expected * np.where([name in _WHOLE_JOB for name in names], shared, 1.0)
    values = {}
    for variant in VARIANTS:
        step = np.broadcast_to(result[_KEYS[variant]], shape)
        values[variant] = np.where(is_time, step / shared * numbers["passes"], at_expected * expected / step)
    fits = np.broadcast_to(_fits(first, numbers, result), shape)
    notes = [() if ok else ("does not fit by the memory model",) for ok in fits]
    return answers(values, np.broadcast_to(result["tier"], shape).tolist(), notes)


def best_of(request: Request, points: Mapping[str, FloatArray]) -> int | None:
    """Which of `points` (sizes in place of the request's own) fits and has the shortest step; None where none fits."""
    like = points["tp"]
    n = {name: points.get(name, np.full(like.shape, getattr(request, name))) for name in SIZES}
    result = solve(request, n)
    fits = np.broadcast_to(_fits(request, n, result), like.shape)
    step_s = np.broadcast_to(result["step_time_s"], like.shape) / n["context_parallel"]
    return int(np.argmin(np.where(fits, step_s, np.inf))) if fits.any() else None


def _fits(first: Request, n: Mapping[str, FloatArray], result: Result) -> BoolArray:
    """Where a step fits: devices that share a sequence hold the activations of their part of it."""
    shared = n["context_parallel"]
    if (shared > 1.0).any():
        result = solve(first, {**n, "input_tokens": np.maximum(n["input_tokens"] // shared, 1.0)})
    return np.asarray(result["feasible"])


def solve(first: Request, n: Mapping[str, Floats]) -> Result:
    """The training model for rows that differ in sizes alone."""
    scenario = Scenario(
        model=model_spec(first.model),
        machine=first.hardware,
        phase="train",
        prompt=n["input_tokens"],
        batch=n["batch"],
        micro_batch=n["micro_batch"],
        virtual_stages=n["virtual_stages"],
        precision=first.precision,
        tp=n["tp"],
        pp=n["pp"],
        ep=n["ep"],
        dp=n["dp"],
        slices=n["slices"],
        recompute=first.variant,
        sharding=first.sharding,
        trains=first.trains,
        stack=first.engine,
    )
    return run(scenario).result


def _field(result: Result, name: str) -> FloatArray:
    """A result field, or TFLOP/s as some sources count them."""
    if name == "recomputed_tflops_per_device":
        return result["tflops_per_device"] * _WITH_RECOMPUTATION
    if name == "causal_tflops_per_device":
        return result["tflops_per_device"] * result["causal_mfu"] / result["mfu"]
    return result[name]
