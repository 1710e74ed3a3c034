"""Run one matrix product on a mesh: time, numbers, limits and trace in one result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from waferline.errors import UnsupportedError, unknown
from waferline.machines.mesh import MeshParameters, check_grid
from waferline.machines.mesh_costs import gemm as costs
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.engine import RunStatistics
from waferline.simulate.mesh.gemm.data import multiply_on_mesh, random_operands
from waferline.simulate.mesh.gemm.events import run_ring_gemm
from waferline.simulate.mesh.gemm.load import words_sent
from waferline.simulate.mesh.gemm.panels import run_allgather, run_gemm_t, run_summa
from waferline.simulate.mesh.memory import SramLedger, check_formats, core_memory
from waferline.simulate.mesh.operators import product_sizes
from waferline.simulate.mesh.result import Accuracy, MeshResult, compare, rounding_tolerance, runs_events
from waferline.simulate.mesh.weights import WeightFormat, weight_format
from waferline.workloads.operator import Operator

Progress = Callable[[int, int], None]
TRACE_ROWS = 100_000  # steps written out; a longer run is refused a trace rather than filling memory
QUICK_WORK, MOST_WORK = 20_000_000, 400_000_000  # words times links times steps: seconds, and a few minutes of events
ALGORITHMS = (*costs.ALGORITHMS, "gemm-t")
PANELS = {"summa": run_summa, "allgather": run_allgather, "gemm-t": run_gemm_t}  # the others move blocks round rings


@dataclass(frozen=True, slots=True)
class Task:
    """One GEMM on a grid, checked: C[M, N] = A[M, K] B[K, N] by `algorithm`."""

    p: MeshParameters
    m: int
    k: int
    n: int
    width: int
    height: int
    algorithm: str
    number_format: str
    accumulator: str
    weights: WeightFormat

    def __post_init__(self) -> None:
        check_grid(self.p, self.width, self.height)
        check_formats(self.p, self.number_format, self.accumulator)
        if self.algorithm not in ALGORITHMS:
            raise unknown("GEMM algorithm", self.algorithm, ALGORITHMS)
        if self.algorithm == "gemm-t" and self.width != self.height:
            raise UnsupportedError(f"gemm-t needs a square grid, not {self.width}x{self.height}", where="GEMM")

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.m, self.k, self.n

    @property
    def packed(self) -> costs.Packed | None:
        return self.weights.packed(self.p, self.number_format)

    @property
    def scheme(self) -> str:
        """The scheme whose memory and block order it has: GEMM-T moves blocks as MeshGEMM does."""
        return "meshgemm" if self.algorithm == "gemm-t" else self.algorithm

    @property
    def sums(self) -> str:
        """What sums are kept in: int8 data accumulate in whole numbers."""
        return "int8" if self.number_format == "int8" else self.accumulator

    def tiling(self, width: int, height: int) -> costs.Tiling:
        return costs.gemm_tiling(*self.sizes, width, height, self.weights.block)

    def memory(self, width: int, height: int) -> dict[str, int]:
        """SRAM bytes per core by operand, on a grid of that size."""
        items = costs.gemm_memory_bytes(self.tiling(width, height), algorithm=self.scheme,
                                        number_format=self.number_format, accumulator=self.accumulator,
                                       packed=self.packed)  # fmt: skip
        return {what: int(size) for what, size in items.items()}

    def cycles(self) -> costs.GemmCycles:
        """The closed form."""
        if self.algorithm == "gemm-t":
            return costs.gemm_t_cycles(self.p, *self.sizes, self.width, number_format=self.number_format)
        return costs.gemm_cycles(self.p, *self.sizes, self.width, self.height, algorithm=self.algorithm,
                                 number_format=self.number_format, packed=self.packed)  # fmt: skip

    def word_moves(self) -> float:
        """Elements times links times steps of a run event by event."""
        t = self.tiling(self.width, self.height)
        hops = {"cannon": self.width - 1, "meshgemm": costs.INTERLEAVE_HOPS}.get(self.algorithm, 1)
        return float((t.mt * t.kt + t.kt * t.nt) * hops) * self.width * self.height * float(t.steps)

    def run(self, a: NDArray, b: NDArray, lockstep: bool) -> tuple[NDArray, RunStatistics]:
        """The product and the run's account, event by event."""
        formats = {"number_format": self.number_format, "accumulator": self.sums}
        if self.algorithm in PANELS:
            right = np.ascontiguousarray(b.T) if self.algorithm == "gemm-t" else b
            return PANELS[self.algorithm](self.p, a, right, self.width, **formats)
        return run_ring_gemm(self.p, a, b, self.width, algorithm=self.algorithm, lockstep=lockstep, **formats)


