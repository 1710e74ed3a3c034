"""Constants of one engine on one kind of machine, by robust least squares of log errors, and their errors on groups left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.fit.engine_parts import Parts, Sums
from waferline.arrays import FloatArray
from waferline.evidence.request import Request
from waferline.evidence.rows import Row
from waferline.fit import BoolArray, Errors, fading, held_out, residual_quantiles, shrunk, sweep_weights
from waferline.predict.engine import HOST_LAYERS, HOST_SEQUENCES, get_engine, older_of
from waferline.predict.load import AT_ONCE, NO_LIMIT, StepTimes, prompts_s

Constants = Mapping[str, float]

# name -> (where the fit starts and shrinks to, spread of the prior as a log ratio)
PRIOR: Mapping[str, tuple[float, float]] = {
    "step_s": (1e-3, 1.5),
    "kernel_s": (1e-6, 1.5),
    "expert_layer_s": (3e-5, 1.5),
    "sequence_s": (1e-5, 1.5),
    "decode_excess": (0.4, 1.0),
    "decode_scale": (1.0, 0.15),
    "prefill_scale": (1.0, 0.7),
    "collective_scale": (0.7, 0.7),
}
# Engines that replay graphs: a launch costs their host nothing. What a step takes beyond its operators is by layer: small models
# take as little as half a millisecond, which rows of large models alone would not tell from one by step.
REPLAYED: Mapping[str, tuple[float, float]] = {"step_s": (4e-4, 0.05), "layer_s": (5e-5, 0.7)}
# What the host takes for a layer of a prompt, which no graph of decode steps holds; servers alone launch it so.
LAUNCHED: Mapping[str, tuple[float, float]] = {"prompt_layer_s": (7e-5, 0.7)}
SPREAD: Mapping[str, tuple[float, float]] = {"spread_passes": (1.0, 3.0)}  # where attention is known to share nothing
# Engines whose matrix kernels are not made for the largest matrix units: operations and bytes per clock and unit.
CEILINGS: Mapping[str, tuple[float, float]] = {"unit_flops": (900.0, 0.5), "unit_bytes": (6.0, 0.5)}
# Engines that compute in the checkpoint's 16 bits: prompts where bfloat16 is emulated. One checkpoint in both formats: 1.34 on an
# M2 Max (Rapid-MLX issue 3154), 1.2 (oMLX issue 604), 1.7 unquantised on an M2 Ultra (mlx-examples PR 186).
EMULATION: Mapping[str, tuple[float, float]] = {"emulation": (1.4, 0.3)}
# Engines without graphs, whose host issues operators one by one while the device works: nothing is discounted.
EAGER: Mapping[str, tuple[float, float]] = {
    "step_s": (1e-3, 1.5),
    "issue_s": (6e-5, 1.0),
    "sequence_s": (1e-5, 1.5),
    "prefill_scale": (1.0, 0.7),
    "collective_scale": (0.7, 0.7),
}
MOST = {"prefill_scale": np.log(5.0), "collective_scale": np.log(60.0)}  # beyond that it is not the same operator
STALL = 0.95  # prefills of others between a sequence's tokens, over those of evenly spread arrivals (arXiv:2403.02310)
# Chosen by the least sum of left-out errors of static batches and TPOT over machines, models and publishers: spread of the prior
# over what stands above, around neutral constants on NVIDIA's GPUs, whose kernels they describe, and around what related engines
# have in common.
ROOM, SHRINK = 0.3, 0.15
OF_RUNS = 0.5  # the same for an engine that runs another's kernels, around that one's constants
POOLED = "pooled"  # stands for all related engines
ON_EDGE_TABLES = (
    "pytorch",
)  # engines whose runs mostly stand in the tables that `edge` reads, which therefore fits them
_STEPS = 40
_FEWEST_OF_KIN = 8  # rows of another generation that something can be said by
_NOISE = 0.1  # log error at which a row starts to pull less


def names_of(engine: str) -> Mapping[str, tuple[float, float]]:
    if engine in ON_EDGE_TABLES:
        return EAGER
    kernels = engine if engine == POOLED else get_engine(engine).runs
    mlx = kernels.startswith("mlx")
    launched = LAUNCHED if engine == "vllm-v0" else {}
    ceilings = CEILINGS if mlx or kernels.startswith("llama.cpp") else {}
    return {**PRIOR, **launched, **ceilings, **(EMULATION if mlx else {})}


def constants_of(engine: str) -> str:
    """The engine whose constants it has: its own, or of the one that it is but for a fact."""
    e = get_engine(engine)
    return e.runs if e.score_bytes else engine


def run_by(engine: str) -> str | None:
    """The engine whose kernels this one runs, where the same constants describe both."""
    runs = get_engine(engine).runs
    return runs if runs != engine and names_of(runs).keys() == names_of(engine).keys() else None


def pass_s(s: Sums, c: Constants, *, decode: bool) -> FloatArray:
    """Seconds of one pass of one pipeline stage chain."""
    matrix = s.matrix_s
    if "unit_flops" in c:
        matrix = np.maximum(np.maximum(matrix, s.unit_flops / c["unit_flops"]), s.unit_bytes / c["unit_bytes"])
    work = matrix + s.other_s
    if decode:
        excess = c.get("decode_excess", 1.0) * np.maximum(work - s.floor_s, 0.0)
        work = c.get("decode_scale", 1.0) * (s.floor_s + excess)
        work = work + c.get("spread_passes", 0.0) * s.spread_s
    else:
        work = c["prefill_scale"] * np.where(s.emulates, c.get("emulation", 1.0), 1.0) * work
    work = np.maximum(work, s.floor_s if decode else s.light_s) + c["collective_scale"] * s.collective_s
    work = work if decode else work + s.scores_s
    work = np.maximum(work, c.get("issue_s", 0.0) * s.issued)
    host = c["step_s"] + c.get("kernel_s", 0.0) * s.kernels + c.get("expert_layer_s", 0.0) * s.expert_layers
    each = c.get("layer_s", 0.0) + (0.0 if decode else c.get("prompt_layer_s", 0.0))
    host = host + each * np.minimum(s.layers, HOST_LAYERS)
    return s.fill * (work + host + c["sequence_s"] * np.minimum(s.sequences, HOST_SEQUENCES))


def step_times(p: Parts, c: Constants) -> StepTimes:
    """What a replica's load is made of, by row."""
    one, many = pass_s(p.one, c, decode=False), pass_s(p.pre, c, decode=False)
    together, dp = np.maximum(p.together, 1.0), p.size["dp"]
    return StepTimes(
        prefill_s=one,
        prompt_s=many / together,
        step_s=pass_s(p.dec, c, decode=True),
        clients=np.maximum(np.minimum(p.size["batch"], NO_LIMIT) / dp, 1.0),
        running=p.running / dp,
        output_tokens=np.maximum(p.size["output_tokens"], 1.0),
        together=together,
        alone_s=one / p.one.fill,
        shared_s=p.dec.memory_s / p.size["pp"],
        prompts_first=p.prompts_first,
    )


