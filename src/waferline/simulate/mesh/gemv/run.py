"""Simulate one GEMV (or batched, weight-stationary GEMM) or one all-reduce: time, numbers and limits in one result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters, check_grid
from waferline.machines.mesh_costs import collectives, gemv
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.collectives import allreduce
from waferline.simulate.mesh.collectives.tree import tree_levels
from waferline.simulate.mesh.colours import check_colours
from waferline.simulate.mesh.gemv.data import partial_products, reduce_in_order
from waferline.simulate.mesh.gemv.weights import DEQUANTIZE_OPERATIONS_PER_WEIGHT, WeightFormat, weight_format
from waferline.simulate.mesh.memory import SramLedger, check_formats
from waferline.simulate.mesh.result import FIDELITIES, MeshResult, compare, rounding_tolerance

MAX_EVENT_WORDS = 60_000_000  # words times cores; a minute of events


def simulate_allreduce(
    p: MeshParameters,
    words: int,
    width: int,
    height: int,
    *,
    reduction: str = "ktree:2",
    group: int | None = None,
    fidelity: str = "event",
    seed: int = 0,
) -> MeshResult:
    """All-reduce `words` fp32 values over rows and then columns; every core ends with the sum.

    Raises:
        InvalidInputError: sizes that are not positive.
        DoesNotFitError: the vector overflows a core's SRAM, or the tree its colours.
    """
    _check(p, (words,), width, height, fidelity)
    name, levels = collectives.parse_reduction(reduction)
    axes = (width > 1) + (height > 1)
    colours = axes * collectives.reduction_colours(reduction)
    check_colours(p, colours, what=f"{reduction} over {axes} axes")
    ledger = SramLedger(p)
    ledger.allocate("vector", 4 * words)
    closed = sum(float(collectives.allreduce_cycles(p, side, words, reduction, group)) for side in (width, height))
    groups = None if group is None else (group,) * (levels - 1)
    hops, cycles = _tree_hops(width, height, words, name, levels, groups), closed
    heat, finish, accuracy = None, None, None
    if fidelity == "event":
        if words * width * height > MAX_EVENT_WORDS:
            raise UnsupportedError(f"{words} words on {width}x{height} cores are too many to run event by event",
                                   where="all-reduce", hint="--fidelity closed")  # fmt: skip
        data = np.random.default_rng(seed).uniform(-1, 1, (height, width, words)).astype(np.float32)
        run = allreduce(p, data, reduction=reduction, groups=groups)
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
        fidelity=fidelity,
        cycles=cycles,
        compute_cycles=0.0,
        communication_cycles=cycles,
        overlap_cycles=0.0,
        steps=axes,
        hop_words=hops,
        colours=colours,
        memory_bytes=ledger.items,
        compliance=_compliance(p, (width, height), reduction, group, ledger, colours, 0),
        accuracy=accuracy,
        closed_form_cycles=closed,
        heat=heat,
        heat_quantity="link words sent by each core",
        finish_cycles=finish,
    )


def simulate_gemv(
    p: MeshParameters,
    m: int,
    n: int,
    width: int,
    height: int,
    *,
    batch: int = 1,
    reduction: str = "ktree:2",
    group: int | None = None,
    weights: str = "fp16",
    number_format: str = "fp16",
    accumulator: str = "fp32",
    data: bool = True,
    fidelity: str = "closed",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MeshResult:
    """c[N] = a[M] B[M, N] (or `batch` vectors at once) with B in place, reduced along y; B may be block-quantised.

    Raises:
        InvalidInputError: sizes that are not positive, or a grid the device does not have.
        DoesNotFitError: the tile overflows a core's SRAM, or the tree its colours.
    """
    _check(p, (m, n, batch), width, height, fidelity)
    check_formats(p, number_format, accumulator)
    form = weight_format(weights)
    rows, columns = form.rows_per_core(m, height), -(-n // width)
    ledger = SramLedger(p)
    ledger.allocate_all(_items(form, rows, columns, batch, number_format, accumulator))
    colours = collectives.reduction_colours(reduction) if height > 1 else 0
    check_colours(p, colours, what=reduction)
    decode_cycles = DEQUANTIZE_OPERATIONS_PER_WEIGHT / p.simd(number_format) if form.quantised else 0.0
    cycles = gemv.gemv_cycles(p, rows * height, n, width, height, reduction=reduction, group=group, batch=batch,
                              number_format=number_format, dequantize_cycles_per_weight=decode_cycles)  # fmt: skip
    words = -(-batch * columns // p.elements_per_word(number_format))
    name, levels = collectives.parse_reduction(reduction)
    groups = () if name != "ktree" else ((group,) * (levels - 1) if group else collectives.ktree_groups(height, levels))
    move, accuracy = float(cycles.communication), None
    if data:
        partial, exact = partial_products(m, n, height, form, batch=batch, number_format=number_format, seed=seed,
                                          progress=progress)  # fmt: skip
        kept = "int8" if number_format == "int8" else accumulator
        product = reduce_in_order(partial, groups, 0 if name == "chain" else None, kept)
        tolerance = rounding_tolerance(m, float(np.abs(exact).max()), kept)
        accuracy = compare(product, exact, tolerance, f"NumPy a @ B in float64, B as {form.name}")
    if fidelity == "event":
        move = _event_reduction(p, words, (width, height), reduction, groups)
    idle = width * height - min(-(-m // rows), height) * min(-(-n // columns), width)
    limits = _compliance(p, (1, height), reduction, group, ledger, colours, idle, cores=width * height)
    result = _gemv_result(p, (width, height), reduction, fidelity, cycles, move, ledger, limits, colours)
    return replace(
        result,
        operation=f"gemv {m}x{n}" + (f" batch {batch}" if batch > 1 else ""),
        hop_words=_tree_hops(1, height, words, name, levels, groups) * width,
        accuracy=accuracy,
        details={"weights": form.name, "number_format": number_format, "batch": batch, "group": list(groups)},
    )


def _gemv_result(
    p: MeshParameters,
    grid: tuple[int, int],
    reduction: str,
    fidelity: str,
    cycles: gemv.GemvCycles,
    move: float,
    ledger: SramLedger,
    limits: plmr.Compliance,
    colours: int,
) -> MeshResult:
    work = float(cycles.compute)
    return MeshResult(
        operation="gemv",
        algorithm=reduction,
        width=grid[0],
        height=grid[1],
        parameters=p,
        fidelity=fidelity,
        cycles=work + move,
        compute_cycles=work,
        communication_cycles=move,
        overlap_cycles=0.0,
        steps=2,
        hop_words=0,
        colours=colours,
        memory_bytes=ledger.items,
        compliance=limits,
        closed_form_cycles=float(cycles.total),
        trace=[
            {"step": 0, "start_cycles": 0.0, "compute_cycles": work, "communication_cycles": 0.0},
            {"step": 1, "start_cycles": work, "compute_cycles": 0.0, "communication_cycles": move},
        ],
    )


def _check(p: MeshParameters, sizes: tuple[int, ...], width: int, height: int, fidelity: str) -> None:
    check_grid(p, width, height)
    if min(sizes) < 1:
        raise InvalidInputError(f"sizes {sizes} must be positive", where="mesh", hint="at least 1")
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)


def _items(
    form: WeightFormat, rows: int, columns: int, batch: int, number_format: str, accumulator: str
) -> dict[str, int]:
    size = ELEMENT_BYTES[number_format]
    items = {"weight tile": form.tile_bytes(rows, columns), "input slice": batch * rows * size}
    items["output slice"] = batch * columns * (4 if number_format == "int8" else ELEMENT_BYTES[accumulator])
    if form.quantised:
        items["decoded column"] = rows * size
    return items


def _event_reduction(
    p: MeshParameters, words: int, grid: tuple[int, int], reduction: str, groups: tuple[int, ...]
) -> float:
    """Cycles of one column's all-reduce through the routers; columns are alike and share nothing."""
    if words * grid[1] > MAX_EVENT_WORDS:
        raise UnsupportedError(f"{words} words on {grid[1]} cores are too many to run event by event", where="GEMV",
                               hint="--fidelity closed")  # fmt: skip
    ones = np.ones((grid[1], 1, words))
    return allreduce(p, ones, reduction=reduction, axes="y", groups=groups).statistics.cycles


