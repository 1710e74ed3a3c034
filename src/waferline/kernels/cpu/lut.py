"""Matrix times vector by table look-up, for weights of one to four bits (T-MAC, Wei et al., arXiv 2407.00088).

For every four activations the sixteen sums of their subsets are tabulated once; four weight bits of one plane then index
a sum, so a look-up replaces four multiplications whatever the weights' width, and the cost grows with bits, not with an
unpacking scheme. Here the table holds f32 and a look-up is one permutation of a 16-lane register: 16 rows at once, and
the result equals that of the dequantised weights up to f32 rounding (T-MAC's own int8 tables add 1e-5 of NMSE).

    W[r, k] = scale[r, g] * code[r, k] + offset[r, g]          g = k // group
    y[r]    = sum_g scale[r, g] * sum_p 2**p * sum_quads table[quad][bits of plane p] + offset[r, g] * sum x in g

A tile is 16 rows x 32 columns: per plane one vector whose lane r holds the eight 4-bit indices of row r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange
from numba.extending import intrinsic

from waferline.errors import InvalidInputError
from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.isa import current_isa
from waferline.kernels.cpu.jit import jit, specialise
from waferline.kernels.cpu.simd import (
    F32,
    I32,
    LANES,
    VF,
    Lanes,
    add,
    call,
    f32x16,
    fma,
    i32x16,
    load_f32,
    load_i32,
    spread,
    spread_f32,
    store_f32,
    vector,
)
from waferline.kernels.cpu.threads import use_threads

ROWS, CHUNK_K, QUAD = 16, 32, 4
MAX_BITS = 4
BITS = 0  # bound by the specialised copies


def _permute512(lanes: Lanes, table: Any, index: Any) -> Any:
    return call(lanes.b, "llvm.x86.avx512.permvar.sf.512", VF, [table, index])


def _permute256(lanes: Lanes, table: Any, index: Any) -> Any:
    """Two permutations of eight lanes and a choice by the fourth index bit, for each half of the rows."""
    halves = [lanes.half(table, I32, 8, i) for i in (0, 1)]
    eight = vector(F32, 8)
    out = []
    for h in (0, 1):
        which = lanes.half(index, I32, 8, h)
        both = [call(lanes.b, "llvm.x86.avx2.permps", eight, [lanes.b.bitcast(t, eight), which]) for t in halves]
        high = lanes.b.icmp_signed(
            "!=", lanes.b.and_(which, ir.Constant(which.type, [8] * 8)), ir.Constant(which.type, [0] * 8)
        )
        out.append(lanes.b.bitcast(lanes.b.select(high, both[1], both[0]), vector(I32, 8)))
    return lanes.b.bitcast(lanes.join(out, 8), VF)


def _permute_plain(lanes: Lanes, table: Any, index: Any) -> Any:
    result = ir.Constant(VF, ir.Undefined)
    for lane in range(LANES):
        at = ir.Constant(I32, lane)
        value = lanes.b.extract_element(table, lanes.b.extract_element(index, at))
        result = lanes.b.insert_element(result, value, at)
    return result


_PERMUTES: dict[str, Callable[[Lanes, Any, Any], Any]] = {
    "vpdpbusd": _permute512,
    "maddubs512": _permute512,
    "maddubs256": _permute256,
}


@intrinsic(prefer_literal=True)
def look_up(typing_context: Any, table: Any, indices: Any, quad: Any) -> Any:
    """table[(indices >> 4*quad) & 15] in each lane; `quad` a literal 0 ... 7."""
    shift = QUAD * quad.literal_value

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        lanes = Lanes(builder)
        index = lanes.and_(lanes.shift_right(a[1], shift), 15)
        return _PERMUTES.get(current_isa().byte_dot, _permute_plain)(lanes, a[0], index)

    return f32x16(f32x16, i32x16, quad), code


@jit
def _build_tables(x: Any, tables: Any) -> None:
    """tables f32[K/4, 16]: entry i of quad q is the sum of the x[4q + t] whose bit t of i is set."""
    for q in range(tables.shape[0]):
        table = tables[q]
        table[0] = 0
        for t in range(QUAD):
            value = x[QUAD * q + t]
            for i in range(1 << t):
                table[(1 << t) + i] = table[i] + value


def _matvec(
    tiles: Any,
    scales: Any,
    offsets: Any,
    tables: Any,
    sums: Any,
    y: Any,
    row_tiles: int,
    groups: int,
    chunks: int,
    threads: int,
) -> None:
    """tiles u8; scales, offsets f32[row tiles, groups, 16]; sums f32[groups]; `chunks` of 32 columns in a group."""
    tile_bytes = BITS * 64
    for thread in prange(threads):
        for r in range(thread * row_tiles // threads, (thread + 1) * row_tiles // threads):
            total = spread(np.float32(0.0))
            for g in range(groups):
                inner = spread(np.float32(0.0))
                for p in range(BITS - 1, -1, -1):  # Horner: the most significant plane is doubled most often
                    plane = spread(np.float32(0.0))
                    for c in range(chunks):
                        chunk = g * chunks + c
                        w = load_i32(tiles, (r * groups * chunks + chunk) * tile_bytes + p * 64)
                        t = chunk * 8 * 64
                        a = add(look_up(load_f32(tables, t), w, 0), look_up(load_f32(tables, t + 64), w, 1))
                        b = add(look_up(load_f32(tables, t + 128), w, 2), look_up(load_f32(tables, t + 192), w, 3))
                        d = add(look_up(load_f32(tables, t + 256), w, 4), look_up(load_f32(tables, t + 320), w, 5))
                        e = add(look_up(load_f32(tables, t + 384), w, 6), look_up(load_f32(tables, t + 448), w, 7))
                        plane = add(plane, add(add(a, b), add(d, e)))
                    inner = fma(inner, spread(np.float32(2.0)), plane)
                at = (r * groups + g) * 64
                total = fma(inner, load_f32(scales, at), total)
                total = fma(load_f32(offsets, at), spread_f32(sums, g * 4), total)
            store_f32(y, r * 64, total)


@cache
def _kernel(bits: int) -> Any:
    label = f"lut_matvec_{bits}_{current_isa().name.replace('-', '_')}"
    return specialise(_matvec, label, parallel=True, BITS=bits)


@dataclass(frozen=True, slots=True)
class LutMatrix:
    """Codes in bit planes, with an f32 scale and offset per row and group of `group` columns."""

    bits: int
    rows: int
    cols: int
    group: int
    tiles: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray

    @property
    def code_bytes(self) -> int:
        """Memory of the codes alone."""
        return int(self.tiles.size)


def pack_codes(codes: np.ndarray, bits: int, scale: np.ndarray, offset: np.ndarray) -> LutMatrix:
    """codes (rows, cols) integers below 2**bits; scale and offset (rows, groups) f32, groups of cols/groups columns.

    Raises `InvalidInputError` for bits outside 1 ... 4, codes out of range, or groups that are no multiple of 32 columns.
    """
    codes, scale, offset = np.asarray(codes), np.asarray(scale, np.float32), np.asarray(offset, np.float32)
    if not 1 <= bits <= MAX_BITS:
        raise InvalidInputError(f"{bits} bits", where="lut", hint="1 to 4")
    if (
        codes.ndim != 2
        or codes.dtype.kind not in "iu"
        or codes.size == 0
        or codes.min() < 0
        or codes.max() >= 1 << bits
    ):
        raise InvalidInputError(
            f"codes {codes.dtype} {codes.shape}", where="lut", hint=f"2-D integers 0 to {(1 << bits) - 1}"
        )
    rows, cols = codes.shape
    if scale.ndim != 2 or scale.shape != offset.shape or scale.shape[0] != rows or cols % (CHUNK_K * scale.shape[1]):
        raise InvalidInputError(f"scale {scale.shape} and offset {offset.shape} for {codes.shape}", where="lut")
    groups, row_tiles, chunks = scale.shape[1], -(-rows // ROWS), cols // CHUNK_K
    padded = np.zeros((row_tiles * ROWS, cols), np.uint32)
    padded[:rows] = codes
    quads = padded.reshape(row_tiles, ROWS, chunks, 8, QUAD)  # (tile, row, chunk, quad, k)
    words = np.empty((row_tiles, chunks, bits, ROWS), np.uint32)
    weights = 1 << np.arange(QUAD, dtype=np.uint32)
    places = np.uint32(1) << (QUAD * np.arange(8, dtype=np.uint32))
    for p in range(bits):
        nibbles = (((quads >> np.uint32(p)) & np.uint32(1)) * weights).sum(
            -1, dtype=np.uint32
        )  # (tile, row, chunk, quad)
        words[:, :, p] = (nibbles * places).sum(-1, dtype=np.uint32).transpose(0, 2, 1)
    tiles = aligned_empty(words.nbytes)
    tiles[:] = words.reshape(-1).view(np.uint8)

    def by_tile(values: np.ndarray) -> np.ndarray:
        whole = np.zeros((row_tiles * ROWS, groups), np.float32)
        whole[:rows] = values
        return np.ascontiguousarray(whole.reshape(row_tiles, ROWS, groups).transpose(0, 2, 1))

    return LutMatrix(bits, rows, cols, cols // groups, tiles, by_tile(scale), by_tile(offset))


def matvec(matrix: LutMatrix, x: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """y (rows,) = W x for x (cols,) f32. NaN and infinity in x reach every row (0 * inf counts as NaN or inf)."""
    x = np.ascontiguousarray(x, np.float32)
    if x.shape != (matrix.cols,):
        raise InvalidInputError(f"x has shape {x.shape}; the matrix has {matrix.cols} columns", where="lut")
    use_threads(threads)
    tables = aligned_empty(matrix.cols * 16).view(np.float32).reshape(-1, 16)
    _build_tables(x, tables)
    row_tiles, groups = matrix.scales.shape[:2]
    sums = x.reshape(groups, -1).sum(axis=1)
    y = np.empty(row_tiles * ROWS, np.float32)
    chunks = matrix.group // CHUNK_K
    _kernel(matrix.bits)(
        matrix.tiles, matrix.scales, matrix.offsets, tables, sums, y, row_tiles, groups, chunks, threads
    )
    return y[: matrix.rows]
