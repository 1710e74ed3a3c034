"""Fit what a step takes where an engine schedules ahead (`catalog/overlapped.yaml`): `python -m benchmarks.fit.steps [--write]`.

Rows: the median time between tokens of steady runs in which most steps read no prompt, and the mean of open loads without what
simulated prompts add to it, at the sequences that ran. What launching a step with prompts takes is fitted on the slowest gaps of
steady runs: a share of steps carries a prompt, and its length there is a quantile of all. Errors are with models left out, and
with the machine left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
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
from waferline.fit import BoolArray, fading, held_out, shrunk, sweep_weights
from waferline.predict.memory import resident_bytes
from waferline.predict.overlapped import OTHERS
from waferline.predict.roofline import time_operator
from waferline.predict.versions import earlier
from waferline.simulate.serving.state import Requests
from waferline.simulate.serving.step_time import step_seconds
from waferline.traffic.serve import Prepared, prepared, sent
from waferline.traffic.serving_run import latencies
from waferline.workloads.lower import lower_decode

OUT = Path("src/waferline/catalog/overlapped.yaml")
ENGINE, FAMILY = "vllm", "nvidia gpu"
# Where the fit begins: kernels as they were measured, one alone.
_VERSIONS = ("0.14", "0.11")  # since which steps have constants of their own
_OWN = {"step_s": 1e-3, "sequence_s": 3e-5, "collective_s": 3e-6}  # of a version
_START = {
    "decode_excess": 0.8,
    **dict.fromkeys(("hopper", "blackwell"), 1.0),
    **{f"{k} {v}": x for v in _VERSIONS for k, x in _OWN.items()},
}
_LAUNCH = {"prefill_attention": 2e-4, "mla_prefill": 1e-3, "scan": 1e-3, "moe": 3e-4, OTHERS: 1e-5}
_SPREAD, _NOISE = 1.0, 0.1
_PROMPTS = 0.55  # prompts a step: with more, the median step reads one
_GAPS = (("itl_p90_s", 0.90), ("itl_p95_s", 0.95), ("itl_p99_s", 0.99))
_INSIDE = (0.1, 0.97)  # quantiles of prompts' lengths that are known well enough


@dataclass(frozen=True)
class Rows:
    """A row a run. parts: floor and expected seconds of experts, collectives (the second alone) and all else, inside a step.
    collectives: how many a step has."""

    value: FloatArray
    running: FloatArray
    floor: FloatArray  # (row, [others, experts])
    expected: FloatArray  # (row, [others, experts, collectives])
    collectives: FloatArray
    architecture: AnyArray  # whose experts have a scale of their own
    version: AnyArray  # one of `_VERSIONS`
    model: AnyArray
    machine: AnyArray

    def where(self, keep: BoolArray) -> Rows:
        return Rows(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def ready_of(run: Run) -> tuple[Prepared, Requests] | None:
    """The server of a run that schedules ahead, and its requests; None where it says nothing about a step."""
    if run.cells.get("suspect") or run.uneven or run.cells["workload"] in ("image-chat", "video-chat"):
        return None
    asked = asked_of(run)
    if isinstance(asked, Refusal) or asked.options.engine_version is None or (asked.scenario.dp or 1) > 1:
        return None
    if asked.scenario.techniques or asked.options.prefill_replicas or run.first_token_counts:
        return None
    requests = sent(asked.traffic, asked.options)
    try:
        ready = prepared(asked.scenario, requests, asked.options)
    except WaferlineError:
        return None
    return (ready, requests) if ready.server.rules.ahead else None


def row_of(run: Run, ready: Prepared, requests: Requests) -> tuple[Any, ...] | None:
    """The pieces of a run's decode step, or None where it says nothing about one."""
    rate, alone = run.cells.get("rate_per_s") or "0", run.steady
    if not alone and " " in rate:  # stages, each of which has a row of its own
        return None
    value = run.number("itl_p50_s") if alone else run.number("tpot_mean_s")
    output = run.number("output_tokens")
    running = run.number("running_mean") if alone else float(rate) * (run.number("e2e_mean_s") or 0.0)
    if value is None or output is None or not running or (alone and running / output > _PROMPTS):
        return None
    # A steady state meets long answers in proportion to their length.
    made = float((requests.output.astype(float) ** 2).mean() / requests.output.mean() / 2.0)
    number, context = max(round(running), 1), round(float(requests.prompt.mean()) + made)
    client = ready.server.scheduler.client
    value -= client.token_s
    if not alone:
        value *= _without_prompts(ready, requests, number, context)
    pieces, device = _pieces(ready, number, context), ready.answer.device
    if value < float(pieces[0].sum()):  # drafted, or seen in bundles
        return None
    older = earlier(run.cells["engine_version"], _VERSIONS[0])
    return (
        value,
        running,
        *pieces,
        device.architecture,
        _VERSIONS[older],
        run.cells["model"],
        device.name,
    )


