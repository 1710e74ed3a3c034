"""Lines of cores (the rows or columns of a mesh), the streams laid along them, and rings folded onto them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.arrays import IntArray
from waferline.errors import InvalidInputError
from waferline.simulate.mesh.engine import state as st
from waferline.simulate.mesh.engine.program import Program

Cores = IntArray

FORWARD = {"x": st.EAST, "y": st.SOUTH}
BACKWARD = {"x": st.WEST, "y": st.NORTH}


def lines(width: int, height: int, axis: str) -> Cores:
    """Core numbers as (line, position): rows for axis `x`, columns for axis `y`."""
    grid = np.arange(width * height).reshape(height, width)
    return grid if axis == "x" else grid.T


def route_stream(program: Program, cores: Cores, axis: str, source: int, target: int, colour: int) -> None:
    """On every line of `cores` (line, position), route `colour` from position `source` to `target` through hardware."""
    if source == target:
        raise InvalidInputError(f"a stream from position {source} to itself", where="route")
    ahead, back = (FORWARD[axis], BACKWARD[axis]) if target > source else (BACKWARD[axis], FORWARD[axis])
    step = 1 if target > source else -1
    program.route(cores[:, source], colour, st.RAMP, 1 << ahead)
    for middle in range(source + step, target, step):
        program.route(cores[:, middle], colour, back, 1 << ahead)
    program.route(cores[:, target], colour, back, 1 << st.RAMP)


def route_multicast(program: Program, cores: Cores, axis: str, source: int, colour: int) -> None:
    """On every line, route `colour` from position `source` to all others; routers copy to their core and onwards."""
    ahead, back, last = FORWARD[axis], BACKWARD[axis], cores.shape[1] - 1
    both = (1 << ahead if source < last else 0) | (1 << back if source > 0 else 0)
    program.route(cores[:, source], colour, st.RAMP, both)
    for position in range(source + 1, last + 1):
        program.route(cores[:, position], colour, back, (1 << ahead if position < last else 0) | (1 << st.RAMP))
    for position in range(source):
        program.route(cores[:, position], colour, ahead, (1 << back if position > 0 else 0) | (1 << st.RAMP))


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring folded onto a line of `size` cores.

    `order[r]` is the physical position of ring index r; `index` is its inverse; data move from ring index r to r + 1.
    `colour[i]` is the colour position i sends on.
    """

    order: IntArray
    index: IntArray
    colour: IntArray

    @property
    def size(self) -> int:
        """Cores in the ring."""
        return int(self.order.size)

    @property
    def target(self) -> IntArray:
        """Position each position sends to."""
        return self.order[(self.index + 1) % self.size]

    @property
    def feeder(self) -> IntArray:
        """Position each position receives from."""
        return self.order[(self.index - 1) % self.size]

    @property
    def longest_hop(self) -> int:
        """Links the longest of its steps crosses."""
        return int(np.abs(self.target - np.arange(self.size)).max())

    @property
    def n_colours(self) -> int:
        """Colours its streams take."""
        return int(self.colour.max()) + 1

    def reversed(self) -> Ring:
        """The same ring run the other way round."""
        return _coloured(self.order[::-1].copy())

    def route(self, program: Program, cores: Cores, axis: str, first_colour: int) -> None:
        """Route every step of the ring on every line of `cores`."""
        for position in range(self.size):
            colour = first_colour + int(self.colour[position])
            route_stream(program, cores, axis, position, int(self.target[position]), colour)


def natural_ring(size: int) -> Ring:
    """Neighbour to neighbour, and one wrap across the whole line (Cannon, HPDC'24 ring)."""
    return _coloured(np.arange(size))


def interleave_ring(size: int) -> Ring:
    """0, 2, 4, ... and back over the odd positions: no step longer than two hops (WaferLLM, Algorithm 1).

    No ring on a line does better: with one-hop steps only, the two ends cannot be joined.
    """
    return _coloured(np.concatenate([np.arange(0, size, 2), np.arange(size - 1 - size % 2, 0, -2)]))


def _coloured(order: IntArray) -> Ring:
    """Give each stream, from the left end on, the lowest colour free at every router it crosses (fewest possible)."""
    size = order.size
    index = np.empty(size, np.int64)
    index[order] = np.arange(size)
    target = order[(index + 1) % size]
    colour = np.zeros(size, np.int64)
    used = np.zeros((size, size if size < 8 else 8), bool)  # (router, colour); a ring on a line needs few
    for position in sorted(range(size), key=lambda i: (min(int(target[i]), i), i)):
        low, high = sorted((position, int(target[position])))
        colour[position] = int(np.argmin(used[low : high + 1].any(axis=0)))
        used[low : high + 1, colour[position]] = True
    return Ring(order, index, colour)
