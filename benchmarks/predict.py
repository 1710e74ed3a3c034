"""Speed of prediction beside other tools, in CPU time of one process: `python -m benchmarks predict [--only NAME ...]`.

A full run writes `benchmarks/results/predict.json`, which the README's table is generated from. Peers that are not
installed (`make peers`) are reported as such.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import waferline as wl
from benchmarks.peers import speed
from benchmarks.scenarios import CONFIGURATIONS, Configuration, points
from waferline.evidence.check import check
from waferline.evidence.folder import PACKAGED
from waferline.evidence.rows import read_rows
from waferline.measure.fingerprint import fingerprint
from waferline.search.sweep import points_of, sweep

RESULTS = Path(__file__).parent / "results" / "predict.json"
ONE = Configuration()
PRECISIONS = ["fp16", "int8", "int4", "fp8", "q4_k_m"]
REPEATS = 5
POINTS, LARGE = 500_000, 10_000_000
SHORT_CALLS = 200  # of a call of milliseconds, so that the clock's ticks do not show
FIELDS = (
    "ttft_s",
    "itl_s",
    "itl_low90_s",
    "itl_high90_s",
    "feasible",
    "device_memory_bytes",
    "energy_j_per_token",
    "decode_bottleneck",
)
Figures = dict[str, float]


def _rate(run: Callable[[], int], repeats: int = REPEATS) -> Figures:
    """What `run` counts per CPU second, warm: the median and best of a few runs, and the wall clock's median."""
    run()
    cpu_rates, wall_rates = [], []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        count = run()
        cpu_rates.append(count / (time.process_time() - cpu))
        wall_rates.append(count / (time.perf_counter() - wall))
    return {
        "count": count,
        "per_cpu_s": statistics.median(cpu_rates),
        "best_per_cpu_s": max(cpu_rates),
        "per_wall_s": statistics.median(wall_rates),
    }


def one() -> Figures:
    """One scenario a call, always the same one."""
    model = wl.ServingModel()

    def run() -> int:
        for _ in range(SHORT_CALLS):
            model.solve(ONE.model, ONE.machine, 2048, 8, ONE.precision)
        return SHORT_CALLS

    return _rate(run)


def zipped(intervals: bool = False) -> Figures:
    """Half a million points of batch and context in one call, no two axes."""
    batch, context = points(POINTS)

    def run() -> int:
        result = wl.ServingModel().solve(ONE.model, ONE.machine, context, batch, ONE.precision, intervals=intervals)
        return int(np.prod(result.shape))

    return _rate(run)


def _axes(contexts: int) -> dict[str, Any]:
    return {
        "precision": PRECISIONS,
        "batch_size": np.arange(1, 201),
        "seq_len": 64 * np.arange(1, contexts + 1),
    }


def grid(intervals: bool = False) -> Figures:
    """A grid of batch × context × precision in one call."""
    arguments = wl.grid(**_axes(100))

    def run() -> int:
        result = wl.ServingModel().solve(ONE.model, ONE.machine, **arguments, intervals=intervals)
        return int(np.prod(result.shape))

    return _rate(run)


def configurations() -> Figures:
    """A thousand different models, machines, degrees and formats, one call each."""
    model = wl.ServingModel()

    def run() -> int:
        for c in CONFIGURATIONS:
            model.solve(c.model, c.machine, 2048, 8, c.precision, tp=c.tp)
        return len(CONFIGURATIONS)

    return _rate(run, 1)


def evidence() -> Figures:
    """The published rows that the package ships, each predicted or refused."""
    rows = read_rows(PACKAGED)
    return _rate(lambda: len(check(rows).outcomes), 3)


def large_sweep() -> Figures:
    """Ten million points, chunk by chunk: rate and peak memory of this process."""
    names = {"batch_size": "batch", "seq_len": "prompt"}  # arguments of a model, fields of a scenario
    axes = {names.get(name, name): values for name, values in _axes(LARGE // (len(PRECISIONS) * 200)).items()}
    cpu, done = time.process_time(), 0
    for columns in sweep(wl.Scenario(model=ONE.model, machine=ONE.machine), axes, FIELDS):
        done += len(columns["itl_s"])
    assert done == points_of(axes)
    rate = done / (time.process_time() - cpu)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"count": done, "per_cpu_s": rate, "peak_memory_bytes": peak_kb * 1024.0}


def _process(command: list[str]) -> Figures:
    """Median and best wall seconds and the median CPU seconds of a fresh process, its start included."""
    wall, cpu = [], []
    for _ in range(REPEATS + 1):
        before, start = _children_cpu_s(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        wall.append(time.perf_counter() - start)
        cpu.append(_children_cpu_s() - before)
    return {"median_s": statistics.median(wall[1:]), "best_s": min(wall[1:]), "cpu_s": statistics.median(cpu[1:])}


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def import_time() -> Figures:
    """`import waferline` in a fresh interpreter."""
    return _process([sys.executable, "-c", "import waferline"])


def command_time() -> Figures:
    """The README's first command, from the shell."""
    line = f"predict {ONE.model} --on h100 --precision int4 --batch 1 --prompt 2048 --output 256"
    return _process([sys.executable, "-m", "waferline", *line.split()])


# The sweep is last of those in this process: its peak memory must not hide in that of the others.
BENCHMARKS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "one": one,
    "sweep": large_sweep,
    "grid": grid,
    "grid-intervals": lambda: grid(intervals=True),
    "zipped": zipped,
    "zipped-intervals": lambda: zipped(intervals=True),
    "configurations": configurations,
    "evidence": evidence,
    "import": import_time,
    "command": command_time,
    **{name: lambda name=name: speed.peer_speed(name) for name in speed.NAMES},  # type: ignore[misc]
}


def _line(figures: Mapping[str, Any], prefix: str = "") -> str:
    parts = []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            parts.append(_line(value, f"{key} "))
        else:
            parts.append(f"{prefix}{key} {value:,.4g}" if isinstance(value, float) else f"{prefix}{key} {value}")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = {}
    for name in asked.only or BENCHMARKS:
        rows[name] = BENCHMARKS[name]()
        if not asked.json:
            print(f"{name}: {_line(rows[name])}", flush=True)
    results = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "processor": fingerprint().cpu,
        "rows": rows,
    }
    if not asked.only:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if asked.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
