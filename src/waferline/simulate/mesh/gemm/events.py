"""GEMM as event programs: blocks travel word by word through the routers and are multiplied where they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import RECEIVE_CYCLES, word_cycles
from waferline.machines.mesh_costs.gemm import tile_gemm_cycles
from waferline.simulate.mesh.engine import MeshMachine, Program, RunStatistics
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.gemm.blocks import RingPlan, ring_plan
from waferline.simulate.mesh.gemm.tiles import Tiles, cut, gathered
from waferline.simulate.mesh.lines import lines


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a core keeps its blocks: two places each for A and B, then C; sizes in elements."""

    a_size: int
    b_size: int
    c_size: int

    @property
    def b(self) -> int:
        """First element of B's first place."""
        return 2 * self.a_size

    @property
    def c(self) -> int:
        """First element of C."""
        return self.b + 2 * self.b_size

    @property
    def elements(self) -> int:
        """Elements in all."""
        return self.c + self.c_size


def run_ring_gemm(
    p: MeshParameters,
    a: NDArray,
    b: NDArray,
    side: int,
    *,
    algorithm: str = "meshgemm",
    number_format: str = "fp16",
    accumulator: str = "fp32",
    lockstep: bool = True,
) -> tuple[FloatArray, RunStatistics]:
    """A @ B by MeshGEMM or Cannon on a square mesh, event by event; the product and the run's account.

    In lock step every round ends when its slowest core is done, as the paper counts; otherwise cores go on as soon as
    their own blocks are there.
    """
    tiles, plan = cut(a, b, side), ring_plan(algorithm, side, side)
    mt, kt, nt = tiles.tile
    layout = Layout(mt * kt, kt * nt, mt * nt)
    machine = MeshMachine(p, side, side, layout.elements, number_format=number_format, accumulator=accumulator)
    _place(machine, plan, layout, tiles)
    program = _ring_program(p, plan, layout, float(tile_gemm_cycles(p, mt, kt, nt, number_format)), lockstep)
    statistics = machine.run(program, tile=tiles.tile)
    return gathered(machine, layout.c, tiles), statistics


def _place(machine: MeshMachine, plan: RingPlan, layout: Layout, tiles: Tiles) -> None:
    """Home blocks of A; blocks of B as the host skews them."""
    side, block = machine.width, plan.block_of_label
    memory = machine.memory.reshape(side, side, -1)
    home, skewed = block[plan.a_home()[:, :, 0]], block[plan.b_skewed()[:, :, 0]]
    rows, columns = np.arange(side)[:, None], np.arange(side)[None, :]
    memory[:, :, : layout.a_size] = tiles.a[rows, home]
    memory[:, :, layout.b : layout.b + layout.b_size] = tiles.b[skewed, columns]


def _ring_program(p: MeshParameters, plan: RingPlan, layout: Layout, compute: float, lockstep: bool) -> Program:
    side = plan.ring_x.size
    back = plan.ring_x.reversed()
    colour_y = plan.ring_x.n_colours
    colour_back = colour_y + plan.ring_y.n_colours
    program = Program(side, side, colour_back + back.n_colours, colour_limit=p.colours)
    program.add(program.cores, st.COMPUTE, ticks=p.start_cycles)
    if side > 1:
        plan.ring_x.route(program, lines(side, side, "x"), "x", 0)
        plan.ring_y.route(program, lines(side, side, "y"), "y", colour_y)
        back.route(program, lines(side, side, "x"), "x", colour_back)
        _add_alignment(program, p, plan, layout, lockstep)
    first = program.position(program.cores)
    program.mark(program.cores, plan.steps)
    program.add(program.cores, st.COMPUTE, ticks=p.step_cycles)
    odd = np.repeat(plan.rotation() % 2, side)  # an odd rotation leaves A in its second place
    b_start, b_delta = layout.b + odd * layout.b_size, (1 - 2 * odd) * layout.b_size
    if side > 1:
        x, y = program.cores % side, program.cores // side
        for op, other in ((st.RECV, 1), (st.SEND, 0)):
            _add_move(program, p, op, plan.ring_x.colour[x if op == st.SEND else plan.ring_x.feeder[x]],
                      other * layout.a_size, (1 - 2 * other) * layout.a_size, layout.a_size)  # fmt: skip
            _add_move(program, p, op, colour_y + plan.ring_y.colour[y if op == st.SEND else plan.ring_y.feeder[y]],
                      b_start + other * b_delta, (1 - 2 * other) * b_delta, layout.b_size)  # fmt: skip
    program.add(program.cores, st.MAC, addr=0, delta=layout.a_size, aux=b_start, aux_delta=b_delta, aux2=layout.c,
                ticks=compute)  # fmt: skip
    program.add(program.cores, st.JOIN)
    program.add(program.cores, st.SWAP)
    if lockstep:
        program.add(program.cores, st.BARRIER)
    program.add(program.cores, st.LOOP, addr=first, count=plan.steps)
    return program


def _add_move(
    program: Program, p: MeshParameters, op: int, colour: NDArray, addr: NDArray | int, delta: NDArray | int, count: int
) -> None:
    column = "c_out" if op == st.SEND else "c_in"
    program.add(program.cores, op, addr=addr, delta=delta, count=count, ticks=word_cycles(p), latency=RECEIVE_CYCLES,
                run_async=1, **{column: colour})  # fmt: skip


def _add_alignment(program: Program, p: MeshParameters, plan: RingPlan, layout: Layout, lockstep: bool) -> None:
    """Rotate each row of A to where B waits for it; rows that are done only keep step."""
    side, rotation = plan.ring_x.size, plan.rotation()
    back = plan.ring_x.reversed()
    colour_back = plan.ring_x.n_colours + plan.ring_y.n_colours
    grid = lines(side, side, "x")
    rounds = plan.steps // 2
    for forward in (True, False):
        rows = np.flatnonzero(rotation > 0 if forward else rotation < 0)
        if rows.size == 0:
            continue
        ring, colour = (plan.ring_x, 0) if forward else (back, colour_back)
        cores = grid[rows].ravel()
        x = np.tile(np.arange(side), rows.size)
        first = program.position(cores)
        program.add(cores, st.COMPUTE, ticks=p.align_base_cycles)
        program.add(cores, st.RECV, c_in=colour + ring.colour[ring.feeder[x]], addr=layout.a_size,
                    delta=-layout.a_size, count=layout.a_size, ticks=word_cycles(p), latency=RECEIVE_CYCLES,
                    run_async=1)  # fmt: skip
        program.add(cores, st.SEND, c_out=colour + ring.colour[x], delta=layout.a_size, count=layout.a_size,
                    ticks=max(p.align_word_cycles, word_cycles(p)), run_async=1)  # fmt: skip
        program.add(cores, st.JOIN)
        program.add(cores, st.SWAP)
        if lockstep:
            program.add(cores, st.BARRIER)
        program.add(cores, st.LOOP, addr=first, count=np.repeat(np.abs(rotation[rows]), side))
    if lockstep:
        idle = np.flatnonzero(np.abs(rotation) < rounds)
        cores = grid[idle].ravel()
        first = program.position(cores)
        program.add(cores, st.BARRIER)
        program.add(cores, st.LOOP, addr=first, count=np.repeat(rounds - np.abs(rotation[idle]), side))
