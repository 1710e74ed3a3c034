"""Fit an engine's constants to a user's own measurements, and say by cross-validation whether they help."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray, IntArray
from waferline.errors import InvalidInputError
from waferline.fit import BoolArray, Errors, folds, held_out, residual_quantiles, shrunk
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import Engine, get_engine, issued_in
from waferline.predict.profile import Profile
from waferline.predict.roofline import Machine, Timed, time_operator
from waferline.predict.serving_case import ServingCase
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_decode, lower_prefill
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer

METRICS = (
    "ttft_s",
    "tpot_s",
    "latency_s",
    "prompt_tokens_per_s",
    "decoded_tokens_per_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
)
PREFILL = ("ttft_s", "prompt_tokens_per_s")  # metrics that read prefill alone
# What a few rows of one machine can tell, and how far (as a log ratio) they may take it from the catalogue's value.
_FREE: Mapping[str, float] = {
    "decode_scale": 0.5,
    "prefill_scale": 0.5,
    "kernel_s": 1.0,
    "step_s": 1.0,
    "sequence_s": 1.0,
}
_LEAST: Mapping[str, float] = {"kernel_s": 2e-7, "step_s": 5e-5, "sequence_s": 1e-6}  # a constant of zero has no log
_SOFT = 0.08  # log error at which a row starts to count less than its square
_FURTHEST = float(np.log(4.0))  # of a scale: beyond that it is not the same operator
_HELD = 1e-6  # of a constant that the rows say nothing about
_FEWEST = 4
_FOLDS = 5
_STEPS = 25


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured static batch: `batch` sequences prefilled together, then decoded together. `metric`: one of `METRICS`."""

    model: str
    hardware: str
    engine: str
    precision: str
    metric: str
    value: float
    batch: float
    input_tokens: float
    output_tokens: float
    kv: str | None = None
    tp: float = 1.0
    pp: float = 1.0
    ep: float = 1.0
    dp: float = 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A profile with what it changes: errors before, after, and of rows that the constants had not seen."""

    profile: Profile
    rows: int
    before: Errors
    after: Errors
    held_out: Errors
    split: str

    @property
    def helps(self) -> bool:
        """True where rows left out are predicted better than without the profile."""
        return self.held_out.median < self.before.median


@dataclass(frozen=True, slots=True)
class _Row:
    """One observation with its operators timed alone: what does not change while constants are tried."""

    seen: Observation
    prefill: tuple[Timed, ...]
    decode: tuple[Timed, ...]
    fill: float
    layers: float
    sequences: float
    unit_clocks: float
    device: Device


def calibrate(observations: Sequence[Observation]) -> Calibration:
    """Fit the constants of one engine on one machine.

    The split: every model left out where there are several, else five folds of the rows in order of batch and length.
    Raises: InvalidInputError for fewer than four rows, several engines or machines, or an unknown metric.
    """
    engine, hardware = _one(observations)
    device = load_hardware(hardware)
    start = replace(get_engine(engine).running_on(device), vendors={})
    rows = [_timed(o, start) for o in observations]
    fold, split = _folds(observations)
    found = _fit(rows, start)
    held = held_out(fold, lambda inside: _log_errors(_only(rows, inside), _fit(_only(rows, ~inside), start)))
    constants = {name: float(f"{getattr(found, name):.5g}") for name in _FREE}
    errors = {"before": _log_errors(rows, start), "after": _log_errors(rows, found), "held_out": held}
    figures = {name: Errors.of(e) for name, e in errors.items()}
    card = {"rows": len(rows), "split": split, "date": datetime.date.today().isoformat()}
    card |= {name: e.card() for name, e in figures.items()}
    profile = Profile(start.name, device.name, constants, _residual(observations, held), card)
    return Calibration(profile, len(rows), split=split, **figures)


def _only(rows: Sequence[_Row], keep: BoolArray) -> list[_Row]:
    return [row for row, kept in zip(rows, keep, strict=True) if kept]


def _one(observations: Sequence[Observation]) -> tuple[str, str]:
    if len(observations) < _FEWEST:
        raise InvalidInputError(f"calibration needs at least {_FEWEST} rows, got {len(observations)}")
    for o in observations:
        if o.metric not in METRICS:
            raise InvalidInputError(f"cannot calibrate on {o.metric}", hint=f"metrics: {', '.join(METRICS)}")
        if not o.value > 0:
            raise InvalidInputError(f"a measured {o.metric} must be above zero, got {o.value:g}")
    for what in ("engine", "hardware"):
        names = sorted({getattr(o, what) for o in observations})
        if len(names) > 1:
            raise InvalidInputError(f"one profile holds one {what}, the rows name {', '.join(names)}")
    return observations[0].engine, observations[0].hardware


def _timed(o: Observation, engine: Engine) -> _Row:
    spec, device = load_model(o.model), load_hardware(o.hardware)
    if not isinstance(spec, Transformer) or not spec.has_head:
        raise InvalidInputError(f"{spec.name} does not generate tokens")
    case = ServingCase(spec, device, engine, o.kv)
    precision, parallel = case.precision(o.precision), Parallel.of(o.tp, o.pp, o.ep, o.dp)
    local = float(np.ceil(o.batch / (o.dp * o.pp)))
    machine, prompt = Machine(device, engine.kernels), max(o.input_tokens, 1.0)
    context = prompt + (o.output_tokens + 1) / 2
    prefill = lower_prefill(spec, batch=local, prompt=np.ceil(prompt), precision=precision, parallel=parallel)
    decode = lower_decode(spec, batch=local, context=context, precision=precision, parallel=parallel)
    sizes = {"seq_len": prompt, "pp": parallel.pp, "dp": parallel.dp}
    return _Row(
        seen=o,
        prefill=tuple(time_operator(op, machine) for op in prefill),
        decode=tuple(time_operator(op, machine) for op in decode),
        fill=float(case.pipeline_fill(sizes, o.batch)),
        layers=float(sum(b.count for b in spec.blocks)),
        sequences=local,
        unit_clocks=device.units * device.clock_hz,
        device=device,
    )


def _pass_s(row: _Row, engine: Engine, *, decode: bool) -> float:
    total, kernels, expert_layers, issued = 0.0, 0.0, 0.0, 0.0
    for t in row.decode if decode else row.prefill:
        op = t.operator
        inside = engine.operator_s(
            op.kind,
            t.expected_s,
            engine.kept_s(t.light_s, t.floor_s),
            decode=decode,
            flops=op.flops,
            moved_bytes=op.bytes,
            unit_clocks=row.unit_clocks,
        )
        inside = inside + (engine.spread_s(op, row.device) if decode else engine.scores_s(op, row.device))
        total += float(op.count * inside)
        issued += float(op.count * issued_in(op, inside))
        kernels += float(op.count) if float(inside) > 0 else 0.0
        expert_layers += float(op.count) if op.kind == "moe" else 0.0
    sequences = row.sequences if decode else 0.0
    host = engine.host_s(
        layers=row.layers, kernels=kernels, expert_layers=expert_layers, sequences=sequences, reads=not decode
    )
    return float(engine.paced_s(total, issued) + host)


def _predicted(row: _Row, engine: Engine) -> float:
    o = row.seen
    ttft = row.fill * _pass_s(row, engine, decode=False)
    step = _pass_s(row, engine, decode=True)
    whole = ttft + max(o.output_tokens - 1, 0.0) * step
    read = {
        "ttft_s": ttft,
        "tpot_s": step,
        "latency_s": whole,
        "prompt_tokens_per_s": o.batch * o.input_tokens / ttft,
        "decoded_tokens_per_s": o.batch / step,
        "output_tokens_per_s": o.batch * o.output_tokens / whole,
        "total_tokens_per_s": o.batch * (o.input_tokens + o.output_tokens) / whole,
    }
    return read[o.metric]


def _log_errors(rows: Sequence[_Row], engine: Engine) -> FloatArray:
    """log(predicted time / measured time): above zero the prediction is too slow, whatever the metric."""
    signs = np.array([-1.0 if r.seen.metric.endswith("per_s") else 1.0 for r in rows])
    return signs * np.log([_predicted(r, engine) / r.seen.value for r in rows])


def _fit(rows: Sequence[_Row], start: Engine) -> Engine:
    """Robust least squares of log errors, shrunk towards the catalogue's constants."""
    at = {name: max(getattr(start, name), _LEAST.get(name, 0.0)) for name in _FREE}
    most = {name: _FURTHEST for name in _FREE if name.endswith("_scale")}
    if not any(r.seen.metric in PREFILL for r in rows):  # then nothing tells prefill apart
        most["prefill_scale"] = _HELD

    def with_constants(c: Mapping[str, Any]) -> Engine:
        return replace(start, **c)

    found = shrunk(lambda c: _log_errors(rows, with_constants(c)), at, _FREE, noise=_SOFT, most=most, steps=_STEPS)
    return with_constants(found)


