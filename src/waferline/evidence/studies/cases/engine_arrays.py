"""Cycles of five matrix engines for C[m, n] = A[m, k] B[k, n], tile by tile.

Each formula counts the tiles and the cycles of one, pipeline fill included. Source: Wu et al. 2025, arXiv:2503.06342,
and its published test benches; the two systolic formulas are checked against `systolic`, register by register.

Systolic arrays simulated register by register: they compute the product and count the cycles it took.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray, IntArray


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


Model = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, Array2D], FloatArray]
ENGINES: Mapping[str, Model] = {
    "systolic, output stationary": systolic_output_stationary,
    "systolic, weight stationary": systolic_weight_stationary,
    "cube": cube,
    "adder tree": adder_tree,
    "outer product": outer_product,
}


def output_stationary(a: IntArray, b: IntArray, rows: int, columns: int) -> tuple[IntArray, int]:
    """A[m, k] B[k, n] and its cycles: A moves right, B moves down, sums stay and drain downwards."""
    (m, k), n = a.shape, b.shape[1]
    out, cycles = np.zeros((m, n), np.int64), 0
    for i in range(0, m, rows):
        for j in range(0, n, columns):
            left = np.zeros((rows, k), np.int64)
            top = np.zeros((k, columns), np.int64)
            part_a, part_b = a[i : i + rows], b[:, j : j + columns]
            left[: len(part_a)], top[:, : part_b.shape[1]] = part_a, part_b
            sums, used = _flow(left, top)
            out[i : i + rows, j : j + columns] = sums[: len(part_a), : part_b.shape[1]]
            cycles += used + rows
    return out, cycles


def _flow(left: IntArray, top: IntArray) -> tuple[IntArray, int]:
    (rows, k), columns = left.shape, top.shape[1]
    a, b, sums = (np.zeros((rows, columns), np.int64) for _ in range(3))
    cycle = 0
    while cycle < k + rows + columns - 2:  # until the last element has had its last operands
        a[:, 1:], b[1:] = a[:, :-1].copy(), b[:-1].copy()
        for r in range(rows):  # row r starts r cycles late
            a[r, 0] = left[r, cycle - r] if 0 <= cycle - r < k else 0
        for c in range(columns):
            b[0, c] = top[cycle - c, c] if 0 <= cycle - c < k else 0
        sums += a * b
        cycle += 1
    return sums, cycle


def weight_stationary(a: IntArray, b: IntArray, rows: int, columns: int) -> tuple[IntArray, int]:
    """A[m, k] B[k, n] and its cycles: B stays in the array, A moves right, partial sums move down."""
    (m, k), n = a.shape, b.shape[1]
    out, cycles = np.zeros((m, n), np.int64), 0
    for i in range(0, k, rows):
        for j in range(0, n, columns):
            weights = np.zeros((rows, columns), np.int64)
            inputs = np.zeros((m, rows), np.int64)
            part = b[i : i + rows, j : j + columns]
            weights[: part.shape[0], : part.shape[1]] = part
            inputs[:, : part.shape[0]] = a[:, i : i + rows]
            sums, used = _stream(inputs, weights)
            out[:, j : j + columns] += sums[:, : part.shape[1]]
            cycles += rows + used  # the weights enter a row a cycle
    return out, cycles


def _stream(inputs: IntArray, weights: IntArray) -> tuple[IntArray, int]:
    m, (rows, columns) = len(inputs), weights.shape
    x, sums = (np.zeros((rows, columns), np.int64) for _ in range(2))
    out = np.zeros((m, columns), np.int64)
    cycle = 0
    while cycle < m + rows + columns - 2:
        x[:, 1:] = x[:, :-1].copy()
        for r in range(rows):
            x[r, 0] = inputs[cycle - r, r] if 0 <= cycle - r < m else 0
        above = np.vstack([np.zeros((1, columns), np.int64), sums[:-1]])
        sums = above + x * weights
        for c in range(columns):  # column c's sum of input i leaves the last row in cycle i + rows - 1 + c
            done = cycle - (rows - 1) - c
            if 0 <= done < m:
                out[done, c] = sums[-1, c]
        cycle += 1
    return out, cycle
