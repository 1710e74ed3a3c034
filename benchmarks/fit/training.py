"""Fit how training frameworks run the operators of a step: one factor on attention's core, one on everything else.

Rows: published steps, MFU and tokens per second of complete configurations. Both factors are robust least squares of
log(predicted / measured), shrunk towards what the frameworks of the same library lend (`training.yaml`), 1 without one; the stated
errors leave whole models out, and the whole framework (`apart`).

Run: `python -m benchmarks.fit.training [--shared PATH] [--write]`.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import WaferlineError
from waferline.evidence import ask_training as door
from waferline.evidence.folder import evidence_files
from waferline.evidence.metrics import is_rate
from waferline.evidence.names import model_spec
from waferline.evidence.request import Request
from waferline.evidence.rows import Row, read_rows
from waferline.evidence.scenario import request_of
from waferline.fit import BoolArray, Errors, held_out, residual_quantiles, shrunk
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.training import TrainingModel, TrainingResult
from waferline.predict.training_stack import beside_host, get_stack

OUT = Path(__file__).parents[2] / "src" / "waferline" / "catalog" / "training_stacks.yaml"
LEAST_ROWS = 4
_PRIOR = 0.2  # spread of log(factor) around 0: of 0.05 to 0.5 the one with the least error on models left out
_NOISE = 0.1  # log error beyond which a row counts linearly


@dataclass(frozen=True)
class Sample:
    """One published step: its measured time, and the parts of the predicted one with both factors at 1."""

    stack: str
    architecture: str
    model: str
    measured_s: float
    attention_s: float
    others_s: float
    host_s: float
    fixed_s: float

    def predicted_s(self, operators: float, attention: float) -> float:
        device_s = operators * self.others_s + attention * self.attention_s
        return float(beside_host(device_s, self.host_s)) + self.fixed_s


def sample(row: Row, request: Request) -> Sample | None:
    """The parts of one row; None where the model refuses it."""
    device = load_hardware(request.hardware)
    try:
        answer = door.ask_training([request])[0]
        fitted, bare = (_solved(request, device, fitted=fitted) for fitted in (True, False))
    except WaferlineError:
        return None
    ratio = answer.value / row.value if is_rate(row.metric) else row.value / answer.value
    step, compute, attention, host = (float(bare[k]) for k in ("step_time_s", "compute_s", "attention_s", "host_s"))
    others = (compute**2 - host**2) ** 0.5 - attention
    measured = float(fitted["step_time_s"]) * ratio
    return Sample(request.engine, device.architecture, row.model, measured, attention, others, host, step - compute)


def _solved(request: Request, device: Device, *, fitted: bool) -> TrainingResult:
    """The step that a row is of, in its framework as it ships or with its factors at 1."""
    return TrainingModel().solve(
        model_spec(request.model),
        device,
        request.input_tokens,
        request.batch,
        request.micro_batch,
        request.precision,
        tp=request.tp,
        pp=request.pp,
        ep=request.ep,
        dp=request.dp,
        virtual_stages=request.virtual_stages,
        slices=request.slices,
        recompute=request.variant,
        sharding=request.sharding,
        trains=request.trains,
        stack=get_stack(request.engine, device, 16.0, fitted=fitted),
    )


def log_errors(samples: Sequence[Sample], operators: float, attention: float) -> FloatArray:
    """log(predicted / measured) of every step: positive is too slow."""
    return np.array([np.log(s.predicted_s(operators, attention) / s.measured_s) for s in samples])


def fit(samples: Sequence[Sample], lent: float) -> tuple[float, float]:
    """(operators, attention) factors of one stack on one architecture. lent: the first, where no row of it is known."""
    counts = Counter(s.model for s in samples)
    found = shrunk(
        lambda c: log_errors(samples, **c),
        {"operators": lent, "attention": 1.0},
        {"operators": _PRIOR, "attention": _PRIOR},
        noise=_NOISE,
        weights=np.array([1 / counts[s.model] for s in samples]),
    )
    return found["operators"], found["attention"]


def lent_to(stack: str, by_stack: Mapping[str, Sequence[Sample]]) -> float:
    """The factor on operators that all other frameworks of its library have in common; 1 without a library."""
    library = {name: facts.get("library") for name, facts in read_packaged("training.yaml")["frameworks"].items()}
    others = [s for name in by_stack if name != stack and library.get(name) for s in by_stack[name]]
    if library.get(stack) is None or not others:
        return 1.0
    counts = Counter((s.stack, s.model) for s in others)
    models = Counter(name for name, _ in counts)
    found = shrunk(
        lambda c: log_errors(others, c["operators"], 1.0),
        {"operators": 1.0},
        {"operators": _PRIOR},
        noise=_NOISE,
        weights=np.array([1 / (counts[s.stack, s.model] * models[s.stack]) for s in others]),
    )
    return found["operators"]


def errors_left_out(samples: Sequence[Sample], lent: float) -> FloatArray:
    """Errors of each model with constants fitted on the others; nan where there is only one model."""

    def errors(inside: BoolArray) -> FloatArray:
        mine, rest = ([s for s, k in zip(samples, keep, strict=True) if k] for keep in (inside, ~inside))
        return log_errors(mine, *fit(rest, lent))

    return held_out([s.model for s in samples], errors)


def entry(samples: Sequence[Sample], lent: float) -> dict[str, object]:
    """One stack's constants with rows, split, error and residual quantiles of the rows left out.

    Factors that do not lower the error of models left out are those lent, and so are those of a stack of one model.
    """
    e, bare = errors_left_out(samples, lent), log_errors(samples, lent, 1.0)
    figures, apart = Errors.of(e), Errors.of(bare)
    operators, attention = lent, 1.0
    if figures.median < apart.median:
        operators, attention = fit(samples, lent)
    else:
        e, figures = bare, apart
    return {
        "operators": round(operators, 4),
        "attention": round(attention, 4),
        "rows": len(samples),
        "models": len({s.model for s in samples}),
        "median_error": round(figures.median, 4),
        "p90_error": round(figures.p90, 4),
        "apart": apart.card(),
        "log_q": around(e),
    }


def around(e: FloatArray, weights: FloatArray | None = None) -> list[float]:
    """Quantiles of the residuals, with the prediction between them: a few rows of one model may all lie on one side of it."""
    low, lower, upper, high = residual_quantiles(e, weights=weights)
    return [round(q, 4) for q in (min(low, 0.0), min(lower, 0.0), max(upper, 0.0), max(high, 0.0))]


def unfitted(e: FloatArray, weights: FloatArray | None = None) -> dict[str, object]:
    """The record of operators as they are: factors of 1, with the residuals of frameworks that are left out whole."""
    return {"operators": 1.0, "attention": 1.0, "apart": Errors.of(e).card(), "log_q": around(e, weights)}


def samples_of(rows: Sequence[Row]) -> list[Sample]:
    """All rows that can be asked, were measured and are not suspect."""
    out = []
    for row in rows:
        request = request_of(row)
        if not isinstance(request, Request) or request.door != "training" or request.guesses:
            continue
        if not row.suspect and row.kind == "measured":
            found = sample(row, request)
            if found is not None:
                out.append(found)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = [r for f in evidence_files(arguments.shared) if "llm-training" in f.name for r in read_rows(f)]
    by_stack: dict[str, list[Sample]] = defaultdict(list)
    for s in samples_of(rows):
        by_stack[s.stack].append(s)
    lent = {stack: lent_to(stack, by_stack) for stack in by_stack}
    every = [s for members in by_stack.values() for s in members]
    apart = np.concatenate([log_errors(members, lent[stack], 1.0) for stack, members in by_stack.items()])
    evenly = np.array([1 / len(by_stack[s.stack]) for s in every])
    stacks: dict[str, dict[str, object]] = {"none": {"any": unfitted(apart, evenly)}}
    for stack, members in sorted(by_stack.items()):
        if len(members) < LEAST_ROWS:
            continue
        stacks.setdefault(stack, {"any": entry(members, lent[stack])})
        for architecture in sorted({s.architecture for s in members}):
            own = [s for s in members if s.architecture == architecture]
            if len(own) >= LEAST_ROWS and len(own) < len(members):
                e = log_errors(own, 1.0, 1.0)
                stacks[stack][architecture] = unfitted(e) if stack == "none" else entry(own, lent[stack])
    for stack, records in stacks.items():
        for key, value in records.items():
            print(stack, key, value)
    if arguments.write:
        write(OUT, "stacks", stacks, depth=1, digits=9)


if __name__ == "__main__":
    main()
