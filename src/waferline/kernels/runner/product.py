"""One vector times any matrix of a model: packed in the layout of its format, rows shared by the threads."""

from __future__ import annotations

from typing import Any

from numba import prange

from waferline.kernels.cpu.activations import pack_f32, pack_q8_0, pack_q8_k
from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.matmul import PREFETCH_BYTES, layout_for, sweep_kernel
from waferline.kernels.cpu.simd import cycle_counter
from waferline.kernels.cpu.tiles import CODES, TILES
from waferline.kernels.runner.state import LAYOUTS, QUANTISE
from waferline.kernels.runner.weights import BLOCKS, FORMAT, MATRIX_BYTES, OFFSET, ROW_TILES

_Q8K_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_k")
_Q80_FORMATS = tuple(CODES[t.name] for t in TILES.values() if t.activation == "q8_0")


def _sweep(fmt: int, w: Any, at: int, first: int, last: int, blocks: int, k: Any, z: Any, f: Any, y: Any) -> None:
    """Row tiles first ... last-1 of one matrix: with this link's kernel if that is its format's, else with the next link's."""
    if fmt == CODE:
        p = (k, z, f)[LAYOUT]
        SWEEP(w, at, first, last, blocks, p.codes, p.sums, p.sums16, p.scales, y, y.shape[1], 1, 1, PREFETCH_BYTES)
    else:
        NEXT(fmt, w, at, first, last, blocks, k, z, f, y)


@jit
def _no_sweep(fmt: int, w: Any, at: int, first: int, last: int, blocks: int, k: Any, z: Any, f: Any, y: Any) -> None:
    """The end of the chain: every format of `TILES` is before it."""


def _product(
    fmt: int, w: Any, at: int, row_tiles: int, blocks: int, k: Any, z: Any, f: Any, y: Any, threads: int
) -> None:
    """y[0] = one matrix times the packed activation of its kind, row tiles shared by the threads."""
    for t in prange(threads):
        NEXT(fmt, w, at, t * row_tiles // threads, (t + 1) * row_tiles // threads, blocks, k, z, f, y)


# Names that the copies below bind.
CODE, LAYOUT = 0, 0
SWEEP: Any = None
NEXT: Any = None


def _chain() -> Any:
    """`_product` over a chain of one `_sweep` a format, the most usual first."""
    link: Any = _no_sweep
    for tile in reversed(TILES.values()):
        kernel = sweep_kernel(tile.name, layout_for(tile, 1))
        layout = LAYOUTS.index(tile.activation)
        name = f"sweep_{tile.name.lower()}_or_next"
        link = specialise(_sweep, name, CODE=CODES[tile.name], LAYOUT=layout, SWEEP=kernel, NEXT=link)
    return specialise(_product, "product_of_any", parallel=True, NEXT=link)


_product_of_any = _chain()


@jit
def _pack(x: Any, fmt: int, packed: Any, ready: Any) -> None:
    """Pack x f32[1, width] for a format unless `ready` says it is; `ready` is cleared when x changes."""
    k, z, f = packed
    if fmt in _Q8K_FORMATS:
        if not ready[0]:
            pack_q8_k(x, 1, 0, 1, k.codes, k.sums, k.sums16, k.scales)
        ready[0] = 1
    elif fmt in _Q80_FORMATS:
        if not ready[1]:
            pack_q8_0(x, 1, 0, 1, z.codes, z.sums, z.sums16, z.scales)
        ready[1] = 1
    else:
        if not ready[2]:
            width = (x.shape[1] + 31) // 32 * 32
            pack_f32(x, 1, 0, 1, f.codes[:width], f.sums, f.sums16, f.scales)
        ready[2] = 1


@jit
def times(
    x: Any, row: Any, expert: int, arena: Any, packed: Any, ready: Any, y: Any, ticks: Any, op: int, threads: int
) -> None:
    """y = W x for the matrix of a table row (the `expert`-th of its kind)."""
    start = cycle_counter()
    _pack(x, row[FORMAT], packed, ready)
    middle = cycle_counter()
    at = row[OFFSET] + expert * row[MATRIX_BYTES]
    k, z, f = packed
    _product_of_any(row[FORMAT], arena, at, row[ROW_TILES], row[BLOCKS], k, z, f, y, threads)
    ticks[QUANTISE] += middle - start
    ticks[op] += cycle_counter() - middle