def _without_prompts(ready: Prepared, requests: Requests, running: int, context: int) -> float:
    """A step of decodes alone over the mean time of a token, as simulated."""
    ready.server.run(requests, ready.replicas, ready.plan)
    tpot = np.nanmean(latencies(requests, ready.server.scheduler)["tpot_s"]) - ready.server.scheduler.client.token_s
    alone = step_seconds(ready.server.steps, running, float(running * context), 0, 0.0)
    return min(float(alone / tpot), 1.0)


def _pieces(ready: Any, running: int, context: int) -> tuple[FloatArray, FloatArray, float]:
    model = ready.server.model
    floor, expected, collectives = np.zeros(2), np.zeros(3), 0.0
    shared = {"precision": model.precision, "parallel": model.parallel}
    resident = resident_bytes(model.model, model.precision, model.parallel)
    for op in lower_decode(model.model, batch=running, context=context, **shared):
        timed = time_operator(op, model.runner.machine, resident_bytes=resident)
        kind = {"moe": 1, "collective": 2}.get(op.kind, 0)
        expected[kind] += float(op.count * timed.expected_s)
        collectives += float(np.max(op.count)) * (kind == 2 and model.spread)
        if kind < 2:
            floor[kind] += float(op.count * timed.floor_s)
    return floor, expected, collectives


def predicted(rows: Rows, c: Mapping[str, float]) -> FloatArray:
    inside = rows.floor + c["decode_excess"] * (rows.expected[:, :2] - rows.floor)
    experts = inside[:, 1] * np.array([c.get(a, 1.0) for a in rows.architecture])
    own = {k: np.where(rows.version == _VERSIONS[0], *(c[f"{k} {v}"] for v in _VERSIONS)) for k in _OWN}
    device = inside[:, 0] + experts + rows.expected[:, 2] + own["collective_s"] * rows.collectives + own["step_s"]
    return np.hypot(device, own["sequence_s"] * rows.running)


def fit(rows: Rows) -> dict[str, float]:
    errors = lambda c: np.log(predicted(rows, c) / rows.value)  # noqa: E731
    weight = sweep_weights([f"{m} {h}" for m, h in zip(rows.model, rows.machine, strict=True)])
    return shrunk(errors, _START, dict.fromkeys(_START, _SPREAD), noise=_NOISE, weights=weight, loss=fading)


def left_out_error(rows: Rows, groups: AnyArray) -> dict[str, Any]:
    def errors(inside: BoolArray) -> FloatArray:
        mine = rows.where(inside)
        return np.log(predicted(mine, fit(rows.where(~inside))) / mine.value)

    return {"groups": len(set(groups)), **_figures(held_out(groups, errors))}


def _figures(log_error: FloatArray) -> dict[str, float]:
    e = np.abs(np.exp(log_error) - 1.0)
    return {"median": round(float(np.median(e)), 3), "p90": round(float(np.quantile(e, 0.9)), 3)}