def simulate_gemm(
    op: Operator,
    p: MeshParameters,
    width: int,
    height: int,
    *,
    algorithm: str = "meshgemm",
    accumulator: str = "fp32",
    fidelity: str = "auto",
    lockstep: bool = True,
    data: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> MeshResult:
    """`op`, y[m, n] = x[m, k] W[k, n], on `width` x `height` cores, multiplied for real unless `data` is False.

    `event` moves every word through the routers (square grids) and is the only one that simulates; `closed` predicts cycles by
    the closed form and takes numbers from the tiles each core holds at each step; `auto` simulates what takes seconds.

    Raises:
        InvalidInputError: sizes that are not positive, or a grid the device does not have.
        DoesNotFitError: the tiles overflow a core's SRAM, or the streams its colours.
        UnsupportedError: event fidelity for a grid that is not square or a run that is too long.
    """
    form = weight_format(op.weights)
    task = Task(p, *product_sizes(op), width, height, algorithm, op.activations, accumulator, form)
    if form.quantised and algorithm == "gemm-t":
        raise UnsupportedError(
            f"gemm-t cuts {form.name} blocks, which stand along K", where="GEMM", hint="--algorithm meshgemm"
        )
    ledger = core_memory(p, width, height, task.memory)
    colours = costs.gemm_colours(task.scheme, width, height)
    plmr.check_colours(p, colours, what=algorithm)
    missing = "" if width == height else f"{algorithm} event by event needs a square grid, not {width}x{height}"
    missing = f"blocks of {form.name} are not moved word by word" if form.quantised else missing
    events = runs_events(fidelity, task.word_moves(), QUICK_WORK, MOST_WORK, where="GEMM", missing=missing)
    statistics, accuracy = None, None
    if data or events:
        a, b = random_operands(*task.sizes, task.number_format, seed)
        b = form.stored(b) if form.quantised else b
        if events:
            product, statistics = task.run(a, b, lockstep)
        else:
            product = multiply_on_mesh(a, b, width, height, algorithm=task.scheme, number_format=task.number_format,
                                       accumulator=accumulator, block=form.block, progress=progress)  # fmt: skip
        accuracy = _accuracy(task, product, a, b)
    return _result(task, statistics, ledger, accuracy, colours)


def _accuracy(task: Task, product: NDArray, a: NDArray, b: NDArray) -> Accuracy:
    reference = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = rounding_tolerance(task.k, float(np.abs(reference).max()), task.sums)
    kept = f", B as {task.weights.name}" if task.weights.quantised else ""
    return compare(product, reference, tolerance, f"NumPy A @ B in float64{kept}")


def _compliance(task: Task, ledger: SramLedger, colours: int) -> plmr.Compliance:
    p, width, height, t = task.p, task.width, task.height, task.tiling(task.width, task.height)
    idle = width * height - min(-(-task.m // int(t.mt)), height) * min(-(-task.n // int(t.nt)), width)
    furthest = max(width, height) - 1
    hops = furthest if task.algorithm in ("cannon", "summa", "gemm-t") else min(costs.INTERLEAVE_HOPS, furthest)
    if task.algorithm == "allgather":
        # Every core hears every other of its row and column: a route each, or relays through software.
        needed = width + height - 2
        route = plmr.routing(needed, p.colours, "every router, if each source had its own route (relayed instead)")
        latency = plmr.latency("software relays per gather", furthest, costs.INTERLEAVE_HOPS, "each row and column")
    else:
        route = plmr.routing(colours, p.colours)
        worst = "the wrap from the last core to the first" if task.algorithm == "cannon" else "root to the far end"
        where = worst if hops > costs.INTERLEAVE_HOPS else "every ring neighbour"
        latency = plmr.latency("hops per step", hops, costs.INTERLEAVE_HOPS, where)
    return plmr.Compliance(
        plmr.parallelism(idle, width * height, f"rows beyond M = {task.m} or columns beyond N = {task.n}"),
        latency,
        plmr.memory(ledger.used_bytes, p.sram_bytes),
        route,
    )


def _result(
    task: Task, statistics: RunStatistics | None, ledger: SramLedger, accuracy: Accuracy | None, colours: int
) -> MeshResult:
    cycles, grid = task.cycles(), (task.height, task.width)
    spent = {name: float(getattr(cycles, name)) for name in ("compute", "communication", "overlap")}
    total, finish = float(cycles.total), None
    if statistics is None:
        heat = words_sent(task.p, task.sizes, task.width, task.height, algorithm=task.algorithm,
                          number_format=task.number_format, packed=task.packed)  # fmt: skip
    else:
        slowest = int(np.argmax(statistics.finish_cycles))
        spent = {name: float(getattr(statistics, f"{name}_cycles")[slowest]) for name in spent}
        total, finish, colours = statistics.cycles, statistics.finish_cycles.reshape(grid), statistics.colours
        heat = statistics.link_words.sum(axis=1).reshape(grid).astype(float)
    return MeshResult(
        operation=f"gemm {task.m}x{task.k}x{task.n}",
        algorithm=task.algorithm,
        width=task.width,
        height=task.height,
        parameters=task.p,
        fidelity="closed" if statistics is None else "event",
        cycles=total,
        compute_cycles=spent["compute"],
        communication_cycles=spent["communication"],
        overlap_cycles=spent["overlap"],
        steps=int(cycles.steps),
        hop_words=int(heat.sum()),
        colours=colours,
        memory_bytes=ledger.items,
        compliance=_compliance(task, ledger, colours),
        accuracy=accuracy,
        closed_form_cycles=float(cycles.total),
        trace=_trace(cycles, statistics),
        heat=heat,
        heat_quantity="link words sent by each core",
        finish_cycles=finish,
        details={
            "step_cycles": float(cycles.step),
            "step_compute_cycles": float(cycles.step_compute),
            "step_communication_cycles": float(cycles.step_communication),
            "alignment_cycles": float(cycles.alignment),
            "number_format": task.number_format,
            "weights": task.weights.name,
        },
    )


def _trace(cycles: costs.GemmCycles, statistics: RunStatistics | None) -> list[dict[str, Any]]:
    """A row per step: when it starts (first and last core, if they were followed) and what it spends."""
    steps = int(cycles.steps)
    if steps > TRACE_ROWS:
        return []
    if statistics is not None and statistics.mark_first_cycles.size >= steps:
        starts = list(zip(statistics.mark_first_cycles.tolist(), statistics.mark_last_cycles.tolist(), strict=True))
    else:
        first = float(cycles.start + cycles.alignment)
        starts = [(first + i * float(cycles.step),) * 2 for i in range(steps)]
    spent = {"compute_cycles": float(cycles.step_compute), "communication_cycles": float(cycles.step_communication)}
    return [{"step": i, "start_first_cycles": a, "start_last_cycles": b, **spent} for i, (a, b) in enumerate(starts)]
