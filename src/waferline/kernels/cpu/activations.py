"""Activations as the kernels want them: int8 with a scale per block, or f32, packed by blocks of N columns.

Column block c holds columns c*N ... c*N+N-1 (missing ones are zero). Within it

    codes   i8[K/4][N][4]      four neighbouring k of one column lie together: one broadcast feeds one multiply
    scales  f32[blocks][N]     one per 256 (`q8_k`) or 32 (`q8_0`) columns of the weight matrix
    sums    q8_k: i16[K/64][N][2] sums of 32 codes, in pairs;   q8_0: i32[K/32][N] minus the sum of 32 codes
    sums16  q8_k: i32[K/16][N] -32 times the sum of 16 codes (Q6_K's codes are biased by 32)

and for exact kernels  values f32[K][N], sums f32[K/32][N].

A block that holds a NaN or an infinity gets the scale NaN and zero codes, so every output of that column is NaN: a bad
activation is never rounded into a plausible number. Blocks smaller than `TINY` everywhere become zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import F32

INT8_MAX = 127
TINY = np.float32(2.0**-118)  # below this 127/max overflows f32
_FIRST_NON_FINITE = 0x7F800000  # bits of infinity; every NaN is above
_MAGNITUDE = 0x7FFFFFFF


@jit(fast=True)
def _largest_bits(bits: Any) -> Any:
    """Largest |x| as its bit pattern: integers order as the floats do, and NaN is the largest of all."""
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, np.int32(bits[i] & np.int32(_MAGNITUDE)))
    return largest


@intrinsic
def _float_of(typing_context: Any, bits: Any) -> Any:
    """The f32 whose bit pattern is `bits`."""
    return types.float32(types.int32), lambda context, builder, signature, a: builder.bitcast(a[0], F32)


@jit(fast=True)
def _round_codes(x: Any, inverse: Any, codes: Any) -> None:
    for i in range(codes.size):
        codes[i] = np.int8(np.int32(np.rint(x[i] * inverse)))


@jit
def quantise_block(x: Any, bits: Any, codes: Any) -> Any:
    """Round one block to int8, symmetric around zero; the scale (NaN when anything in it is not finite)."""
    largest = _largest_bits(bits)
    if largest >= np.int32(_FIRST_NON_FINITE):
        codes[:] = 0
        return np.float32(np.nan)
    top = _float_of(np.int32(largest))
    if top <= TINY:
        codes[:] = 0
        return np.float32(0.0)
    _round_codes(x, np.float32(INT8_MAX) / top, codes)
    return top / np.float32(INT8_MAX)


@jit(fast=True)
def _sum16(codes: Any) -> Any:
    total = np.int32(0)
    for i in range(codes.size):
        total = np.int32(total + np.int32(codes[i]))
    return total


@jit
def pack_q8_k(
    x: Any, bits: Any, n: int, first: int, last: int, codes: Any, sums: Any, sums16: Any, scales: Any
) -> None:
    """Column blocks first ... last-1 of x f32[columns, K], K a multiple of 256; `bits` is x seen as i32."""
    columns, blocks = x.shape[0], x.shape[1] // 256
    block_codes = np.empty(256, np.int8)
    words = block_codes.view(np.int32)
    out = codes.view(np.int32)  # (column block, k/4, n)
    for c in range(first, last):
        for i in range(n):
            column = c * n + i
            for b in range(blocks):
                at = c * blocks + b
                if column < columns:
                    part = slice(b * 256, b * 256 + 256)
                    scales[at * n + i] = quantise_block(x[column, part], bits[column, part], block_codes)
                else:
                    scales[at * n + i] = 0
                    block_codes[:] = 0
                for g in range(64):
                    out[(at * 64 + g) * n + i] = words[g]
                for j in range(8):
                    low = _sum16(block_codes[32 * j : 32 * j + 16])
                    high = _sum16(block_codes[32 * j + 16 : 32 * j + 32])
                    sums16[(at * 16 + 2 * j) * n + i] = np.int32(-32 * low)
                    sums16[(at * 16 + 2 * j + 1) * n + i] = np.int32(-32 * high)
                    sums[((at * 4 + (j >> 1)) * n + i) * 2 + (j & 1)] = np.int16(low + high)


@jit
def pack_q8_0(
    x: Any, bits: Any, n: int, first: int, last: int, codes: Any, sums: Any, sums16: Any, scales: Any
) -> None:
    """The same with a scale per 32 columns; K a multiple of 32. `sums` is i32 here; `sums16` is unused.

    An odd last block is followed by one of zeros: the tiles hold two.
    """
    columns, real_blocks = x.shape[0], x.shape[1] // 32
    blocks = (real_blocks + 1) // 2 * 2
    block_codes = np.empty(32, np.int8)
    words = block_codes.view(np.int32)
    out = codes.view(np.int32)
    for c in range(first, last):
        for i in range(n):
            column = c * n + i
            for b in range(blocks):
                at = c * blocks + b
                if column < columns and b < real_blocks:
                    part = slice(b * 32, b * 32 + 32)
                    scales[at * n + i] = quantise_block(x[column, part], bits[column, part], block_codes)
                else:
                    scales[at * n + i] = 0
                    block_codes[:] = 0
                for g in range(8):
                    out[(at * 8 + g) * n + i] = words[g]
                sums[at * n + i] = np.int32(-_sum16(block_codes))


@jit
def pack_f32(
    x: Any, bits: Any, n: int, first: int, last: int, values: Any, sums: Any, sums16: Any, scales: Any
) -> None:
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


PACKERS = {"q8_k": pack_q8_k, "q8_0": pack_q8_0, "f32": pack_f32}
CODE_TYPES = {"q8_k": np.int8, "q8_0": np.int8, "f32": np.float32}
SUM_TYPES = {"q8_k": np.int16, "q8_0": np.int32, "f32": np.float32}


def buffers(kind: str, k: int, n: int, column_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Empty (codes, sums, sums16, scales) for `column_blocks` blocks of `n` columns of `k` values (a whole number of blocks)."""
    columns = n * column_blocks
    return (
        np.zeros(columns * k, CODE_TYPES[kind]),
        np.zeros(columns * (k // 32), SUM_TYPES[kind]),
        np.zeros(columns * (k // 16) if kind == "q8_k" else 1, np.int32),
        np.zeros(columns * (k // {"q8_k": 256, "q8_0": 32, "f32": k}[kind]), np.float32),
    )


__all__ = ["CODE_TYPES", "PACKERS", "SUM_TYPES", "buffers", "pack_f32", "pack_q8_0", "pack_q8_k"]
