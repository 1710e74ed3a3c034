"""Time the mesh simulator: `python benchmarks/mesh/run.py` prints a table; nothing is asserted."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np

from waferline.machines.mesh import load_parameters
from waferline.machines.mesh_costs.gemm import gemm_cycles
from waferline.machines.mesh_costs.gemv import gemv_cycles
from waferline.simulate.mesh.gemm import simulate_gemm
from waferline.simulate.mesh.gemv import simulate_allreduce, simulate_gemv
from waferline.simulate.mesh.operators import all_reduce, matrix_product

P = load_parameters("wse2-waferllm")
POINTS = 1_000_000


def closed_forms() -> None:
    """A million GEMM points in one call."""
    rng = np.random.default_rng(0)
    side, size = rng.integers(60, 750, POINTS), rng.integers(512, 16384, POINTS)
    gemm_cycles(P, size, size, size, side, side)


def closed_gemv() -> None:
    """A million GEMV points in one call."""
    rng = np.random.default_rng(0)
    side, size = rng.integers(60, 750, POINTS), rng.integers(512, 16384, POINTS)
    gemv_cycles(P, size, size, side, side, group=20)


CASES: dict[str, Callable[[], object]] = {
    "all-reduce 64x64, 128 words, event": lambda: simulate_allreduce(
        all_reduce(128, 64**2), P, 64, 64, fidelity="event"
    ),
    "all-reduce 128x128, 128 words, event": lambda: simulate_allreduce(
        all_reduce(128, 128**2), P, 128, 128, fidelity="event"
    ),
    "MeshGEMM 256^3 on 64x64, event": lambda: simulate_gemm(matrix_product(256, 256, 256), P, 64, 64, fidelity="event"),
    "MeshGEMM 4096^3 on 720x720, functional": lambda: simulate_gemm(
        matrix_product(4096, 4096, 4096), P, 720, 720, fidelity="closed"
    ),
    "GEMV 16384^2 on 600x600, functional": lambda: simulate_gemv(
        matrix_product(1, 16384, 16384), P, 600, 600, fidelity="closed"
    ),
    "closed form, 1e6 GEMMs": closed_forms,
    "closed form, 1e6 GEMVs": closed_gemv,
}


def main() -> None:
    """Print wall time, CPU time and peak memory of each case (after one warm-up that compiles)."""
    simulate_allreduce(all_reduce(1, 4), P, 2, 2)
    simulate_gemm(matrix_product(8, 8, 8), P, 2, 2, fidelity="event")
    print(f"{'case':42} {'wall s':>8} {'CPU s':>8} {'peak GiB':>9}")
    for name, case in CASES.items():
        wall, cpu = time.perf_counter(), time.process_time()
        case()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name:42} {time.perf_counter() - wall:8.2f} {time.process_time() - cpu:8.2f} {peak:9.2f}", flush=True)


if __name__ == "__main__":
    main()