def _tree_hops(width: int, height: int, words: int, name: str, levels: int, groups: Sequence[int] | None) -> int:
    """Word-hops of an all-reduce over both axes: the links every chain of every level spans, and the broadcast back."""
    total = 0
    for lines, side in ((height, width), (width, height)):
        if side == 1:
            continue
        if name == "ring":  # 2 (P - 1) rounds of a chunk over the ring's 2 (P - 1) links
            total += lines * 2 * (side - 1) * 2 * (side - 1) * -(-words // side)
            continue
        sizes = () if name != "ktree" else collectives.ktree_groups(side, levels) if groups is None else groups
        tree = tree_levels(side, sizes, None)
        spans = sum(int(chain.members[-1] - chain.members[0]) for level in tree for chain in level)
        total += lines * words * (spans + side - 1)
    return total


def _compliance(
    p: MeshParameters,
    grid: tuple[int, int],
    reduction: str,
    group: int | None,
    ledger: SramLedger,
    colours: int,
    idle: int,
    cores: int | None = None,
) -> plmr.Compliance:
    side = max(grid)
    name, levels = collectives.parse_reduction(reduction)
    sizes = (group,) * (levels - 1) if group else collectives.ktree_groups(side, levels)
    stages, left = 0, side
    for size in (*sizes, side):
        members = min(size, left)
        stages, left = stages + members // 2, -(-left // members)
    stages = stages if name == "ktree" else side - 1 if name == "chain" else 2 * (side - 1)
    best = 2 * np.ceil(np.sqrt(side))  # WaferLLM section 6: K * N^(1/K) / 2 stages at K = 2, either arm order
    return plmr.Compliance(
        plmr.parallelism(idle, cores or grid[0] * grid[1], "rows beyond M or columns beyond N"),
        plmr.latency("software stages", stages, float(best), f"the longest chain of a line of {side}"),
        plmr.memory(ledger.used_bytes, p.sram_bytes),
        plmr.routing(colours, p.colours, "the tree's root"),
    )
