"""Which block of K each core holds at each step: the deterministic movement of tiles, followed core by core.

Tiles are not copied: a core holds the number of a block, and the numbers move by the ring's own send tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import IntArray
from waferline.simulate.mesh.lines import Ring, interleave_ring, natural_ring

Held = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RingPlan:
    """A two-ring scheme (MeshGEMM, Cannon): rings along x and y, block numbers, rotations of the rows of A."""

    ring_x: Ring
    ring_y: Ring
    steps: int

    @property
    def a_blocks(self) -> int:
        """Blocks of A a core is home to."""
        return self.steps // self.ring_x.size

    @property
    def b_blocks(self) -> int:
        """Blocks of B a core is home to."""
        return self.steps // self.ring_y.size

    @property
    def block_of_label(self) -> IntArray:
        """K block at virtual ring position q of a row before anything moves (home columns hold K in order)."""
        return (self.ring_x.order[:, None] * self.a_blocks + np.arange(self.a_blocks)).ravel()

    def rotation(self) -> IntArray:
        """Signed ring steps row y of A is rotated by before the first multiply, at most half a turn."""
        turns = -(self.ring_y.index * self.b_blocks)
        half = self.steps // 2
        return (turns + half) % self.steps - half if self.steps % 2 else (turns + half - 1) % self.steps - half + 1

    def a_home(self) -> Held:
        """Labels of A by (row, column, place in the core): every row holds all labels in ring order."""
        by_column = self.ring_x.index[:, None] * self.a_blocks + np.arange(self.a_blocks)
        return np.broadcast_to(by_column, (self.ring_y.size, *by_column.shape)).astype(np.int32)

    def b_skewed(self) -> Held:
        """Labels of B by (row, column, place) as the host places them: skewed along y by the column's position."""
        by_row = self.ring_y.index[:, None] * self.b_blocks + np.arange(self.b_blocks)
        skew = self.ring_x.index * self.a_blocks
        return ((by_row[:, None, :] + skew[None, :, None]) % self.steps).astype(np.int32)

    def aligned_a(self) -> Held:
        """A after the alignment rounds: each round the rows not yet done move one place, forward or back."""
        held, left = self.a_home(), self.rotation()
        while left.any():
            for sign, move in ((1, self._forward_x), (-1, self._backward_x)):
                rows = np.flatnonzero(np.sign(left) == sign)
                held[rows] = move(held[rows])
            left -= np.sign(left)
        return held

    def run(self) -> Iterator[tuple[Held, Held]]:
        """For each step, the block of A and of B that every core multiplies, as (row, column) of K block numbers."""
        a, b, block = self.aligned_a(), self.b_skewed(), self.block_of_label.astype(np.int32)
        for _ in range(self.steps):
            yield block[a[:, :, 0]], block[b[:, :, 0]]
            a, b = self._forward_x(a), self._forward_y(b)

    def _forward_x(self, held: Held) -> Held:
        moved = np.empty_like(held)
        moved[:, self.ring_x.target, 0] = held[:, :, -1]
        moved[:, :, 1:] = held[:, :, :-1]
        return moved

    def _backward_x(self, held: Held) -> Held:
        moved = np.empty_like(held)
        moved[:, :, -1] = held[:, self.ring_x.target, 0]
        moved[:, :, :-1] = held[:, :, 1:]
        return moved

    def _forward_y(self, held: Held) -> Held:
        moved = np.empty_like(held)
        moved[self.ring_y.target, :, 0] = held[:, :, -1]
        moved[:, :, 1:] = held[:, :, :-1]
        return moved


def ring_plan(algorithm: str, width: int, height: int) -> RingPlan:
    """The plan of `meshgemm` (interleaved rings) or `cannon` (neighbours and a wrap)."""
    make = interleave_ring if algorithm == "meshgemm" else natural_ring
    return RingPlan(make(width), make(height), int(np.lcm(width, height)))


def block_schedule(algorithm: str, width: int, height: int) -> Iterator[tuple[Held, Held]]:
    """Blocks of A and B each core multiplies at each step. SUMMA and all-gather take block s at step s everywhere."""
    if algorithm in ("meshgemm", "cannon"):
        yield from ring_plan(algorithm, width, height).run()
        return
    for step in range(int(np.lcm(width, height))):
        block = np.full((height, width), step, np.int32)
        yield block, block


def core_order(algorithm: str, width: int, height: int) -> tuple[IntArray, IntArray]:
    """Rows and columns in ring order, in which neighbours hold neighbouring blocks."""
    if algorithm in ("meshgemm", "cannon"):
        plan = ring_plan(algorithm, width, height)
        return plan.ring_y.order, plan.ring_x.order
    return np.arange(height), np.arange(width)
