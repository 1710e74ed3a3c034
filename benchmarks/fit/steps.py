"""Fit what a step takes where an engine schedules ahead (`catalog/overlapped.yaml`): `python -m benchmarks.fit.steps [--write]`.

Rows: the median time between tokens of steady runs, and the mean of open loads, at the sequences that ran. Errors are with models
left out, and with the machine left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit.record import write
from waferline.arrays import AnyArray, FloatArray
from waferline.errors import WaferlineError
from waferline.evidence.folder import evidence_folder
from waferline.evidence.request import Refusal
from waferline.evidence.run import Run
from waferline.evidence.serving_runs import asked_of, read_runs
from waferline.fit import BoolArray, held_out, shrunk, sweep_weights
from waferline.predict.memory import resident_bytes
from waferline.predict.roofline import time_operator
from waferline.traffic.serve import prepared, sent
from waferline.workloads.lower import lower_decode

OUT = Path("src/waferline/catalog/overlapped.yaml")
ENGINE, FAMILY = "vllm", "nvidia gpu"
# Where the fit begins: kernels as they were measured, one alone.
_START = {"step_s": 1e-3, "sequence_s": 3e-5, "decode_excess": 0.8, "collective_scale": 1.0, "moe_scale": 1.0}
_SPREAD, _NOISE = 1.0, 0.1
_MOST_RUNNING = 520  # beyond, steps read prompts most of the time
_ARCHITECTURE = "blackwell"


@dataclass(frozen=True)
class Rows:
    """A row a run. parts: floor and expected seconds of experts, collectives (the second alone) and all else, inside a step."""

    value: FloatArray
    running: FloatArray
    floor: FloatArray  # (row, [others, experts])
    expected: FloatArray  # (row, [others, experts, collectives])
    newer: BoolArray  # whose experts have a scale of their own
    model: AnyArray
    machine: AnyArray

    def where(self, keep: BoolArray) -> Rows:
        return Rows(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def row_of(run: Run) -> tuple[float, float, FloatArray, FloatArray, bool, str, str] | None:
    """The pieces of a run's decode step, or None where it says nothing about one."""
    rate, alone = run.cells.get("rate_per_s") or "", run.steady
    value = run.number("itl_p50_s") if alone else run.number("tpot_mean_s")
    output = run.number("output_tokens")
    if value is None or output is None or run.cells.get("suspect") or run.uneven or (not alone and " " in rate):
        return None
    if alone and run.cells["workload"] in ("image-chat", "video-chat"):
        return None
    asked = asked_of(run)
    if isinstance(asked, Refusal) or asked.options.async_scheduling is not True or (asked.scenario.dp or 1) > 1:
        return None
    running = run.number("running_mean") if alone else float(rate or 0.0) * (run.number("e2e_mean_s") or 0.0)
    if not running or running > _MOST_RUNNING:
        return None
    requests = sent(asked.traffic, asked.options)
    try:
        ready = prepared(asked.scenario, requests, asked.options)
    except WaferlineError:
        return None
    # A steady state meets long answers in proportion to their length.
    made = float((requests.output.astype(float) ** 2).mean() / requests.output.mean() / 2.0)
    pieces = _pieces(ready, max(round(running), 1), round(float(requests.prompt.mean()) + made))
    device = ready.answer.device
    client = ready.server.scheduler.client
    return (
        value - client.token_s,
        running,
        *pieces,
        device.architecture == _ARCHITECTURE,
        run.cells["model"],
        device.name,
    )


def _pieces(ready: Any, running: int, context: int) -> tuple[FloatArray, FloatArray]:
    model = ready.server.model
    floor, expected = np.zeros(2), np.zeros(3)
    shared = {"precision": model.precision, "parallel": model.parallel}
    resident = resident_bytes(model.model, model.precision, model.parallel)
    for op in lower_decode(model.model, batch=running, context=context, **shared):
        timed = time_operator(op, model.runner.machine, resident_bytes=resident)
        kind = {"moe": 1, "collective": 2}.get(op.kind, 0)
        expected[kind] += float(op.count * timed.expected_s)
        if kind < 2:
            floor[kind] += float(op.count * timed.floor_s)
    return floor, expected


def predicted(rows: Rows, c: Mapping[str, float]) -> FloatArray:
    inside = rows.floor + c["decode_excess"] * (rows.expected[:, :2] - rows.floor)
    experts = inside[:, 1] * np.where(rows.newer, c["moe_scale"], 1.0)
    passed = np.maximum(c["collective_scale"] * rows.expected[:, 2], 0.0)
    return np.hypot(inside[:, 0] + experts + passed + c["step_s"], c["sequence_s"] * rows.running)


def fit(rows: Rows) -> dict[str, float]:
    errors = lambda c: np.log(predicted(rows, c) / rows.value)  # noqa: E731
    weight = sweep_weights([f"{m} {h}" for m, h in zip(rows.model, rows.machine, strict=True)])
    return shrunk(errors, _START, dict.fromkeys(_START, _SPREAD), noise=_NOISE, weights=weight)


def left_out_error(rows: Rows, groups: AnyArray) -> dict[str, Any]:
    def errors(inside: BoolArray) -> FloatArray:
        mine = rows.where(inside)
        return np.log(predicted(mine, fit(rows.where(~inside))) / mine.value)

    return {"groups": len(set(groups)), **_figures(held_out(groups, errors))}


def _figures(log_error: FloatArray) -> dict[str, float]:
    e = np.abs(np.exp(log_error) - 1.0)
    return {"median": round(float(np.median(e)), 3), "p90": round(float(np.quantile(e, 0.9)), 3)}


def rows_of(runs: Sequence[Run]) -> Rows:
    found = [r for r in map(row_of, runs) if r is not None]
    return Rows(*(np.array(column) for column in zip(*found, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = evidence_folder()
    if folder is None:
        raise SystemExit("no folder with published runs: name one in WAFERLINE_SHARED")
    rows = rows_of(read_runs(folder / "serving-runs.csv.gz"))
    c = fit(rows)
    record = {
        "since": "0.14",
        "machines": FAMILY,
        "constants": {k: v for k, v in c.items() if k != "moe_scale"},
        "moe_scale": {_ARCHITECTURE: c["moe_scale"]},
        "fit": {
            "rows": len(rows.value),
            **_figures(np.log(predicted(rows, c) / rows.value)),
            "left_out_by_model": left_out_error(rows, rows.model),
            "left_out_by_machine": left_out_error(rows, rows.machine),
        },
    }
    print(json.dumps(record, indent=1))
    if arguments.write:
        write(OUT, "engines", {ENGINE: record}, depth=1)


if __name__ == "__main__":
    main()
