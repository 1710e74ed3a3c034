"""Activations as the kernels want them: int8 with a scale per block, or f32, packed by blocks of N columns.

Column block c holds columns c*N ... c*N+N-1 (missing ones are zero). Within it

    codes   i8[K/4][N][4]      four neighbouring k of one column lie together: one broadcast feeds one multiply
    scales  f32[blocks][N]     one per 256 (`q8_k`) or 32 (`q8_0`) columns of the weight matrix
    sums    q8_k: i16[K/64][N][2] sums of 32 codes, in pairs;   q8_0: i32[K/32][N] minus the sum of 32 codes
    sums16  q8_k: i32[K/16][N] -32 times the sum of 16 codes (Q6_K's codes are biased by 32)

and for exact kernels  values f32[K][N], sums f32[K/32][N].

Tile registers want whole rows instead (`q8_k_tiles`, blocks of 16 tokens):

    codes   i8[blocks][column blocks][4][16][64]  64 neighbouring k of 16 tokens are one tile
    scales  f32[blocks][column blocks][16];  sums bf16[blocks][column blocks][16][16] of 32 codes:
            64 * (sum >> 6) of eight, then sum & 63 of the same, both exact;  sums16 unused

A block that holds a NaN or an infinity gets the scale NaN and zero codes, so every output of that column is NaN: a bad
activation is never rounded into a plausible number. Blocks smaller than `TINY` everywhere become zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.amx import REGISTER_BYTES, TILE_K
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import (
    F32,
    I16,
    I32,
    larger_i32,
    largest_i32,
    load_f32,
    magnitude_bits,
    mul,
    round_even,
    spread,
    store_i8,
    sum_lanes,
)

INT8_MAX = 127
TINY = np.float32(2.0**-118)  # below this 127/max overflows f32
LARGEST = np.float32(np.finfo(np.float32).max)
_TILES_BYTES = 256 // TILE_K * REGISTER_BYTES  # 256 columns of 16 tokens
_LOW = 63  # lower part of a sum of 32 codes: what is above has 7 bits and a sign, so bf16 holds both exactly


@intrinsic
def _float_of(typing_context: Any, bits: Any) -> Any:
    """The f32 whose bit pattern is `bits`."""
    return types.float32(types.int32), lambda context, builder, signature, a: builder.bitcast(a[0], F32)


@intrinsic
def _bf16(typing_context: Any, x: Any) -> Any:
    """The upper half of an f32, as i16: a bfloat16, exact if the lower half is empty."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        bits = builder.bitcast(a[0], I32)
        return builder.trunc(builder.lshr(bits, I32(16)), I16)

    return types.int16(types.float32), code


