"""SUMMA, all-gather GEMM and GEMM-T as event programs on a square mesh: blocks are broadcast, gathered or reduced."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import RECEIVE_CYCLES, word_cycles
from waferline.machines.mesh_costs.gemm import tile_gemm_cycles
from waferline.simulate.mesh.collectives.tree import Chain, Vector, add_chain
from waferline.simulate.mesh.engine import MeshMachine, Program, RunStatistics
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.gemm.tiles import cut, gathered
from waferline.simulate.mesh.lines import Ring, interleave_ring, lines, route_multicast


def run_summa(
    p: MeshParameters, a: NDArray, b: NDArray, side: int, *, number_format: str = "fp16", accumulator: str = "fp32"
) -> tuple[FloatArray, RunStatistics]:
    """A @ B by SUMMA: step i multicasts column i of A along rows and row i of B along columns, then multiplies.

    Routes are switched between steps, so each step runs by itself; nothing of one overlaps the next.
    """
    tiles = cut(a, b, side)
    mt, kt, nt = tiles.tile
    sizes = np.cumsum([0, mt * kt, kt * nt, mt * kt, kt * nt, mt * nt])  # home A, home B, work A, work B, C
    machine = MeshMachine(p, side, side, int(sizes[-1]), number_format=number_format, accumulator=accumulator)
    machine.memory[:, : sizes[1]] = tiles.a.reshape(side * side, -1)
    machine.memory[:, sizes[1] : sizes[2]] = tiles.b.reshape(side * side, -1)
    compute = float(tile_gemm_cycles(p, mt, kt, nt, number_format))
    runs = []
    for root in range(side):
        program = Program(side, side, 2, colour_limit=p.colours)
        program.add(program.cores, st.COMPUTE, ticks=p.step_cycles + (p.start_cycles if root == 0 else 0))
        for colour, (axis, size) in enumerate((("x", mt * kt), ("y", kt * nt))):
            cores = lines(side, side, axis)
            home, work = int(sizes[colour]), int(sizes[2 + colour])
            if side > 1:
                route_multicast(program, cores, axis, root, colour)
                program.add(cores[:, root], st.SEND, c_out=colour, addr=home, count=size, ticks=word_cycles(p),
                            run_async=1)  # fmt: skip
                program.add(np.delete(cores, root, axis=1).ravel(), st.RECV, c_in=colour, addr=work, count=size,
                            ticks=word_cycles(p), latency=RECEIVE_CYCLES, run_async=1)  # fmt: skip
        program.add(program.cores, st.JOIN)
        program.add(program.cores, st.BARRIER)
        x, y = program.cores % side, program.cores // side
        left, right = np.where(x == root, sizes[0], sizes[2]), np.where(y == root, sizes[1], sizes[3])
        program.add(program.cores, st.MAC, addr=left, aux=right, aux2=int(sizes[4]), ticks=compute)
        runs.append(machine.run(program, tile=tiles.tile))
    return gathered(machine, int(sizes[4]), tiles), sequence(runs)


def run_allgather(
    p: MeshParameters, a: NDArray, b: NDArray, side: int, *, number_format: str = "fp16", accumulator: str = "fp32"
) -> tuple[FloatArray, RunStatistics]:
    """A @ B by gathering a row panel of A and a column panel of B in every core, relayed in software."""
    tiles = cut(a, b, side)
    mt, kt, nt = tiles.tile
    b_start, c_start = side * mt * kt, side * (mt * kt + kt * nt)
    machine = MeshMachine(p, side, side, c_start + mt * nt, number_format=number_format, accumulator=accumulator)
    machine.memory[:, : mt * kt] = tiles.a.reshape(side * side, -1)
    machine.memory[:, b_start : b_start + kt * nt] = tiles.b.reshape(side * side, -1)
    ring = interleave_ring(side)
    program = Program(side, side, max(1, 2 * ring.n_colours), colour_limit=p.colours)
    program.add(program.cores, st.COMPUTE, ticks=p.start_cycles)
    if side > 1:
        for first, axis in ((0, "x"), (ring.n_colours, "y")):
            ring.route(program, lines(side, side, axis), axis, first)
        _add_gather_rounds(program, p, ring, (0, mt * kt), (b_start, kt * nt))
    program.add(program.cores, st.COMPUTE, ticks=p.step_cycles)
    x, y = program.cores % side, program.cores // side
    compute = float(tile_gemm_cycles(p, mt, kt, nt, number_format))
    for place in range(side):
        # A's place t holds the block t ring steps behind this column; the same block of B lies elsewhere in its panel.
        block = ring.order[(ring.index[x] - place) % side]
        other = (ring.index[y] - ring.index[block]) % side
        program.add(program.cores, st.MAC, addr=place * mt * kt, aux=b_start + other * kt * nt, aux2=c_start,
                    ticks=compute)  # fmt: skip
    statistics = machine.run(program, tile=tiles.tile)
    return gathered(machine, c_start, tiles), statistics


def _add_gather_rounds(program: Program, p: MeshParameters, ring: Ring, a: tuple[int, int], b: tuple[int, int]) -> None:
    side, cores = ring.size, program.cores
    relay = p.stage_cycles - 2 * p.ramp_cycles
    for turn in range(side - 1):
        for first, at, (start, size) in ((0, cores % side, a), (ring.n_colours, cores // side, b)):
            program.add(cores, st.RECV, c_in=first + ring.colour[ring.feeder[at]], addr=start + (turn + 1) * size,
                        count=size, ticks=word_cycles(p), latency=relay, run_async=1)  # fmt: skip
            program.add(cores, st.SEND, c_out=first + ring.colour[at], addr=start + turn * size, count=size,
                        ticks=word_cycles(p), run_async=1)  # fmt: skip
        program.add(cores, st.JOIN)
        program.add(cores, st.BARRIER)


def run_gemm_t(
    p: MeshParameters, a: NDArray, b: NDArray, side: int, *, number_format: str = "fp16", accumulator: str = "fp32"
) -> tuple[FloatArray, RunStatistics]:
    """A @ B.T, B (N x K) not transposed: blocks of B move along y, partial tiles are reduced along x to their owner.

    Every step is a run of its own, because the owning column, and with it the routes, differ from step to step.
    """
    tiles = cut(a, np.ascontiguousarray(b.T), side)  # only for the sizes and the tiles of A
    mt, kt, nt = tiles.tile
    b_home = cut(b, np.zeros((b.shape[1], 1)), side).a  # B's own tiles, (row of N, column of K)
    turned = b_home.reshape(side, side, nt, kt).transpose(0, 1, 3, 2).reshape(side, side, -1)
    sizes = np.cumsum([0, mt * kt, kt * nt, kt * nt, mt * nt, mt * nt])  # A, B, B arriving, scratch, C
    machine = MeshMachine(p, side, side, int(sizes[-1]), number_format=number_format, accumulator=accumulator)
    machine.memory[:, : sizes[1]] = tiles.a.reshape(side * side, -1)
    machine.memory[:, sizes[1] : sizes[2]] = turned.reshape(side * side, -1)
    ring = interleave_ring(side)
    compute = float(tile_gemm_cycles(p, mt, nt, kt, number_format))
    runs = []
    for step in range(side):
        here, there = int(sizes[1 + step % 2]), int(sizes[2 - step % 2])
        program = Program(side, side, 2 + ring.n_colours, colour_limit=p.colours)
        machine.memory[:, sizes[3] : sizes[4]] = 0
        program.add(program.cores, st.COMPUTE, ticks=p.step_cycles + (p.start_cycles if step == 0 else 0))
        if side > 1:
            _add_shift(program, p, ring, here, there, kt * nt)
        program.add(program.cores, st.MAC, addr=0, aux=here, aux2=int(sizes[3]), ticks=compute)
        program.add(program.cores, st.JOIN)
        program.add(program.cores, st.BARRIER)
        for row in range(side):
            owner = int(ring.order[(ring.index[row] - step) % side])
            cores = lines(side, side, "x")[row : row + 1]
            add_chain(program, p, cores, "x", Chain(np.arange(side), owner), Vector(int(sizes[3]), mt * nt), 0)
        runs.append(machine.run(program, tile=tiles.tile))
        for row in range(side):  # the owner keeps the finished block
            core = row * side + int(ring.order[(ring.index[row] - step) % side])
            machine.memory[core, sizes[4] :] = machine.memory[core, sizes[3] : sizes[4]]
    return gathered(machine, int(sizes[4]), tiles), sequence(runs)


def _add_shift(program: Program, p: MeshParameters, ring: Ring, here: int, there: int, size: int) -> None:
    cores = program.cores
    y = cores // program.width
    ring.route(program, lines(program.width, program.height, "y"), "y", 2)
    program.add(cores, st.RECV, c_in=2 + ring.colour[ring.feeder[y]], addr=there, count=size, ticks=word_cycles(p),
                latency=RECEIVE_CYCLES, run_async=1)  # fmt: skip
    program.add(cores, st.SEND, c_out=2 + ring.colour[y], addr=here, count=size, ticks=word_cycles(p), run_async=1)


def sequence(runs: list[RunStatistics]) -> RunStatistics:
    """Runs one after another, each starting when the slowest core of the last is done."""
    last = runs[-1]
    before = sum(run.cycles for run in runs[:-1])
    values = {f.name: getattr(last, f.name) for f in fields(RunStatistics)}
    for name in ("compute_cycles", "communication_cycles", "overlap_cycles", "link_words", "events"):
        values[name] = sum(getattr(run, name) for run in runs)
    marks = np.cumsum([0.0] + [run.cycles for run in runs[:-1]])
    values |= {"cycles": before + last.cycles, "finish_cycles": before + last.finish_cycles}
    values |= {"mark_first_cycles": marks, "mark_last_cycles": marks}
    values |= {"peak_queue_words": max(r.peak_queue_words for r in runs), "colours": max(r.colours for r in runs)}
    return RunStatistics(**values)
