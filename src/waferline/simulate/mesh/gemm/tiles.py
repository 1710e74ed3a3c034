"""A and B cut into the tiles of a square mesh, and C put together from its tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.machines.mesh_costs.gemm import gemm_tiling
from waferline.simulate.mesh.engine import MeshMachine


@dataclass(frozen=True, slots=True)
class Tiles:
    """A and B cut into the square mesh's tiles, (row, column, elements), and the tile sizes."""

    a: FloatArray
    b: FloatArray
    tile: tuple[int, int, int]
    shape: tuple[int, int]


def cut(a: NDArray, b: NDArray, side: int) -> Tiles:
    """Tiles of A (M x K) and B (K x N), padded with zeros."""
    t = gemm_tiling(a.shape[0], a.shape[1], b.shape[1], side, side)
    mt, kt, nt = int(t.mt), int(t.kt), int(t.nt)

    def tiles(matrix: NDArray, rows: int, columns: int) -> FloatArray:
        whole = np.zeros((side * rows, side * columns))
        whole[: matrix.shape[0], : matrix.shape[1]] = matrix
        return whole.reshape(side, rows, side, columns).transpose(0, 2, 1, 3).reshape(side, side, -1)

    return Tiles(tiles(a, mt, kt), tiles(b, kt, nt), (mt, kt, nt), (a.shape[0], b.shape[1]))


def gathered(machine: MeshMachine, start: int, tiles: Tiles) -> FloatArray:
    """C from its tiles, which lie at `start` in every core."""
    side, (mt, _, nt) = machine.width, tiles.tile
    c = machine.memory[:, start : start + mt * nt].reshape(side, side, mt, nt)
    return c.transpose(0, 2, 1, 3).reshape(side * mt, side * nt)[: tiles.shape[0], : tiles.shape[1]]
