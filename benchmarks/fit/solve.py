"""Fit one operator's constants by robust least squares on the logarithm of time, through the very functions the package ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.fit.parameters import CHOICES, CONSTANT, PARAMETERS, QUANTISE, RESTARTS, Parameter
from benchmarks.fit.tables import Problem
from waferline.fit import Errors, bounded, folds, left_out
from waferline.predict.efficiency import attention, collectives, gemm, mla, moe, streaming

MODELS: Mapping[str, Callable] = {
    "gemm": gemm.gemm_s,
    "decode_attention": attention.decode_attention_s,
    "prefill_attention": attention.prefill_attention_s,
    "mla_decode": mla.mla_decode_s,
    "mla_prefill": mla.mla_prefill_s,
    "moe": moe.moe_s,
    "streaming": streaming.streaming_s,
    "p2p": collectives.p2p_s,
    "all_reduce": collectives.all_reduce_s,
    "all_gather": collectives.all_gather_s,
    "reduce_scatter": collectives.reduce_scatter_s,
    "all_to_all": collectives.all_to_all_s,
}
COLLECTIVES = ("p2p", "all_reduce", "all_gather", "reduce_scatter", "all_to_all")
MOST_STEPS = 120
ROBUST = 0.05  # log residual beyond which a row counts linearly: about the noise of the tables (3-4 % between engines)


def space(problem: Problem) -> tuple[list[Parameter], dict[str, float]]:
    """The searched parameters and the constants of one problem."""
    key = "collective" if problem.op in COLLECTIVES else problem.op
    parameters = list(PARAMETERS[key])
    constant = dict(CONSTANT.get(key, {}))
    if problem.fixed.get("activation_bits", 16.0) < 16.0:
        parameters += QUANTISE
    return parameters, constant


def predict(problem: Problem, c: Mapping[str, float]) -> np.ndarray:
    where = {"link": problem.link} if problem.link is not None else {"device": problem.device}
    return MODELS[problem.op](**problem.x, **problem.fixed, **where, c=c)


def solve(
    problems: list[Problem],
    weights: list[float] | None = None,
    seconds: Callable[[Problem, Mapping[str, float]], np.ndarray] = predict,
    extra: Sequence[Parameter] = (),
) -> dict[str, float]:
    """Constants that fit all `problems` together (several machines: the transferred set), each with its weight."""
    parameters, constant = space(problems[0])
    parameters = [*parameters, *extra]
    names, units = [p.name for p in parameters], np.array([p.unit for p in parameters])
    weights = weights or [1.0] * len(problems)

    low, high = np.array([p.low for p in parameters]), np.array([p.high for p in parameters])
    scale = np.maximum(np.abs([p.start for p in parameters]), 0.1)
    found = []
    for choice in _choices(problems[0]):
        fixed = constant | choice

        def residual(v: np.ndarray, fixed: dict[str, float] = fixed) -> np.ndarray:
            c = fixed | dict(zip(names, v * units, strict=True))
            return np.concatenate([w * np.log(seconds(p, c) / p.t_s) for p, w in zip(problems, weights, strict=True)])

        starts = _starts(problems[0], parameters)
        x, cost = bounded(residual, starts, low, high, noise=ROBUST, scale=scale, steps=MOST_STEPS)
        found.append((cost, fixed | dict(zip(names, (x * units).tolist(), strict=True))))
    return min(found, key=lambda f: f[0])[1]


def _choices(problem: Problem) -> list[dict[str, float]]:
    """Constants tried one by one: tile shapes, and how attention kernels split the cache."""
    quantised = problem.op == "gemm" and problem.fixed["activation_bits"] < 16.0
    return CHOICES.get("gemm quantised" if quantised else problem.op, [{}])


def _starts(problem: Problem, parameters: list[Parameter]) -> list[np.ndarray]:
    restarts = [{}, *RESTARTS.get("collective" if problem.op in COLLECTIVES else problem.op, [])]
    return [np.array([changed.get(p.name, p.start) for p in parameters], dtype=float) for changed in restarts]


def cross_validate(problem: Problem, most_folds: int = 5) -> np.ndarray:
    """Out-of-fold seconds: no row is predicted by constants that saw its group."""
    out = np.empty(len(problem))
    for test in left_out(folds(problem.group, most_folds)):
        out[test] = predict(problem.take(test), solve([problem.take(~test)]))
    return out


def error(predicted_s: np.ndarray, t_s: np.ndarray) -> tuple[float, float]:
    """(median, 90th percentile) of the absolute error."""
    e = Errors.of(np.log(predicted_s / t_s))
    return e.median, e.p90
