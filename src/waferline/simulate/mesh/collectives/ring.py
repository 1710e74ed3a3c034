"""Ring reduce-scatter and all-gather, as instructions on every line of an axis."""

from __future__ import annotations

import numpy as np

from waferline.errors import UnsupportedError
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.collectives import word_cycles
from waferline.simulate.mesh.collectives.tree import Vector
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.engine.program import Program
from waferline.simulate.mesh.lines import Cores, Ring

MAX_INSTRUCTIONS = 6_000_000  # unrolled rounds of all cores; about 1 GB of program


def chunk_bounds(vector: Vector, size: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """First element and length of each of `size` chunks; whole link words, the last ones may be short or empty."""
    words = -(-vector.count // lanes)
    chunk = -(-words // size) * lanes
    first = np.minimum(np.arange(size) * chunk, vector.count)
    return vector.addr + first, np.minimum(chunk, vector.count - first)


def add_ring_rounds(
    program: Program,
    p: MeshParameters,
    cores: Cores,
    ring: Ring,
    vector: Vector,
    colour: int,
    *,
    lanes: int,
    gather: bool,
) -> None:
    """Append P - 1 rounds: reduce-scatter, or all-gather of its result when `gather`.

    After reduce-scatter ring index r owns chunk (r + 1) mod P.

    Raises:
        UnsupportedError: the unrolled rounds would not fit in memory.
    """
    size = ring.size
    if 3 * size * cores.size > MAX_INSTRUCTIONS:
        raise UnsupportedError(f"a ring of {size} on {cores.size} cores is too long to run event by event",
                               where="ring", hint="use --fidelity closed")  # fmt: skip
    addr, count = chunk_bounds(vector, size, lanes)
    op = st.RECV if gather else st.RECV_ADD
    latency = p.stage_cycles - 2 * p.ramp_cycles
    for turn in range(size - 1):
        for position in range(size):
            r = int(ring.index[position])
            out = (r + 1 - turn if gather else r - turn) % size
            come = (out - 1) % size
            at, hears = cores[:, position], colour + int(ring.colour[ring.feeder[position]])
            program.add(at, op, c_in=hears, addr=addr[come], count=count[come], ticks=word_cycles(p),
                        latency=latency, run_async=1)  # fmt: skip
            sends = colour + int(ring.colour[position])
            program.add(at, st.SEND, c_out=sends, addr=addr[out], count=count[out], ticks=word_cycles(p), run_async=1)
            program.add(at, st.JOIN)
