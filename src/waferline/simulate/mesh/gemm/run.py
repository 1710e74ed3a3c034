"""Simulate one GEMM: time, numbers, limits and trace in one result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.machines.mesh import MeshParameters, check_grid
from waferline.machines.mesh_costs import gemm as costs
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.colours import check_colours
from waferline.simulate.mesh.engine import RunStatistics
from waferline.simulate.mesh.gemm.data import multiply_on_mesh, random_operands
from waferline.simulate.mesh.gemm.events import run_ring_gemm
from waferline.simulate.mesh.gemm.load import words_sent
from waferline.simulate.mesh.gemm.panels import run_allgather, run_gemm_t, run_summa
from waferline.simulate.mesh.memory import SramLedger, check_formats
from waferline.simulate.mesh.result import FIDELITIES, Accuracy, MeshResult, compare, rounding_tolerance

Progress = Callable[[int, int], None]
TRACE_ROWS = 100_000  # steps written out; a longer run is refused a trace rather than filling memory


def simulate_gemm(
    p: MeshParameters,
    m: int,
    k: int,
    n: int,
    width: int,
    height: int,
    *,
    algorithm: str = "meshgemm",
    number_format: str = "fp16",
    accumulator: str = "fp32",
    fidelity: str = "closed",
    lockstep: bool = True,
    data: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> MeshResult:
    """C[M, N] = A[M, K] B[K, N] on `width` x `height` cores, multiplied for real unless `data` is False.

    `closed` takes cycles from the closed form and numbers from the tiles each core holds at each step; `event` moves
    every word through the routers (square grids).

    Raises:
        InvalidInputError: sizes that are not positive, or a grid the device does not have.
        DoesNotFitError: the tiles overflow a core's SRAM, or the streams its colours.
        UnsupportedError: event fidelity for a grid that is not square or a run that is too long.
    """
    _check(p, (m, k, n), width, height, algorithm, fidelity)
    check_formats(p, number_format, accumulator)
    tiling = costs.gemm_tiling(m, k, n, width, height)
    ledger = SramLedger(p)
    name = "meshgemm" if algorithm == "gemm-t" else algorithm
    items = costs.gemm_memory_bytes(tiling, algorithm=name, number_format=number_format, accumulator=accumulator)
    ledger.allocate_all({what: int(size) for what, size in items.items()})
    colours = costs.gemm_colours(name, width, height)
    check_colours(p, colours, what=algorithm)
    cycles = _closed_form(p, (m, k, n), width, height, algorithm, number_format)
    statistics, accuracy = None, None
    if fidelity == "event":
        a, b = random_operands(m, k, n, number_format, seed)
        product, statistics = _run_events(p, a, b, width, algorithm, number_format, accumulator, lockstep)
        accuracy = _accuracy(product, a, b, number_format, accumulator)
    elif data:
        a, b = random_operands(m, k, n, number_format, seed)
        product = multiply_on_mesh(a, b, width, height, algorithm=name, number_format=number_format,
                                   accumulator=accumulator, progress=progress)  # fmt: skip
        accuracy = _accuracy(product, a, b, number_format, accumulator)
    return _result(
        p, (m, k, n), (width, height), algorithm, number_format, cycles, statistics, ledger, accuracy, colours
    )


def _check(p: MeshParameters, sizes: tuple, width: int, height: int, algorithm: str, fidelity: str) -> None:
    check_grid(p, width, height)
    if min(sizes) < 1:
        raise InvalidInputError(f"sizes {sizes} must be positive", where="GEMM", hint="MxKxN, such as 4096x4096x4096")
    if algorithm not in (*costs.ALGORITHMS, "gemm-t"):
        raise unknown("GEMM algorithm", algorithm, (*costs.ALGORITHMS, "gemm-t"))
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)
    if (fidelity == "event" or algorithm == "gemm-t") and width != height:
        raise UnsupportedError(f"{algorithm} at {fidelity} fidelity needs a square grid, not {width}x{height}",
                               where="GEMM", hint="--fidelity closed with another algorithm")  # fmt: skip


def _closed_form(
    p: MeshParameters, sizes: tuple[int, int, int], width: int, height: int, algorithm: str, number_format: str
) -> costs.GemmCycles:
    if algorithm == "gemm-t":
        return costs.gemm_t_cycles(p, *sizes, width, number_format=number_format)
    return costs.gemm_cycles(p, *sizes, width, height, algorithm=algorithm, number_format=number_format)


def _run_events(
    p: MeshParameters,
    a: NDArray,
    b: NDArray,
    side: int,
    algorithm: str,
    number_format: str,
    accumulator: str,
    lockstep: bool,
) -> tuple[NDArray, RunStatistics]:
    kept = "int8" if number_format == "int8" else accumulator
    if algorithm == "summa":
        return run_summa(p, a, b, side, number_format=number_format, accumulator=kept)
    if algorithm == "allgather":
        return run_allgather(p, a, b, side, number_format=number_format, accumulator=kept)
    if algorithm == "gemm-t":
        turned = np.ascontiguousarray(b.T)
        return run_gemm_t(p, a, turned, side, number_format=number_format, accumulator=kept)
    return run_ring_gemm(p, a, b, side, algorithm=algorithm, number_format=number_format, accumulator=kept,
                         lockstep=lockstep)  # fmt: skip


def _accuracy(product: NDArray, a: NDArray, b: NDArray, number_format: str, accumulator: str) -> Accuracy:
    reference = a.astype(np.float64) @ b.astype(np.float64)
    kept = "int8" if number_format == "int8" else accumulator
    tolerance = rounding_tolerance(a.shape[1], float(np.abs(reference).max()), kept)
    return compare(product, reference, tolerance, "NumPy A @ B in float64")


def _compliance(
    p: MeshParameters, sizes: tuple, grid: tuple[int, int], algorithm: str, ledger: SramLedger, colours: int
) -> plmr.Compliance:
    m, k, n = sizes
    width, height = grid
    t = costs.gemm_tiling(m, k, n, width, height)
    idle = width * height - min(-(-m // int(t.mt)), height) * min(-(-n // int(t.nt)), width)
    furthest = max(width, height) - 1
    hops = furthest if algorithm in ("cannon", "summa", "gemm-t") else min(costs.INTERLEAVE_HOPS, furthest)
    if algorithm == "allgather":
        # Every core hears every other of its row and column: a route each, or relays through software.
        needed = width + height - 2
        route = plmr.routing(needed, p.colours, "every router, if each source had its own route (relayed instead)")
        latency = plmr.latency("software relays per gather", furthest, costs.INTERLEAVE_HOPS, "each row and column")
    else:
        route = plmr.routing(colours, p.colours)
        worst = "the wrap from the last core to the first" if algorithm == "cannon" else "root to the far end"
        where = worst if hops > costs.INTERLEAVE_HOPS else "every ring neighbour"
        latency = plmr.latency("hops per step", hops, costs.INTERLEAVE_HOPS, where)
    return plmr.Compliance(
        plmr.parallelism(idle, width * height, f"rows beyond M = {m} or columns beyond N = {n}"),
        latency,
        plmr.memory(ledger.used_bytes, p.sram_bytes),
        route,
    )


def _result(
    p: MeshParameters,
    sizes: tuple[int, int, int],
    grid: tuple[int, int],
    algorithm: str,
    number_format: str,
    cycles: costs.GemmCycles,
    statistics: RunStatistics | None,
    ledger: SramLedger,
    accuracy: Accuracy | None,
    colours: int,
) -> MeshResult:
    closed = float(cycles.total)
    heat = words_sent(p, sizes, *grid, algorithm=algorithm, number_format=number_format)
    total, compute, move, overlap = (
        float(v) for v in (cycles.total, cycles.compute, cycles.communication, cycles.overlap)
    )
    if statistics is not None:
        slowest = int(np.argmax(statistics.finish_cycles))
        total, compute = statistics.cycles, float(statistics.compute_cycles[slowest])
        move, overlap = (float(v[slowest]) for v in (statistics.communication_cycles, statistics.overlap_cycles))
        heat = statistics.link_words.sum(axis=1).reshape(grid[1], grid[0]).astype(float)
        colours = statistics.colours
    return MeshResult(
        operation=f"gemm {sizes[0]}x{sizes[1]}x{sizes[2]}",
        algorithm=algorithm,
        width=grid[0],
        height=grid[1],
        parameters=p,
        fidelity="closed" if statistics is None else "event",
        cycles=total,
        compute_cycles=compute,
        communication_cycles=move,
        overlap_cycles=overlap,
        steps=int(cycles.steps),
        hop_words=int(heat.sum()),
        colours=colours,
        memory_bytes=ledger.items,
        compliance=_compliance(p, sizes, grid, algorithm, ledger, colours),
        accuracy=accuracy,
        closed_form_cycles=closed,
        trace=_trace(cycles, statistics),
        heat=heat,
        heat_quantity="link words sent by each core",
        finish_cycles=None if statistics is None else statistics.finish_cycles.reshape(grid[1], grid[0]),
        details={
            "step_cycles": float(cycles.step),
            "step_compute_cycles": float(cycles.step_compute),
            "step_communication_cycles": float(cycles.step_communication),
            "alignment_cycles": float(cycles.alignment),
            "number_format": number_format,
        },
    )


def _trace(cycles: costs.GemmCycles, statistics: RunStatistics | None) -> list[dict[str, Any]]:
    """A row per step: when it starts (first and last core, if they were followed) and what it spends."""
    steps = int(cycles.steps)
    if steps > TRACE_ROWS:
        return []
    work, move = float(cycles.step_compute), float(cycles.step_communication)
    if statistics is not None and statistics.mark_first_cycles.size >= steps:
        starts = list(zip(statistics.mark_first_cycles.tolist(), statistics.mark_last_cycles.tolist(), strict=True))
    else:
        first = float(cycles.start + cycles.alignment)
        starts = [(first + i * float(cycles.step),) * 2 for i in range(steps)]
    return [
        {
            "step": i,
            "start_first_cycles": a,
            "start_last_cycles": b,
            "compute_cycles": work,
            "communication_cycles": move,
        }
        for i, (a, b) in enumerate(starts)
    ]
