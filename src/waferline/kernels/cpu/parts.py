"""What the generated kernels share: their operands, how codes come out of a tile, how scales are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numba.core import cgutils

from waferline.kernels.cpu.simd import F16, I8, I64, LANES, VECTOR_BYTES, VF, VI, Lanes, vector
from waferline.kernels.cpu.tiles import QUADS, QuantTile

CACHE_LINE_BYTES = 64


@dataclass(slots=True)
class Operands:
    """The values of one call: base pointers and byte offsets as LLVM values."""

    weights: Any  # first byte of the tile row
    blocks: Any  # blocks of columns in the row
    x: Any  # activation codes (i8) or values (f32)
    sums: Any  # i16 pairs (q8_k), i32 (q8_0) or f32 (f32), per 32 columns
    sums16: Any  # -32 * sum per 16 columns, i32 (q8_k only)
    scales: Any  # f32 per block and column
    x_block: Any  # first activation block of this column block
    y: Any
    y_at: Any
    y_step: Any
    ahead: Any  # prefetch distance in bytes


def variables(lanes: Lanes, start: Any, count: int) -> list[Any]:
    """Stack slots that LLVM turns into registers."""
    return [cgutils.alloca_once_value(lanes.b, start) for _ in range(count)]


def scaled(lanes: Lanes, index: Any, size: int) -> Any:
    return lanes.b.mul(index, lanes.i64(size))


def prefetch_lines(lanes: Lanes, ops: Operands, at: Any, size: int) -> None:
    for line in range(0, size, CACHE_LINE_BYTES):
        lanes.prefetch(ops.weights, lanes.b.add(lanes.at(at, line), ops.ahead))


def chunk_loop(lanes: Lanes, chunks: int) -> Iterator[Any]:
    """The index of each chunk of 32 columns: a loop in the compiled code, so one turn of a Python `for`.

    Left rolled on purpose: unrolled, the many load addresses defeat the hardware prefetcher (15 against 17 GB/s measured).
    """
    if chunks == 1:
        yield lanes.i64(0)
        return
    with cgutils.for_range(lanes.b, lanes.i64(chunks), intp=I64) as loop:
        yield loop.index


def quads(
    lanes: Lanes, tile: QuantTile, ops: Operands, block_at: Any, chunk: Any, *, masked: bool = True
) -> Iterator[Any]:
    """The eight code vectors (16 x four u8) of one chunk of 32 columns.

    Only the planes are prefetched: asking for the short header as well costs more than its misses (measured). Without
    `masked` (one plane only) the bits above each code are whatever follows it.
    """
    loaded: dict[tuple[int, int], Any] = {}
    for quad in range(QUADS):
        code, position = None, 0
        for p, bits in enumerate(tile.planes):
            per_vector = 8 // bits
            key = (p, quad // per_vector)
            if key not in loaded:
                at = lanes.b.add(block_at, scaled(lanes, chunk, VECTOR_BYTES * bits))
                at = lanes.at(at, tile.plane_offset(p) + VECTOR_BYTES * key[1])
                loaded[key] = lanes.load(ops.weights, at, VI)
                lanes.prefetch(ops.weights, lanes.b.add(at, ops.ahead))
            part = loaded[key]
            if bits < 8:
                shift = bits * (quad % per_vector) - position
                part = lanes.shift_right(part, shift) if shift >= 0 else lanes.shift_left(part, -shift)
                if masked:
                    part = lanes.and_(part, (((1 << bits) - 1) << position) * 0x01010101)
            code = part if code is None else lanes.b.or_(code, part)
            position += bits
        yield code


def sub_scale(lanes: Lanes, tile: QuantTile, row: Any, block_at: Any, sub: Any) -> Any:
    """The sub-block's scale for 16 rows, as f32 (`sub`: index of the sub-block, an LLVM value)."""
    size = 2 if tile.scale == "f16" else 1
    at = lanes.b.add(lanes.at(block_at, tile.scales_offset), scaled(lanes, sub, LANES * size))
    if tile.scale == "f16":
        return lanes.b.fpext(lanes.load(row, at, vector(F16)), VF)
    codes = lanes.load(row, at, vector(I8))
    return lanes.to_float((lanes.b.sext if tile.scale == "s8" else lanes.b.zext)(codes, VI))


def half_row(lanes: Lanes, row: Any, block_at: Any, offset: int) -> Any:
    return lanes.b.fpext(lanes.load(row, lanes.at(block_at, offset), vector(F16)), VF)