@jit
def quantise(x: Any, at: int, count: int, codes: Any, to: int, apart: int, sums: Any) -> Any:
    """Round x[at ... at+count-1] (f32 elements, a multiple of 16) to int8, symmetric around zero, at codes[to ...].

    Every 64 codes begin `apart` bytes after the 64 before; sums f32[count/16] gets the sum of each 16. Returns the scale:
    NaN, with zero codes, when anything is not finite.
    """
    largest = magnitude_bits(load_f32(x, at * 4))
    for i in range(16, count, 16):
        largest = larger_i32(largest, magnitude_bits(load_f32(x, (at + i) * 4)))
    top = _float_of(largest_i32(largest))
    bad = not top <= LARGEST
    if bad or top <= TINY:
        nothing = spread(np.float32(0.0))
        for i in range(0, count, 16):
            store_i8(codes, to + i // 64 * apart + i % 64, nothing)
            sums[i // 16] = 0
        return np.float32(np.nan if bad else 0.0)
    inverse = spread(np.float32(INT8_MAX) / top)
    for i in range(0, count, 16):
        rounded = round_even(mul(load_f32(x, (at + i) * 4), inverse))
        store_i8(codes, to + i // 64 * apart + i % 64, rounded)
        sums[i // 16] = sum_lanes(rounded)
    return top / np.float32(INT8_MAX)


@jit
def pack_q8_k(x: Any, n: int, first: int, last: int, codes: Any, sums: Any, sums16: Any, scales: Any) -> None:
    """Column blocks first ... last-1 of x f32[columns, K], K a multiple of 256."""
    columns, width = x.shape
    blocks = width // 256
    block_codes = np.zeros(256, np.int8)
    of16 = np.zeros(16, np.float32)
    words = block_codes.view(np.int32)
    out = codes.view(np.int32)  # (column block, k/4, n)
    for c in range(first, last):
        for i in range(n):
            column = c * n + i
            for b in range(blocks):
                at = c * blocks + b
                if column < columns:
                    scales[at * n + i] = quantise(x, column * width + b * 256, 256, block_codes, 0, 64, of16)
                else:
                    scales[at * n + i] = 0
                    block_codes[:], of16[:] = 0, 0
                for g in range(64):
                    out[(at * 64 + g) * n + i] = words[g]
                for j in range(16):
                    sums16[(at * 16 + j) * n + i] = np.int32(-32 * of16[j])
                for j in range(8):
                    sums[((at * 4 + (j >> 1)) * n + i) * 2 + (j & 1)] = np.int16(of16[2 * j] + of16[2 * j + 1])


@jit
def pack_q8_0(x: Any, n: int, first: int, last: int, codes: Any, sums: Any, sums16: Any, scales: Any) -> None:
    """The same with a scale per 32 columns; K a multiple of 32. `sums` is i32 here; `sums16` is unused.

    An odd last block is followed by one of zeros: the tiles hold two.
    """
    columns, width = x.shape
    real_blocks = width // 32
    blocks = (real_blocks + 1) // 2 * 2
    block_codes = np.zeros(32, np.int8)
    of16 = np.zeros(2, np.float32)
    words = block_codes.view(np.int32)
    out = codes.view(np.int32)
    for c in range(first, last):
        for i in range(n):
            column = c * n + i
            for b in range(blocks):
                at = c * blocks + b
                if column < columns and b < real_blocks:
                    scales[at * n + i] = quantise(x, column * width + b * 32, 32, block_codes, 0, 64, of16)
                else:
                    scales[at * n + i] = 0
                    block_codes[:], of16[:] = 0, 0
                for g in range(8):
                    out[(at * 8 + g) * n + i] = words[g]
                sums[at * n + i] = np.int32(-(of16[0] + of16[1]))


@jit
def pack_f32(x: Any, n: int, first: int, last: int, values: Any, sums: Any, sums16: Any, scales: Any) -> None:
    """Exact activations. K need not be a multiple of anything: `values` is zero-padded to the matrix's whole blocks."""
    columns, k_total = x.shape
    padded = values.size // ((columns + n - 1) // n * n)
    for c in range(first, last):
        for i in range(n):
            column = c * n + i
            for b in range(padded // 32):
                total = np.float32(0.0)
                for k in range(b * 32, b * 32 + 32):
                    value = x[column, k] if column < columns and k < k_total else np.float32(0.0)
                    values[(c * padded + k) * n + i] = value
                    total += value
                sums[(c * (padded // 32) + b) * n + i] = total


@jit
def pack_q8_k_tiles(x: Any, n: int, first: int, last: int, codes: Any, sums: Any, sums16: Any, scales: Any) -> None:
    """Blocks of 16 tokens first ... last-1 of x f32[tokens, K], K a multiple of 256, as tiles. `n` is 16."""
    tokens, width = x.shape
    column_blocks = (tokens + n - 1) // n
    of16 = np.zeros(16, np.float32)
    for c in range(first, last):
        for b in range(width // 256):
            at = b * column_blocks + c
            for t in range(n):
                token = c * n + t
                to = at * _TILES_BYTES + t * TILE_K
                if token < tokens:
                    scales[at * n + t] = quantise(x, token * width + b * 256, 256, codes, to, REGISTER_BYTES, of16)
                else:
                    scales[at * n + t], of16[:] = 0, 0
                    for tile in range(to, to + _TILES_BYTES, REGISTER_BYTES):
                        codes[tile : tile + TILE_K] = 0
                for j in range(8):
                    total = np.int32(of16[2 * j] + of16[2 * j + 1])
                    sums[(at * n + t) * 16 + j] = _bf16(np.float32(total & ~_LOW))
                    sums[(at * n + t) * 16 + 8 + j] = _bf16(np.float32(total & _LOW))


PACKERS = {"q8_k": pack_q8_k, "q8_k_tiles": pack_q8_k_tiles, "q8_0": pack_q8_0, "f32": pack_f32}
CODE_TYPES = {"q8_k": np.int8, "q8_k_tiles": np.int8, "q8_0": np.int8, "f32": np.float32}
SUM_TYPES = {"q8_k": np.int16, "q8_k_tiles": np.int16, "q8_0": np.int32, "f32": np.float32}
SPARE_SUMS = 16  # a tile row is read beyond the last sums
_COLUMNS_PER_SUM = {"q8_k_tiles": 16}  # two parts a sum
_COLUMNS_PER_SCALE = {"q8_k": 256, "q8_k_tiles": 256, "q8_0": 32}


def buffers(kind: str, k: int, n: int, column_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Zeroed (codes, sums, sums16, scales) for `column_blocks` blocks of `n` columns of `k` values (a whole number of
    blocks); the codes start on a cache line."""
    columns = n * column_blocks
    codes = aligned_empty(columns * k * np.dtype(CODE_TYPES[kind]).itemsize).view(CODE_TYPES[kind])
    codes[:] = 0
    return (
        codes,
        np.zeros(columns * (k // _COLUMNS_PER_SUM.get(kind, 32)) + SPARE_SUMS, SUM_TYPES[kind]),
        np.zeros(columns * (k // 16) if kind == "q8_k" else 1, np.int32),
        np.zeros(columns * (k // _COLUMNS_PER_SCALE.get(kind, k)), np.float32),
    )


__all__ = ["CODE_TYPES", "PACKERS", "SUM_TYPES", "buffers", "pack_f32", "pack_q8_0", "pack_q8_k", "pack_q8_k_tiles"]
