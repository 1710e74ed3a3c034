"""Run one GEMV (or batched, weight-stationary GEMM) or one all-reduce on a mesh: time, numbers and limits in one result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters, check_grid
from waferline.machines.mesh_costs import collectives, gemv
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.collectives import allreduce
from waferline.simulate.mesh.collectives.ring import MAX_INSTRUCTIONS
from waferline.simulate.mesh.collectives.tree import tree_levels
from waferline.simulate.mesh.gemv.data import partial_products, reduce_in_order
from waferline.simulate.mesh.memory import SramLedger, check_formats, core_memory
from waferline.simulate.mesh.operators import SUM_BYTES, product_sizes, reduced_values
from waferline.simulate.mesh.result import MeshResult, compare, rounding_tolerance, runs_events
from waferline.simulate.mesh.weights import weight_format
from waferline.workloads.operator import Operator

QUICK_WORDS, MOST_WORDS = 4_000_000, 60_000_000  # words times cores: seconds, and a minute of events


@dataclass(frozen=True, slots=True)
class Reduction:
    """An all-reduce as asked for: `chain`, `ring` or a K-tree of `levels`, whose first groups have `group` cores."""

    text: str
    group: int | None

    def __post_init__(self) -> None:
        collectives.parse_reduction(self.text)
        if self.group is not None and self.group < 1:
            raise InvalidInputError(f"a group of {self.group} cores", where="--group", hint="at least 1")

    @property
    def name(self) -> str:
        return collectives.parse_reduction(self.text)[0]

    def groups(self, side: int) -> tuple[int, ...]:
        """Sizes of the levels on a line of `side` cores; none for a chain or ring."""
        name, levels = collectives.parse_reduction(self.text)
        if name != "ktree":
            return ()
        return (self.group,) * (levels - 1) if self.group else collectives.ktree_groups(side, levels)

    def missing(self, width: int, height: int) -> str:
        """What keeps it from running event by event on `width` x `height` cores."""
        if self.name != "ring" or 3 * max(width, height) * width * height <= MAX_INSTRUCTIONS:
            return ""
        return f"a ring on {width}x{height} cores is too long to run event by event"

    def word_hops(self, width: int, height: int, words: int) -> int:
        """Links that `words` cross over both axes: those every chain of every level spans, and the broadcast back."""
        total = 0
        for lines, side in ((height, width), (width, height)):
            if side == 1:
                continue
            if self.name == "ring":  # 2 (P - 1) rounds of a chunk over the ring's 2 (P - 1) links
                total += lines * 2 * (side - 1) * 2 * (side - 1) * -(-words // side)
                continue
            tree = tree_levels(side, self.groups(side), None)
            spans = sum(int(chain.members[-1] - chain.members[0]) for level in tree for chain in level)
            total += lines * words * (spans + side - 1)
        return total

    def compliance(
        self, p: MeshParameters, side: int, cores: int, used: int, colours: int, idle: int
    ) -> plmr.Compliance:
        """The four limits of reducing over lines of `side`, `idle` of `cores` without work, `used` bytes in each."""
        stages, left = 0, side
        for size in (*self.groups(side), side):
            members = min(size, left)
            stages, left = stages + members // 2, -(-left // members)
        stages = {"ktree": stages, "chain": side - 1, "ring": 2 * (side - 1)}[self.name]
        best = 2 * np.ceil(np.sqrt(side))  # WaferLLM section 6: K * N^(1/K) / 2 stages at K = 2, either arm order
        return plmr.Compliance(
            plmr.parallelism(idle, cores, "rows beyond M or columns beyond N"),
            plmr.latency("software stages", stages, float(best), f"the longest chain of a line of {side}"),
            plmr.memory(used, p.sram_bytes),
            plmr.routing(colours, p.colours, "the tree's root"),
        )


def simulate_allreduce(
    op: Operator,
    p: MeshParameters,
    width: int,
    height: int,
    *,
    reduction: str = "ktree:2",
    group: int | None = None,
    fidelity: str = "auto",
    seed: int = 0,
) -> MeshResult:
    """All-reduce the fp32 values of `op` over rows and then columns; every core ends with the sum.

    Raises:
        InvalidInputError: sizes that are not positive.
        DoesNotFitError: the vector overflows a core's SRAM, or the tree its colours.
        UnsupportedError: event fidelity for a run that is too long.
    """
    check_grid(p, width, height)
    words, how = reduced_values(op), Reduction(reduction, group)
    axes = (width > 1) + (height > 1)
    colours = axes * collectives.reduction_colours(reduction)
    plmr.check_colours(p, colours, what=f"{reduction} over {axes} axes")
    ledger = SramLedger(p)
    ledger.allocate("vector", SUM_BYTES * words)
    closed = sum(float(collectives.allreduce_cycles(p, side, words, reduction, group)) for side in (width, height))
    hops, cycles = how.word_hops(width, height, words), closed
    heat, finish, accuracy = None, None, None
    events = runs_events(fidelity, words * width * height, QUICK_WORDS, MOST_WORDS, where="all-reduce",
                         missing=how.missing(width, height))  # fmt: skip
    if events:
        data = np.random.default_rng(seed).uniform(-1, 1, (height, width, words)).astype(np.float32)
        run = allreduce(p, data, reduction=reduction, groups=how.groups(1) if group else None)
        exact = data.astype(np.float64).sum(axis=(0, 1))
        scale = float(np.abs(data).sum(axis=(0, 1)).max() ** 0.5)
        accuracy = compare(run.values, exact, rounding_tolerance(width * height, scale, "fp32"), "NumPy sum in float64")
        cycles, colours, hops = run.statistics.cycles, run.statistics.colours, run.statistics.hop_words
        heat = run.statistics.link_words.sum(axis=1).reshape(height, width).astype(float)
        finish = run.statistics.finish_cycles.reshape(height, width)
    return MeshResult(
        operation=f"allreduce {words} words",
        algorithm=reduction,
        width=width,
        height=height,
        parameters=p,
        fidelity="event" if events else "closed",
        cycles=cycles,
        compute_cycles=0.0,
        communication_cycles=cycles,
        overlap_cycles=0.0,
        steps=axes,
        hop_words=hops,
        colours=colours,
        memory_bytes=ledger.items,
        compliance=how.compliance(p, max(width, height), width * height, ledger.used_bytes, colours, 0),
        accuracy=accuracy,
        closed_form_cycles=closed,
        heat=heat,
        heat_quantity="link words sent by each core",
        finish_cycles=finish,
    )


def simulate_gemv(
    op: Operator,
    p: MeshParameters,
    width: int,
    height: int,
    *,
    reduction: str = "ktree:2",
    group: int | None = None,
    accumulator: str = "fp32",
    data: bool = True,
    fidelity: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MeshResult:
    """`op`, y[m, n] = x[m, k] W[k, n], as m vectors on weights that stay in place (block formats, too), reduced along y.

    `event` runs the reduction of a column through the routers (columns are alike and share nothing).

    Raises:
        InvalidInputError: sizes that are not positive, or a grid the device does not have.
        DoesNotFitError: the tile overflows a core's SRAM, or the tree its colours.
        UnsupportedError: event fidelity for a run that is too long.
    """
    (batch, k, n), number_format = product_sizes(op), op.activations
    check_grid(p, width, height)
    check_formats(p, number_format, accumulator)
    form, how = weight_format(op.weights), Reduction(reduction, group)
    sums = "int8" if number_format == "int8" else accumulator

    def memory(width: int, height: int) -> dict[str, int]:
        rows, columns, size = form.rows_per_core(k, height), -(-n // width), ELEMENT_BYTES[number_format]
        kept = {"weight tile": form.tile_bytes(rows, columns), "input slice": batch * rows * size}
        kept["output slice"] = batch * columns * (4 if sums == "int8" else ELEMENT_BYTES[accumulator])
        return {**kept, "decoded column": rows * size} if form.quantised else kept

    rows, columns = form.rows_per_core(k, height), -(-n // width)
    ledger = core_memory(p, width, height, memory)
    colours = collectives.reduction_colours(reduction) if height > 1 else 0
    plmr.check_colours(p, colours, what=reduction)
    cycles = gemv.gemv_cycles(
        p, rows * height, n, width, height, reduction=reduction, group=group, batch=batch, number_format=number_format,
        dequantize_cycles_per_weight=form.decode_cycles(p, number_format),
    )  # fmt: skip
    words, groups = -(-batch * columns // p.elements_per_word(number_format)), how.groups(height)
    work, move, accuracy = float(cycles.compute), float(cycles.communication), None
    if data:
        partial, exact = partial_products(k, n, height, form, batch=batch, number_format=number_format, seed=seed,
                                          progress=progress)  # fmt: skip
        product = reduce_in_order(partial, groups, 0 if how.name == "chain" else None, sums)
        tolerance = rounding_tolerance(k, float(np.abs(exact).max()), sums)
        accuracy = compare(product, exact, tolerance, f"NumPy a @ B in float64, B as {form.name}")
    events = runs_events(
        fidelity, words * height, QUICK_WORDS, MOST_WORDS, where="GEMV", missing=how.missing(1, height)
    )
    if events:
        column = np.ones((height, 1, words))
        move = allreduce(p, column, reduction=reduction, axes="y", groups=groups or None).statistics.cycles
    idle = width * height - min(-(-k // rows), height) * min(-(-n // columns), width)
    return MeshResult(
        operation=f"gemv {k}x{n}" + (f" batch {batch}" if batch > 1 else ""),
        algorithm=reduction,
        width=width,
        height=height,
        parameters=p,
        fidelity="event" if events else "closed",
        cycles=work + move,
        compute_cycles=work,
        communication_cycles=move,
        overlap_cycles=0.0,
        steps=2,
        hop_words=how.word_hops(1, height, words) * width,
        colours=colours,
        memory_bytes=ledger.items,
        compliance=how.compliance(p, height, width * height, ledger.used_bytes, colours, idle),
        accuracy=accuracy,
        closed_form_cycles=float(cycles.total),
        trace=[
            {"step": 0, "start_cycles": 0.0, "compute_cycles": work, "communication_cycles": 0.0},
            {"step": 1, "start_cycles": work, "compute_cycles": 0.0, "communication_cycles": move},
        ],
        details={"weights": form.name, "number_format": number_format, "batch": batch, "group": list(groups)},
    )
