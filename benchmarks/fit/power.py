"""Fit what a GPU draws and write it to `catalog/power.yaml`: `python -m benchmarks.fit power [--shared PATH] [--write]`.

Rows: steady text runs of ML.ENERGY v3. Watts follow from how busy a pass keeps the device, so it rests on the times of the engine:
run it after `engines`. Fitted on the runs whose speed is predicted within a third; all text runs give the interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.fit.record import write
from waferline.arrays import FloatArray
from waferline.errors import FileFormatError, WaferlineError
from waferline.evidence.energy import Cells, question_of, read_energy, row_of
from waferline.evidence.folder import evidence_folder
from waferline.evidence.request import Refusal
from waferline.fit import Errors, left_out, residual_quantiles, shrunk
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.phase import Phase
from waferline.predict.power import drawn_w
from waferline.predict.run import run

OUT = Path("src/waferline/catalog/power.yaml")
SOURCE, TASKS = "ML.ENERGY", ("lm-arena-chat", "gpqa", "sourcegraph-fim")  # the others hold pictures and video
KNOWN_WITHIN = 1 / 3  # log error of speed
START = {"active": 0.2, "compute": 6.0, "memory_per_byte_j": 2.4e-10}
SPREAD = {"active": 0.02, "compute": 2.0, "memory_per_byte_j": 2.0}  # a device at work draws more than one that waits
_SOFT = 0.08


@dataclass(frozen=True)
class Run:
    """One run: its device, what it measured (watts of a device, joules a token) and, by pass, seconds and busy shares."""

    model: str
    machine: str
    device: Device
    watts: float
    energy_j: float
    predicted_rate: float
    rate: float
    passes: tuple[tuple[float, FloatArray], ...]


def runs_of(rows: Sequence[Cells]) -> list[Run]:
    """The runs that are answered, in the order of the file."""
    by_run: dict[str, dict[str, Cells]] = {}
    for cells in rows:
        if SOURCE in cells["source"] and any(f"task {t}" in cells["notes"] for t in TASKS) and not cells["suspect"]:
            by_run.setdefault(cells["run_id"], {})[cells["metric"]] = cells
    found = (_run(metrics) for metrics in by_run.values() if {"power_w", "output_tokens_per_s"} <= metrics.keys())
    return [one for one in found if one is not None]


def _run(metrics: Mapping[str, Cells]) -> Run | None:
    cells = metrics["power_w"]
    asked = question_of(cells, row_of(cells))
    if isinstance(asked, Refusal):
        return None
    scenario, phases = asked[0], list[Phase]()
    with mock.patch("waferline.predict.serving_case.phase_power_w", lambda device, phase: phases.append(phase)):
        try:
            r = run(scenario).result
        except WaferlineError:
            return None
    prefill, decode = (
        np.array([float(s) for s in (p.compute_s / p.time_s, p.memory_s / p.time_s, p.link_s / p.time_s)])
        for p in phases[:2]
    )
    rate = float(metrics["output_tokens_per_s"]["value"])
    watts = float(cells["value"])
    return Run(
        scenario.model.name, scenario.machine, load_hardware(scenario.machine), watts / float(r["devices"]), watts / rate,
        float(r["loaded_throughput_tokens_per_s"]), rate,
        ((float(r["ttft_s"]), prefill), (float(r["itl_s"]) * (scenario.output - 1.0), decode)),
    )  # fmt: skip


def power_errors(runs: Sequence[Run], constants: Mapping[str, float]) -> FloatArray:
    """log(predicted / measured) watts of a device."""
    watts = [sum(s * drawn_w(constants, r.device, *busy) for s, busy in r.passes) for r in runs]
    return np.log([w / sum(s for s, _ in r.passes) / r.watts for w, r in zip(watts, runs, strict=True)])


def rate_errors(runs: Sequence[Run]) -> FloatArray:
    """log(predicted / measured) tokens a second."""
    return np.log([r.predicted_rate / r.rate for r in runs])


def fit(runs: Sequence[Run]) -> dict[str, float]:
    near = [r for r, e in zip(runs, rate_errors(runs), strict=True) if abs(e) < KNOWN_WITHIN]
    return shrunk(lambda c: power_errors(near, c), START, SPREAD, noise=_SOFT)


def held_out(runs: Sequence[Run], by: str) -> FloatArray:
    """Errors of power of every run, from a fit that saw no run of its model or machine."""
    errors = np.empty(len(runs))
    for inside in left_out([getattr(r, by) for r in runs]):
        rest, own = ([r for r, i in zip(runs, inside, strict=True) if i == mine] for mine in (False, True))
        errors[inside] = power_errors(own, fit(rest))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folder = evidence_folder(arguments.shared)
    if folder is None:
        raise FileFormatError("no folder of published rows", where="--shared")
    runs = runs_of(read_energy(folder / "energy.csv.gz"))
    rates = rate_errors(runs)
    near = np.abs(rates) < KNOWN_WITHIN
    constants = fit(runs)
    out = {"fitted rows": power_errors(runs, constants)} | {by: held_out(runs, by) for by in ("machine", "model")}
    machines = np.array([r.machine for r in runs])
    for name, errors in out.items():
        for which, rows in [
            ("speed known", near),
            ("all text", near | True),
            *((m, machines == m) for m in set(machines)),
        ]:
            power, energy = Errors.of(errors[rows]), Errors.of((errors - rates)[rows])
            print(
                f"{name:12s} left out, {which:24s} {rows.sum():4d} power {power.median:6.1%} (p90 {power.p90:4.0%}) "
                f"energy a token {energy.median:6.1%} (p90 {energy.p90:4.0%})"
            )
    power = np.concatenate([out["machine"], out["model"]])
    ends = {"residual": power, "energy": power - np.tile(rates, 2)}
    gpu: dict[str, object] = {**constants}
    gpu |= {name: [round(float(q), 3) for q in residual_quantiles(e)[::3]] for name, e in ends.items()}
    print(gpu)
    if arguments.write:
        write(OUT, "fitted", {"gpu": gpu}, depth=1)


if __name__ == "__main__":
    main()
