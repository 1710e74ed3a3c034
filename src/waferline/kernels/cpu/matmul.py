"""Matrix times activations on packed weights: y[n, rows] = x[n, cols] @ W[rows, cols]^T.

One batch of any size is cut into column blocks of one of `WIDTHS` columns; row tiles are shared between the threads in
static contiguous parts, so a run is repeatable and each thread streams its own half of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from waferline.errors import InvalidInputError
from waferline.kernels.cpu import activations
from waferline.kernels.cpu.aligned import aligned_f32
from waferline.kernels.cpu.amx import TOKENS
from waferline.kernels.cpu.isa import current_isa
from waferline.kernels.cpu.jit import specialise
from waferline.kernels.cpu.microkernel import tile_kernel
from waferline.kernels.cpu.packed import PackedMatrix
from waferline.kernels.cpu.threads import use_threads
from waferline.kernels.cpu.tiles import ROWS, Tile, tile_of
from waferline.kernels.cpu.wide import tiles_sweep

WIDTHS = (1, 2, 3, 4, 6, 8, 12)  # columns a kernel is compiled for; twelve fill the 32 vector registers
EXACT_WIDTHS = (1, 2, 4, 8)
PREFETCH_BYTES = 3008  # how far ahead of the loads: best of 512 ... 32768 on an AVX-512 server core
LEAST_FOR_TILES = 16  # columns; fewer are faster in vectors (110 against 70 GMAC/s at eight)
GROUP_COLUMNS = 48  # columns of activations for which the weights stream once: best of 24 ... 768 (8 % over 768)

# Names the specialised copies bind.
TILE: Any = None
PACK: Any = None
SWEEP: Any = None
MULTIPLY: Any = None
TILE_BYTES = N = 0


def _sweep(
    weights: Any, first: int, row_tile: int, last: int, blocks: int, x: Any, sums: Any, sums16: Any, scales: Any,
    y: Any, ldy: int, column_blocks: int, group: int, ahead: int,
) -> None:  # fmt: skip
    """Row tiles row_tile ... last-1 of the matrix at byte `first`, all column blocks, `group` of them at a time."""
    for c0 in range(0, column_blocks, group):
        for r in range(row_tile, last):
            w = first + r * blocks * TILE_BYTES
            for c in range(c0, min(c0 + group, column_blocks)):
                TILE(
                    weights,
                    w,
                    blocks,
                    x,
                    sums,
                    sums16,
                    scales,
                    c * blocks,
                    y,
                    (c * N * ldy + r * ROWS) * 4,
                    ldy * 4,
                    ahead,
                )


def _multiply(
    weights: Any, first: int, row_tiles: int, blocks: int, x: Any, codes: Any, sums: Any, sums16: Any,
    scales: Any, y: Any, column_blocks: int, group: int, ahead: int, threads: int,
) -> None:  # fmt: skip
    """Pack the activations, then the product; y f32[column_blocks*N, row_tiles*16]."""
    ldy = y.shape[1]
    if threads == 1:
        PACK(x, N, 0, column_blocks, codes, sums, sums16, scales)
        start = threads - 1  # 0, but not the literal: compiled for that, the same loops read a tenth slower (measured)
        SWEEP(
            weights, first, start, row_tiles, blocks, codes, sums, sums16, scales, y, ldy, column_blocks, group, ahead
        )
        return
    if column_blocks == 1:
        PACK(x, N, 0, 1, codes, sums, sums16, scales)
    else:
        for t in prange(threads):
            start, end = t * column_blocks // threads, (t + 1) * column_blocks // threads
            PACK(x, N, start, end, codes, sums, sums16, scales)
    for t in prange(threads):
        start, end = t * row_tiles // threads, (t + 1) * row_tiles // threads
        SWEEP(weights, first, start, end, blocks, codes, sums, sums16, scales, y, ldy, column_blocks, group, ahead)


class Layout(NamedTuple):
    """How the activations of a product are packed: which way, and how many columns to a block."""

    kind: str
    columns: int


def layout_for(tile: Tile, columns: int, exact: bool = False) -> Layout:
    """The layout a batch of `columns` is fastest in: the compiled width that wastes least (the widest among equals), or
    tiles where the processor has them and enough columns fill them."""
    exact = exact or tile.exact
    if not exact and current_isa().tiles and tile.activation == "q8_k" and columns >= LEAST_FOR_TILES:
        return Layout("q8_k_tiles", TOKENS)
    widths = EXACT_WIDTHS if exact else WIDTHS
    width = min(widths, key=lambda w: (-(-columns // w) * (w + 1.5), -w))  # 1.5: the unpacking each block pays again
    return Layout("f32" if exact else tile.activation, width)


def _in_turn(
    weights: Any, apart: int, count: int, row_tiles: int, blocks: int, x: Any, codes: Any, sums: Any, sums16: Any,
    scales: Any, y: Any, column_blocks: int, group: int, ahead: int, threads: int,
) -> None:  # fmt: skip
    """`count` products of matrices that lie `apart` bytes from each other."""
    for i in range(count):
        MULTIPLY(
            weights,
            i * apart,
            row_tiles,
            blocks,
            x,
            codes,
            sums,
            sums16,
            scales,
            y,
            column_blocks,
            group,
            ahead,
            threads,
        )


@cache
def sweep_kernel(name: str, layout: Layout) -> Any:
    """The compiled `_sweep` of a format for activations in a layout."""
    if layout.kind == "q8_k_tiles":
        return tiles_sweep(name)
    tile, isa, n = tile_of(name), current_isa(), layout.columns
    kernel = tile_kernel(tile, n, layout.kind == "f32", isa)
    return specialise(_sweep, _label("sweep", name, layout), TILE=kernel, TILE_BYTES=tile.tile_bytes, N=n)


@cache
def multiply_kernel(name: str, layout: Layout) -> Any:
    """The compiled `_multiply` of a format and layout (not yet compiled until its first call)."""
    packer = activations.PACKERS[layout.kind]
    sweep = sweep_kernel(name, layout)
    label = _label("multiply", name, layout)
    return specialise(_multiply, label, parallel=True, PACK=packer, SWEEP=sweep, N=layout.columns)


@cache
def in_turn_kernel(name: str, layout: Layout) -> Any:
    """The compiled `_in_turn` of a format and layout."""
    return specialise(_in_turn, _label("in_turn", name, layout), MULTIPLY=multiply_kernel(name, layout))


def _label(what: str, name: str, layout: Layout) -> str:
    return f"{what}_{name.lower()}_{layout.kind}_{layout.columns}_{current_isa().name.replace('-', '_')}"


@dataclass(slots=True)
class Matmul:
    """One packed matrix with the work arrays for a batch of `columns`: calling it allocates nothing.

    Not for use from two threads at once; it runs on `threads` threads itself.
    """

    matrix: PackedMatrix
    columns: int = 1
    threads: int = 1
    exact: bool = False
    _arrays: tuple[np.ndarray, ...] = field(init=False, repr=False)
    _y: np.ndarray = field(init=False, repr=False)
    _run: Any = field(init=False, repr=False)
    _numbers: tuple[int, int] = field(init=False, repr=False)
    _layout: Layout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.columns < 1 or self.threads < 1:
            raise InvalidInputError(f"a batch of {self.columns} on {self.threads} threads", where="matmul")
        tile = self.matrix.tile
        self.exact = self.exact or tile.exact
        self._layout = layout = layout_for(tile, self.columns, self.exact)
        n = layout.columns
        blocks = -(-self.columns // n)
        self._arrays = activations.buffers(layout.kind, self.matrix.padded_cols, n, blocks)
        self._y = aligned_f32(blocks * n, self.matrix.row_tiles * ROWS)
        self._y[:] = 0
        self._run = multiply_kernel(tile.name, layout)
        self._numbers = (blocks, max(1, GROUP_COLUMNS // n))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x f32[columns, cols] (C-contiguous) -> y f32[columns, rows]: a view that the next call overwrites."""
        self._checked(x)
        use_threads(self.threads)
        m, (blocks, group) = self.matrix, self._numbers
        self._run(
            m.data, 0, m.row_tiles, m.blocks, x, *self._arrays, self._y,
            blocks, group, PREFETCH_BYTES, self.threads,
        )  # fmt: skip
        return self._y[: self.columns, : m.rows]

    def in_turn(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The product with each of several matrices of this one's shape and format, u8 `weights`[count, bytes], one after
        the other in one compiled loop, as in a model's step; the last one's y.

        For measurements: a call from Python between two products of a large matrix costs a tenth of one, because the
        weights that went by have pushed the interpreter out of the caches.
        """
        self._checked(x)
        m, (blocks, group) = self.matrix, self._numbers
        if (
            weights.ndim != 2
            or weights.shape[1] != m.data.size
            or weights.dtype != np.uint8
            or not weights.flags.c_contiguous
        ):
            raise InvalidInputError(
                f"weights are {weights.dtype} {weights.shape}, not u8 (n, {m.data.size})", where="matmul"
            )
        use_threads(self.threads)
        in_turn_kernel(m.tile.name, self._layout)(
            weights.reshape(-1), m.data.size, weights.shape[0], m.row_tiles, m.blocks, x, *self._arrays, self._y,
            blocks, group, PREFETCH_BYTES, self.threads,
        )  # fmt: skip
        return self._y[: self.columns, : m.rows]

    def _checked(self, x: np.ndarray) -> None:
        if x.shape != (self.columns, self.matrix.cols) or x.dtype != np.float32 or not x.flags.c_contiguous:
            wanted = f"contiguous float32 ({self.columns}, {self.matrix.cols})"
            raise InvalidInputError(f"x is {x.dtype} {x.shape}, not {wanted}", where="matmul")


def matmul(matrix: PackedMatrix, x: np.ndarray, *, threads: int = 1, exact: bool = False) -> np.ndarray:
    """y = x @ W^T for a packed W of (rows, cols).

    x: f32 (cols,) or (n, cols); y: f32 (rows,) or (n, rows). `exact` keeps f32 activations; otherwise they are rounded to
    int8 per 256 columns (K formats, TQ2_0) or per 32 (Q8_0, Q4_0), as llama.cpp does. Float weights are always exact.

    NaN and infinity: with int8 activations any in a column of x make that whole column of y NaN; on the exact path and
    for float weights they follow IEEE arithmetic. Raises `InvalidInputError` for a wrong shape.
    """
    x = np.asarray(x)
    if x.ndim not in (1, 2) or x.shape[-1] != matrix.cols or x.shape[0] == 0 or x.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"x has shape {x.shape} and type {x.dtype}; the matrix has {matrix.cols} columns", where="matmul"
        )
    batch = np.ascontiguousarray(x.reshape(-1, matrix.cols), np.float32)
    y = Matmul(matrix, batch.shape[0], threads, exact)(batch)
    return np.ascontiguousarray(y).reshape(*x.shape[:-1], matrix.rows)


__all__ = ["EXACT_WIDTHS", "WIDTHS", "Layout", "Matmul", "layout_for", "matmul", "multiply_kernel", "sweep_kernel"]
