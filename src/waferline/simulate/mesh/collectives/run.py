"""Run a collective on real data, event by event, and set its closed form beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs import collectives as costs
from waferline.simulate.mesh.collectives.ring import add_ring_rounds, chunk_bounds
from waferline.simulate.mesh.collectives.tree import Vector, add_broadcast, add_tree_reduce, tree_levels, tree_root
from waferline.simulate.mesh.engine import MeshMachine, Program, RunStatistics
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.lines import FORWARD, interleave_ring, lines, natural_ring


@dataclass(frozen=True, slots=True)
class CollectiveRun:
    """What the cores hold afterwards (height, width, elements), the run's account, and the closed form's cycles."""

    values: FloatArray
    statistics: RunStatistics
    closed_form_cycles: float


def allreduce(
    p: MeshParameters,
    data: ArrayLike,
    *,
    reduction: str = "ktree:2",
    axes: str = "xy",
    groups: Sequence[int] | None = None,
    root: int | None = None,
    ring: str = "natural",
    number_format: str = "fp32",
) -> CollectiveRun:
    """Sum `data` (height, width, elements) along each axis of `axes` in turn; every core ends with the sum.

    `reduction` is `chain`, `ring` or `ktree:K`; `groups` are the K-tree's sizes, `root` the position it ends at;
    `ring` is `natural` or `interleave`.

    Raises:
        DoesNotFitError: more colours than the device routes.
    """
    values, machine = _machine(p, data, number_format)
    height, width, count = values.shape
    name, k = costs.parse_reduction(reduction)
    used = [axis for axis in axes if (width if axis == "x" else height) > 1]
    vector, closed, colour = Vector(0, count), 0.0, 0
    program = Program(width, height, _colours(used, name, k), colour_limit=p.colours)
    for axis in used:
        cores = lines(width, height, axis)
        size = cores.shape[1]
        words = -(-count // machine.lanes)
        if name == "ring":
            layout = interleave_ring(size) if ring == "interleave" else natural_ring(size)
            layout.route(program, cores, axis, colour)
            for gather in (False, True):
                add_ring_rounds(program, p, cores, layout, vector, colour, lanes=machine.lanes, gather=gather)
            closed += float(costs.ring_allreduce_cycles(p, size, words))
            colour += 3
            continue
        sizes = () if name == "chain" else tuple(groups if groups is not None else costs.ktree_groups(size, k))
        end = 0 if name == "chain" and root is None else root
        levels = tree_levels(size, sizes, end)
        colour = add_tree_reduce(program, p, cores, axis, levels, vector, colour)
        colour = add_broadcast(program, p, cores, axis, tree_root(levels), vector, colour)
        closed += float(costs.ktree_allreduce_cycles(p, size, words, sizes, end))
    return _finish(machine, program, closed)


def reduce_to_root(
    p: MeshParameters,
    data: ArrayLike,
    *,
    groups: Sequence[int] = (),
    root: int | None = 0,
    axis: str = "x",
    number_format: str = "fp32",
) -> CollectiveRun:
    """Reduce along `axis` to position `root` of each line (the tree's middle when None)."""
    values, machine = _machine(p, data, number_format)
    height, width, count = values.shape
    cores = lines(width, height, axis)
    levels = tree_levels(cores.shape[1], groups, root)
    program = Program(width, height, 2 * len(levels), colour_limit=p.colours)
    add_tree_reduce(program, p, cores, axis, levels, Vector(0, count), 0)
    closed = costs.ktree_reduce_cycles(p, cores.shape[1], -(-count // machine.lanes), groups, root)
    return _finish(machine, program, float(closed))


def reduce_scatter(
    p: MeshParameters, data: ArrayLike, *, axis: str = "x", number_format: str = "fp32"
) -> CollectiveRun:
    """Ring reduce-scatter along `axis`: position i ends with the sum of chunk (i + 1) mod P in place."""
    values, machine = _machine(p, data, number_format)
    height, width, count = values.shape
    cores, layout = lines(width, height, axis), natural_ring(width if axis == "x" else height)
    program = Program(width, height, 3, colour_limit=p.colours)
    if layout.size > 1:
        layout.route(program, cores, axis, 0)
    add_ring_rounds(program, p, cores, layout, Vector(0, count), 0, lanes=machine.lanes, gather=False)
    closed = costs.ring_reduce_scatter_cycles(p, layout.size, -(-count // machine.lanes))
    return _finish(machine, program, float(closed))


def owned_chunks(count: int, size: int, lanes: int) -> list[slice]:
    """The elements each position of a natural ring owns after `reduce_scatter`."""
    first, length = chunk_bounds(Vector(0, count), size, lanes)
    chunks = [slice(int(a), int(a + n)) for a, n in zip(first, length, strict=True)]
    return [chunks[(r + 1) % size] for r in range(size)]


def broadcast(p: MeshParameters, data: ArrayLike, *, number_format: str = "fp32") -> CollectiveRun:
    """Multicast core (0, 0)'s vector over the rectangle: along the first row, and down every column from there."""
    values, machine = _machine(p, data, number_format)
    height, width, count = values.shape
    program = Program(width, height, 1, colour_limit=p.colours)
    if width * height > 1:
        _route_rectangle(program)
        program.add(0, st.SEND, c_out=0, count=count, ticks=costs.word_cycles(p))
        rest = program.cores[1:]
        program.add(rest, st.RECV, c_in=0, count=count, ticks=costs.word_cycles(p), latency=costs.RECEIVE_CYCLES)
    closed = costs.broadcast_2d_cycles(p, width, height, -(-count // machine.lanes))
    return _finish(machine, program, float(closed))


def _route_rectangle(program: Program) -> None:
    width, height = program.width, program.height
    for core in program.cores:
        x, y = int(core) % width, int(core) // width
        outputs = 0 if core == 0 else 1 << st.RAMP
        outputs |= 1 << st.EAST if y == 0 and x + 1 < width else 0
        outputs |= 1 << FORWARD["y"] if y + 1 < height else 0
        source = st.RAMP if core == 0 else st.WEST if y == 0 else st.NORTH
        program.route(core, 0, source, outputs)


def _colours(axes: list[str], name: str, k: int) -> int:
    return max(1, len(axes) * (3 if name == "ring" else 2 * k + 1))


def _machine(p: MeshParameters, data: ArrayLike, number_format: str) -> tuple[FloatArray, MeshMachine]:
    values = np.asarray(data, float)
    if values.ndim != 3 or values.size == 0:
        raise InvalidInputError(f"data has shape {values.shape}, not (height, width, elements)", where="collective")
    height, width, count = values.shape
    machine = MeshMachine(p, width, height, count, number_format=number_format)
    machine.memory[:] = values.reshape(height * width, count)
    return values, machine


def _finish(machine: MeshMachine, program: Program, closed: float) -> CollectiveRun:
    statistics = machine.run(program)
    values = machine.memory.reshape(machine.height, machine.width, -1).copy()
    return CollectiveRun(values, statistics, closed)