def _folds(observations: Sequence[Observation]) -> tuple[IntArray, str]:
    models = sorted({o.model for o in observations})
    if len(models) > 1:
        return np.array([models.index(o.model) for o in observations]), f"each of {len(models)} models left out"
    fold = folds([str((o.batch, o.input_tokens, o.output_tokens, o.tp)) for o in observations], _FOLDS)
    if np.unique(fold).size < 2:
        raise InvalidInputError(
            "all rows measure one configuration: nothing can be left out", hint="vary batch or lengths"
        )
    return fold, f"{np.unique(fold).size} folds of configurations"


def _residual(observations: Sequence[Observation], held: FloatArray) -> dict[str, tuple[float, ...]]:
    """Quantiles of log(measured / predicted) of rows left out, by pass, where there are enough of them."""
    out: dict[str, tuple[float, ...]] = {}
    prefill = np.array([o.metric in PREFILL for o in observations])
    for name, rows in (("prefill", prefill), ("decode", ~prefill)):
        if rows.sum() >= _FEWEST:
            q05, q25, q75, q95 = (round(q, 4) for q in residual_quantiles(held[rows]))
            out[name] = (min(q05, 0.0), min(q25, 0.0), max(q75, 0.0), max(q95, 0.0))  # the prediction itself is inside
    return out