@dataclass(frozen=True)
class Launches:
    """A row a run and percentile of its gaps. device_s: of a step with the prompt that is as long as that percentile asks;
    number: (row, kind of `_LAUNCH`) operators that the host launches."""

    value: FloatArray
    device_s: FloatArray
    number: FloatArray
    model: AnyArray

    def where(self, keep: BoolArray) -> Launches:
        return Launches(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    def error(self, c: Mapping[str, float]) -> FloatArray:
        launched = self.number @ np.array([c[k] for k in _LAUNCH])
        return np.asarray(np.log(np.hypot(self.device_s, launched) / self.value))


def launches_of(run: Run, ready: Prepared, requests: Requests) -> Iterator[tuple[Any, ...]]:
    """Rows of `Launches`: percentiles of gaps that only steps with a prompt reach."""
    running, output = run.number("running_mean"), run.number("output_tokens")
    if not run.steady or not running or not output or running / output > _PROMPTS:
        return
    server, share = ready.server, 1.0 - np.exp(-running / output)  # of the steps carry a prompt
    steps, decodes = server.steps._replace(launch_s=np.zeros_like(server.steps.launch_s)), round(running)
    made = float((requests.output.astype(float) ** 2).mean() / requests.output.mean() / 2.0)
    context = decodes * (float(requests.prompt.mean()) + made)
    number = server.model.launched([k for k in _LAUNCH if k != OTHERS])
    for metric, percentile in _GAPS:
        value, at = run.number(metric), 1.0 - (1.0 - percentile) / share
        if value is None or not _INSIDE[0] <= at <= _INSIDE[1]:
            continue
        prompt = int(min(np.quantile(requests.prompt, at), server.rules.max_tokens - decodes))
        device = step_seconds(steps, decodes, context, prompt, 0.5 * prompt * (prompt + 1.0))
        beyond = float(prompt + decodes > server.model.graphed)
        counts = [n * (beyond if k == OTHERS else 1.0) for k, n in number.items()]
        yield value - server.scheduler.client.token_s, device, counts, run.cells["model"]


def fit_launches(rows: Launches) -> dict[str, float]:
    weight = sweep_weights(list(rows.model))
    return shrunk(rows.error, _LAUNCH, dict.fromkeys(_LAUNCH, _SPREAD), noise=_NOISE, weights=weight, loss=fading)


def rows_of(runs: Sequence[Run]) -> tuple[Rows, Launches]:
    steps, launches = [], []
    for run in runs:
        if (found := ready_of(run)) is None:
            continue
        if (row := row_of(run, *found)) is not None:
            steps.append(row)
        if earlier(run.cells["engine_version"], _VERSIONS[0]):  # newer ones have none in their open loads
            launches += launches_of(run, *found)
    columns = [[np.array(column) for column in zip(*rows, strict=True)] for rows in (steps, launches)]
    return Rows(*columns[0]), Launches(*columns[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = evidence_folder()
    if folder is None:
        raise SystemExit("no folder with published runs: name one in WAFERLINE_SHARED")
    rows, launches = rows_of(read_runs(folder / "serving-runs.csv.gz"))
    c, launch_s = fit(rows), fit_launches(launches)

    def left_out(inside: BoolArray) -> FloatArray:
        return launches.where(inside).error(fit_launches(launches.where(~inside)))

    versions = {v: {k: c[f"{k} {v}"] for k in _OWN} for v in _VERSIONS}
    record = {
        "since": _VERSIONS[0],
        "machines": FAMILY,
        "constants": {"decode_excess": c["decode_excess"]},
        "moe_scale": {a: c[a] for a in ("hopper", "blackwell")},
        "versions": versions | {_VERSIONS[1]: versions[_VERSIONS[1]] | {"launch_s": launch_s}},
        "fit": {
            "rows": len(rows.value),
            **_figures(np.log(predicted(rows, c) / rows.value)),
            "left_out_by_model": left_out_error(rows, rows.model),
            "left_out_by_machine": left_out_error(rows, rows.machine),
        },
        "launches": {
            "rows": len(launches.value),
            **_figures(launches.error(launch_s)),
            "left_out_by_model": _figures(held_out(launches.model, left_out)),
        },
    }
    print(json.dumps(record, indent=1))
    if arguments.write:
        write(OUT, "engines", {ENGINE: record}, depth=1)


if __name__ == "__main__":
    main()
