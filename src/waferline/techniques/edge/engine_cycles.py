"""Cycles of five matrix engines for C[m, n] = A[m, k] B[k, n], tile by tile.

Each formula counts the tiles and the cycles of one, pipeline fill included. Source: Wu et al. 2025, arXiv:2503.06342,
and its published test benches; the two systolic formulas are checked against `systolic`, register by register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Array2D:
    """Rows and columns of multipliers (depth: the third side of a cube), and pipeline stages after them."""

    rows: int
    columns: int
    depth: int = 1
    stages: int = 0


def _tiles(size: npt.ArrayLike, tile: int) -> FloatArray:
    return np.ceil(np.asarray(size, np.float64) / tile)


def systolic_output_stationary(m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D) -> FloatArray:
    """Operands flow, sums stay: k + rows + columns - 2 cycles a tile, and `rows` to drain the sums."""
    return _tiles(m, a.rows) * _tiles(n, a.columns) * (np.asarray(k) + 2 * a.rows + a.columns - 2)


def systolic_weight_stationary(m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D) -> FloatArray:
    """Weights stay (rows: k, columns: n): `rows` cycles to load them, then m + rows + columns - 2."""
    return _tiles(k, a.rows) * _tiles(n, a.columns) * (np.asarray(m) + 2 * a.rows + a.columns - 2)


def cube(m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D) -> FloatArray:
    """rows x columns x depth multiply-adds a cycle."""
    return _tiles(m, a.rows) * _tiles(n, a.columns) * _tiles(k, a.depth) + a.stages


def adder_tree(m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D) -> FloatArray:
    """One row of A a cycle against `columns` trees of `rows` products each."""
    return np.asarray(m) * _tiles(k, a.rows) * _tiles(n, a.columns) + a.stages


def outer_product(m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D) -> FloatArray:
    """A two-dimensional matrix of accumulators: one k a cycle."""
    return _tiles(m, a.rows) * _tiles(n, a.columns) * np.asarray(k) + a.stages


def digit_serial_column(
    m: npt.ArrayLike, k: npt.ArrayLike, n: npt.ArrayLike, a: Array2D, cycles_per_operand: float
) -> FloatArray:
    """A column of `columns` elements that share the encoded digits of A and skip its zeros."""
    return np.asarray(m) * np.asarray(k) * cycles_per_operand * _tiles(n, a.columns) + a.stages


Model = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, Array2D], FloatArray]
ENGINES: Mapping[str, Model] = {
    "systolic, output stationary": systolic_output_stationary,
    "systolic, weight stationary": systolic_weight_stationary,
    "cube": cube,
    "adder tree": adder_tree,
    "outer product": outer_product,
}
