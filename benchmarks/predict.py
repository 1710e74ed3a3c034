"""Speed of prediction: scenario points per second, import and command time, and a large sweep in bounded memory.

Run: `python -m benchmarks.predict [--json]`. Peers are timed by `benchmarks/peers` in environments of their own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import waferline as wl
from waferline.search.sweep import points_of, sweep

MODEL, MACHINE = "llama-3-8b", "h100"
PRECISIONS = ["fp16", "int8", "int4", "fp8", "q4_k_m"]
REPEATS = 5
LARGE = 10_000_000
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


def _axes(contexts: int) -> dict[str, Any]:
    return {
        "precision": PRECISIONS,
        "batch_size": np.arange(1, 201),
        "seq_len": 64 * np.arange(1, contexts + 1),
    }


def _best_rate(run: Callable[[], int]) -> dict[str, float]:
    """Points per CPU second and per wall second: the median and best of a few runs after a warm-up."""
    run()
    rates = []
    for _ in range(REPEATS):
        cpu, wall = time.process_time(), time.perf_counter()
        points = run()
        rates.append((points / (time.process_time() - cpu), points / (time.perf_counter() - wall)))
    cpu_rates, wall_rates = zip(*rates, strict=True)
    return {
        "points_per_cpu_s": statistics.median(cpu_rates),
        "best_points_per_cpu_s": max(cpu_rates),
        "points_per_wall_s": statistics.median(wall_rates),
    }


def serving_grid(intervals: bool = False) -> dict[str, float]:
    """A grid of batch × context × precision, with memory, energy and bottleneck."""
    arguments = wl.grid(**_axes(100))

    def run() -> int:
        result = wl.ServingModel().solve(MODEL, MACHINE, **arguments, intervals=intervals)
        return int(np.prod(result.shape))

    return _best_rate(run)


def large_sweep() -> dict[str, float]:
    """Ten million points, chunk by chunk: rate and peak memory of this process."""
    axes = _axes(LARGE // (len(PRECISIONS) * 200))
    cpu, done = time.process_time(), 0
    for columns in sweep(wl.ServingModel().solve, axes, FIELDS, fixed={"model": MODEL, "hardware": MACHINE}):
        done += len(columns["itl_s"])
    assert done == points_of(axes)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "points": done,
        "points_per_cpu_s": done / (time.process_time() - cpu),
        "peak_memory_bytes": peak_kb * 1024.0,
    }


def _wall(command: list[str]) -> dict[str, float]:
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return {"median_s": statistics.median(times[1:]), "best_s": min(times[1:])}


def import_time() -> dict[str, float]:
    """`import waferline` in a fresh interpreter, start-up of Python included."""
    return _wall([sys.executable, "-c", "import waferline"])


def command_time() -> dict[str, float]:
    """The README's first command, from the shell."""
    line = f"predict {MODEL} --on {MACHINE} --precision int4 --batch 1 --prompt 2048 --output 256"
    return _wall([sys.executable, "-m", "waferline", *line.split()])


BENCHMARKS: Mapping[str, Callable[[], dict[str, float]]] = {
    "serving grid": serving_grid,
    "serving grid with intervals": lambda: serving_grid(intervals=True),
    "10^7-point sweep": large_sweep,
    "import waferline": import_time,
    "waferline predict": command_time,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    results = {name: run() for name, run in BENCHMARKS.items()}
    if as_json:
        print(json.dumps(results, indent=2))
        return
    for name, figures in results.items():
        print(f"{name}: " + ", ".join(f"{k} {v:,.3g}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