def predict(p: Parts, c: Constants, stall: float = STALL) -> FloatArray:
    """The metric of every row; closed and full loads in their steady state."""
    z, times = p.size, step_times(p, c)
    batch, inputs, outputs = z["batch"], z["input_tokens"], times.output_tokens
    prefill, step, prompt = times.prefill_s, times.step_s, times.prompt_s
    others = times.running - 1.0
    wave_s = (AT_ONCE if stall else 0.0) * others * prompt / outputs
    between = step + np.where(p.waves, wave_s, stall * prompts_s(times, others))
    tpot = np.where(p.static, step, between)
    request = np.where(p.static, prefill + np.maximum(outputs - 1, 0) * step, prompt + outputs * between)
    together = np.where(p.static, batch, p.running)
    read = {
        "ttft_s": prefill,
        "tpot_s": tpot,
        "latency_s": request,
        "prompt_tokens_per_s": batch * inputs / prefill,
        "decoded_tokens_per_s": batch / step,
        "output_tokens_per_s": together * outputs / request,
        "total_tokens_per_s": together * (inputs + outputs) / request,
        "samples_per_s": together / request,
    }
    return np.asarray(np.select([p.answer == name for name in read], list(read.values()), np.nan))


def is_prefill(p: Parts) -> npt.NDArray[np.bool_]:
    return np.isin(p.answer, ("ttft_s", "prompt_tokens_per_s"))


def log_errors(p: Parts, c: Constants) -> FloatArray:
    """log(predicted time / measured time): above zero the prediction is too slow, whatever the metric."""
    sign = np.where(np.char.endswith(p.answer, "per_s"), -1.0, 1.0)
    return sign * np.log(predict(p, c) / p.value)


def fit(p: Parts, engine: str, start: Constants | None = None) -> dict[str, float]:
    """The constants with the least robust error, shrunk towards `start` (with less room) or the neutral ones.

    start: what related engines have in common, which replay graphs as what is fitted over all of them does; or the constants of the
    engine that this one runs.
    """
    prior = names_of(engine)
    of_runs = start is not None and run_by(engine) is not None
    if engine == POOLED or (start is not None and not of_runs):
        prior = {name: p for name, p in prior.items() if name != "kernel_s"} | REPLAYED | LAUNCHED
    if p.dec.spread_s.any():
        prior = {**prior, **SPREAD}
    at = {n: (start or {}).get(n, default) for n, (default, _) in prior.items()}
    room = OF_RUNS if of_runs else SHRINK if start else ROOM if (p.vendor == "nvidia gpu").all() else 1.0
    spread = {n: room * width for n, (_, width) in prior.items()}
    errors: Callable[[Constants], FloatArray] = lambda c: log_errors(p, c)  # noqa: E731
    weights = sweep_weights(p.labels(campaign))
    return shrunk(errors, at, spread, noise=_NOISE, weights=weights, most=MOST, loss=fading, steps=_STEPS)


def kin(p: Parts, engine: str, vendor: str) -> Parts | None:
    """Rows of the generation before an engine on the same machines, which run much the same kernels; None where they are few."""
    rows = (p.labels(lambda r, q: q.engine) == older_of(engine)) & (p.vendor == vendor)
    return p.where(rows) if rows.sum() >= _FEWEST_OF_KIN else None


@dataclass(frozen=True)
class Held:
    """Errors of rows whose whole group was left out, in row order; nan where there is only one group."""

    by: str
    groups: int
    errors: FloatArray


def leave_out(p: Parts, engine: str, of: Callable[[Row, Request], object], pool: Parts | None = None) -> FloatArray:
    """Errors of every group of `of`, predicted by a fit of the others; nan where there is only one group.

    pool: rows of related engines or of the one that this one runs, whose constants, fitted without the group too, are what the fit
    shrinks to.
    """
    label, shared = p.labels(of), None if pool is None else pool.labels(of)

    def errors(inside: BoolArray) -> FloatArray:
        name = label[inside][0]
        start = None if pool is None else fit(pool.where(shared != name), run_by(engine) or POOLED)
        return log_errors(p.where(inside), fit(p.where(~inside), engine, start))

    return held_out(label, errors)


def figures(errors: FloatArray) -> tuple[float, float, float]:
    """(median, 90th percentile of the absolute error, median bias of time), all as shares."""
    e = Errors.of(errors)
    return e.median, e.p90, e.bias


def lab(row: Row) -> str:
    """Who published a row: the source without the build in brackets."""
    return row.source.split(" (")[0]


def campaign(row: Row, request: Request) -> object:
    """One sweep of a source: what is said of one engine, machine, model and metric."""
    return (row.source, row.hardware, row.model, row.weight_format, row.engine_version, request.answer)


def quantiles(held: Sequence[FloatArray], widen: float = 1.0, weights: FloatArray | None = None) -> list[float]:
    """Quantiles 5, 25, 75 and 95 % of log(measured / predicted) over the given errors; the prediction itself is inside."""
    each = None if weights is None else np.concatenate([weights] * len(held))
    q05, q25, q75, q95 = (round(widen * q, 4) for q in residual_quantiles(np.concatenate(held), weights=each))
    return [min(q05, 0.0), min(q25, 0.0), max(q75, 0.0), max(q95, 0.0)]
