"""Wide products on AMX tiles: 16 tokens and two tiles of 16 rows at a time.

A sub-block's scale cannot be applied between two tile products without taking the sums out of their register, so it is
multiplied into the codes first: scale * (code - bias) has up to 13 bits and is split into two signed bytes,
value = 128*high + low. Both planes are multiplied exactly in integers and joined at the end of a block of 256 columns; only
d, dmin and the activations' scale are applied in f32. A row tile's planes are unpacked once for `GROUP` blocks of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from waferline.kernels.cpu.amx import (
    ALIGN,
    LEFT,
    MIN_SUMS,
    PAIR,
    REGISTER_BYTES,
    RIGHT,
    SUMS_EACH,
    TOKENS,
    at_byte,
    configure,
    restore,
    tile_op,
)
from waferline.kernels.cpu.jit import specialise
from waferline.kernels.cpu.parts import Operands, chunk_loop, half_row, quads, scaled
from waferline.kernels.cpu.simd import (
    F32,
    I8,
    I16,
    I64,
    LANES,
    VF,
    VI,
    Lanes,
    data_pointer,
    load_f32,
    store_f32,
    vector,
)
from waferline.kernels.cpu.tiles import CHUNK_K, QUADS, ROWS, TILES, QuantTile

STEPS = 4  # tiles in a block of 256 columns
GROUP = 32  # blocks of tokens for which a row tile is unpacked once
PANEL = 8  # blocks of columns whose activations for a group of tokens stay in the second-level cache
CHUNK = 8  # row tiles that share such a panel
LOW_BITS = 7

# Names the specialised copies bind.
UNPACK: Any = None
MULTIPLY: Any = None
BOTH: Any = None
FINISH: Any = None
TILE_BYTES = 0

_WORDS = vector(I16, 2 * LANES)


def planes_of(tile: QuantTile) -> int:
    """How many bytes a scaled code takes: two, or one where there is nothing to scale with inside a block."""
    return 1 if tile.scale is None else 2


def _scaled_words(lanes: Lanes, tile: QuantTile, words: Any, scale: Any) -> Any:
    """scale * (code - bias) on 16-bit halves."""
    if tile.bias:
        words = lanes.b.sub(words, ir.Constant(_WORDS, [tile.bias] * (2 * LANES)))
    return words if scale is None else lanes.b.mul(words, scale)


def _split(lanes: Lanes, even: Any, odd: Any, shift: int) -> Any:
    """Bits `shift` ... of both halves as bytes: even in the lower byte of each word, odd in the upper."""
    b = lanes.b

    def words(value: int) -> Any:
        return ir.Constant(_WORDS, [value] * (2 * LANES))

    if shift:
        even, odd = b.ashr(even, words(shift)), b.ashr(odd, words(shift))
        keep = 0xFF
    else:
        keep = (1 << LOW_BITS) - 1
    return b.or_(b.and_(even, words(keep)), b.shl(b.and_(odd, words(keep)), words(8)))


def unpacker(tile: QuantTile) -> Any:
    """`unpack(weights, at, apart, scratch, ahead)`: a block of 16 rows x 256 columns, and the one `apart` bytes behind it,
    as signed byte planes."""

    def chunk(lanes: Lanes, base: Any, out: Any, at: Any, ahead: Any, index: Any) -> None:
        b = lanes.b
        ops = Operands(base, *([None] * 10))
        ops.ahead = ahead
        scales = None
        per_sub = min(tile.sub_k, CHUNK_K) // 4
        for quad, code in enumerate(quads(lanes, tile, ops, at, index)):
            if tile.scale is not None and quad % per_sub == 0:
                sub = lanes.at(scaled(lanes, index, QUADS // per_sub), quad // per_sub)
                place = b.add(lanes.at(at, tile.scales_offset), scaled(lanes, sub, LANES))
                scale = (b.sext if tile.scale == "s8" else b.zext)(lanes.load(base, place, vector(I8)), VI)
                scales = b.bitcast(b.or_(lanes.and_(scale, 0xFFFF), lanes.shift_left(scale, 16)), _WORDS)
            even = b.bitcast(lanes.and_(code, 0x00FF00FF), _WORDS)
            odd = b.bitcast(lanes.and_(lanes.shift_right(code, 8), 0x00FF00FF), _WORDS)
            even, odd = (_scaled_words(lanes, tile, v, scales) for v in (even, odd))
            to = lanes.at(scaled(lanes, index, QUADS * ALIGN), quad * ALIGN)
            if scales is None:
                lanes.store(_split_whole(lanes, even, odd), out, to)
                continue
            lanes.store(_split(lanes, even, odd, 0), out, to)
            lanes.store(_split(lanes, even, odd, LOW_BITS), out, lanes.at(to, STEPS * REGISTER_BYTES))

    def unpack(typing_context: Any, weights: Any, at: Any, apart: Any, scratch: Any, ahead: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            lanes = Lanes(builder)
            base = data_pointer(context, builder, signature.args[0], a[0])
            first = data_pointer(context, builder, signature.args[3], a[3])
            with cgutils.for_range(builder, lanes.i64(PAIR), intp=I64) as row:
                at = builder.add(a[1], builder.mul(row.index, a[2]))
                out = builder.gep(first, [scaled(lanes, row.index, _ROW_BYTES)])
                # The header of the next block; its planes are asked for with their use.
                for line in range(0, tile.plane_offset(0), ALIGN):
                    lanes.prefetch(base, builder.add(at, lanes.at(a[4], line)))
                for index in chunk_loop(lanes, tile.block_k // CHUNK_K):
                    chunk(lanes, base, out, at, a[4], index)
                if tile.has_mins:
                    _unpack_mins(lanes, tile, base, at, out)
            return context.get_dummy_value()

        n = types.intp
        return types.void(weights, n, n, scratch, n), code

    return intrinsic(unpack)


def _unpack_mins(lanes: Lanes, tile: QuantTile, weights: Any, at: Any, out: Any) -> None:
    """The mins as bf16 pairs of neighbouring sub-blocks, twice: for the high and for the low part of the sums."""
    b, pairs = lanes.b, tile.subs // 2
    for p in range(pairs):
        raw = lanes.load(weights, lanes.at(at, tile.mins_offset + 2 * LANES * p), vector(I8, 2 * LANES))
        words = b.bitcast(b.zext(raw, _WORDS), VI)
        even, odd = (
            b.bitcast(lanes.to_float(v), VI) for v in (lanes.and_(words, 0xFFFF), lanes.shift_right(words, 16))
        )
        both = b.or_(lanes.shift_right(even, 16), odd)  # a small integer leaves the lower half of its f32 empty
        for half in range(2):
            lanes.store(both, out, lanes.i64(_MINS_AT + (half * pairs + p) * ALIGN))


def _split_whole(lanes: Lanes, even: Any, odd: Any) -> Any:
    """Words that fit a byte, as bytes."""
    b, low = lanes.b, ir.Constant(_WORDS, [0xFF] * (2 * LANES))
    return b.or_(b.and_(even, low), b.shl(odd, ir.Constant(_WORDS, [8] * (2 * LANES))))


@dataclass(slots=True)
class _Step:
    """16 tokens x 256 columns x two row tiles: what is multiplied, and where the answers go. Byte pointers."""

    lanes: Lanes
    tile: QuantTile
    scratch: Any
    x: Any
    sums: Any
    scales: Any  # of the block of tokens before: those that are finished
    y: Any
    d: list[Any]
    dmin: list[Any]

    @property
    def registers(self) -> list[int]:
        """Which of a row tile's registers are used."""
        return [*range(planes_of(self.tile)), *([MIN_SUMS] if self.tile.has_mins else [])]

    def begin(self) -> None:
        for j in range(PAIR):
            for p in self.registers:
                tile_op(self.lanes, "tilezero", j * SUMS_EACH + p)

    def multiply(self, s: int) -> None:
        """Sums of all planes += x @ plane over 64 columns: quarter `s` of a block."""
        lanes, line = self.lanes, self.lanes.i64(ALIGN)
        tile_op(lanes, "tileloadd64", LEFT, at_byte(lanes, self.x, s * REGISTER_BYTES), line)
        for j in range(PAIR):
            for p in range(planes_of(self.tile)):
                plane = at_byte(lanes, self.scratch, j * _ROW_BYTES + (p * STEPS + s) * REGISTER_BYTES)
                tile_op(lanes, "tileloadd64", RIGHT, plane, line)
                tile_op(lanes, "tdpbssd", j * SUMS_EACH + p, LEFT, RIGHT)

    def multiply_mins(self) -> None:
        """Sums of activations @ mins in bf16, which holds them exactly, summed in f32 that stay below 2**24.

        A row of the left tile is 64 bytes long and begins every 32: what follows a token's 16 sums meets mins of zero.
        """
        lanes = self.lanes
        tile_op(lanes, "tileloadd64", LEFT, self.sums, lanes.i64(ALIGN // 2))
        for j in range(PAIR):
            tile_op(
                lanes, "tileloadd64", RIGHT, at_byte(lanes, self.scratch, j * _ROW_BYTES + _MINS_AT), lanes.i64(ALIGN)
            )
            tile_op(lanes, "tdpbf16ps", j * SUMS_EACH + MIN_SUMS, LEFT, RIGHT)

    def store(self) -> None:
        for j in range(PAIR):
            for p in self.registers:
                place = at_byte(self.lanes, self.scratch, j * _ROW_BYTES + _SUMS_AT + p * REGISTER_BYTES)
                tile_op(self.lanes, "tilestored64", j * SUMS_EACH + p, place, self.lanes.i64(ALIGN))

    def finish(self, t: Any) -> None:
        """Add the stored sums of token `t` (an LLVM value) to y, for both row tiles."""
        lanes, b = self.lanes, self.lanes.b
        line = scaled(lanes, t, ALIGN)
        scale = lanes.broadcast(self.scales, scaled(lanes, t, 4), F32)
        for j in range(PAIR):
            sums = at_byte(lanes, self.scratch, j * _ROW_BYTES + _SUMS_AT)
            total = lanes.load(sums, line, VI)
            if planes_of(self.tile) == 2:
                high = lanes.load(sums, lanes.at(line, REGISTER_BYTES), VI)
                total = b.add(total, lanes.shift_left(high, LOW_BITS))
            value = b.fmul(lanes.to_float(total), self.d[j])
            if self.tile.has_mins:
                less = lanes.load(sums, lanes.at(line, MIN_SUMS * REGISTER_BYTES), VF)
                value = b.fsub(value, b.fmul(less, self.dmin[j]))
            place = lanes.at(line, j * GROUP * _TOTAL_BYTES)
            lanes.store(lanes.fma(value, scale, lanes.load(self.y, place, VF)), self.y, place)


def _multiply_only(step: _Step) -> None:
    step.begin()
    for s in range(STEPS):
        step.multiply(s)
    if step.tile.has_mins:
        step.multiply_mins()
    step.store()


def _finish_only(step: _Step) -> None:
    with cgutils.for_range(step.lanes.b, step.lanes.i64(TOKENS), intp=I64) as tokens:
        step.finish(tokens.index)


def _interleaved(step: _Step) -> None:
    """Multiply a block while the one before is finished: they use different parts of the processor, which does not look
    far enough ahead to find that out (a tenth of the time)."""
    step.begin()
    for s in range(STEPS):
        step.multiply(s)
        for t in range(s * TOKENS // STEPS, (s + 1) * TOKENS // STEPS):
            step.finish(step.lanes.i64(t))
    if step.tile.has_mins:
        step.multiply_mins()
    step.store()


def stepper(tile: QuantTile, what: Callable[[_Step], None]) -> Any:
    """`step(weights, at, apart, scratch, x, sums, scales, block, y, y_at)`: one of the three above as an intrinsic.

    The row tiles' blocks begin at bytes `at` and `at + apart` of the weights. The integer sums of activation block `block`
    go to the scratch memory; those of the block before are added to y f32[16 tokens, 16 rows] at byte y_at, the second row
    tile's `GROUP` such blocks behind.
    """

    def step(
        typing_context: Any, weights: Any, at: Any, apart: Any, scratch: Any, x: Any, sums: Any, scales: Any, block: Any,
        y: Any, y_at: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            lanes = Lanes(builder)
            w, scratch_p, x_p, sums_p, scales_p, y_p = (
                data_pointer(context, builder, signature.args[i], a[i]) for i in (0, 3, 4, 5, 6, 8)
            )

            def moved(base: Any, by: Any, size: int) -> Any:
                return builder.gep(base, [scaled(lanes, by, size)])

            rows = [a[1], builder.add(a[1], a[2])]
            of_tokens = moved(scales_p, builder.sub(a[7], lanes.i64(1)), 4 * TOKENS)
            d = [half_row(lanes, w, row, tile.d_offset) for row in rows]
            dmin = [half_row(lanes, w, row, tile.dmin_offset) for row in rows] if tile.has_mins else []
            x_at, sums_at = moved(x_p, a[7], STEPS * REGISTER_BYTES), moved(sums_p, a[7], REGISTER_BYTES // 2)
            what(_Step(lanes, tile, scratch_p, x_at, sums_at, of_tokens, moved(y_p, a[9], 1), d, dmin))
            return context.get_dummy_value()

        n = types.intp
        return types.void(weights, n, n, scratch, x, sums, scales, n, y, n), code

    return intrinsic(step)


# In the scratch memory, for each row tile: two planes, the mins, the sums. Rows lie a few lines off a multiple of 4 KB.
_MINS_AT = 2 * STEPS * REGISTER_BYTES
_SUMS_AT = _MINS_AT + REGISTER_BYTES
_ROW_BYTES = _SUMS_AT + SUMS_EACH * REGISTER_BYTES + 4 * ALIGN
_TOTAL_BYTES = TOKENS * ROWS * 4


def _sweep(
    weights: Any, first: int, row_tile: int, last: int, blocks: int, x: Any, sums: Any, sums16: Any, scales: Any,
    y: Any, ldy: int, column_blocks: int, group: int, ahead: int,
) -> None:  # fmt: skip
    """Row tiles row_tile ... last-1 of the matrix at byte `first`, all blocks of 16 tokens (as `matmul._sweep`)."""
    memory = np.zeros(PAIR * _ROW_BYTES + ALIGN, np.int8)  # the unused half of the mins stays zero
    scratch = memory[-memory.ctypes.data % ALIGN :]
    sums_memory = np.empty((CHUNK + 1) * GROUP * TOKENS * ROWS + ALIGN, np.float32)
    total = sums_memory[-sums_memory.ctypes.data % ALIGN // 4 :]
    before = np.empty(ALIGN, np.int8)
    configure(before)
    for c0 in range(0, column_blocks, GROUP):
        tokens = min(GROUP, column_blocks - c0)
        for r0 in range(row_tile, last, CHUNK):
            rows = min(CHUNK, last - r0)
            total[: (rows + 1) * GROUP * TOKENS * ROWS] = 0
            for b0 in range(0, blocks, PANEL):
                for r in range(0, rows, PAIR):
                    # An odd last row tile goes with itself; nobody looks at the second answer.
                    apart = blocks * TILE_BYTES if r + 1 < rows else 0
                    for b in range(b0, min(b0 + PANEL, blocks)):
                        at = first + ((r0 + r) * blocks + b) * TILE_BYTES
                        UNPACK(weights, at, apart, scratch, ahead)
                        block = b * column_blocks + c0
                        y_at = r * GROUP * _TOTAL_BYTES
                        MULTIPLY(weights, at, apart, scratch, x, sums, scales, block, total, y_at)
                        for c in range(1, tokens):
                            BOTH(weights, at, apart, scratch, x, sums, scales, block + c, total, y_at)
                            y_at += _TOTAL_BYTES
                        FINISH(weights, at, apart, scratch, x, sums, scales, block + tokens, total, y_at)
            for c in range(tokens * TOKENS):
                for r in range(rows):
                    value = load_f32(total, (r * GROUP * TOKENS + c) * ROWS * 4)
                    store_f32(y, ((c0 * TOKENS + c) * ldy + (r0 + r) * ROWS) * 4, value)
    restore(before)


@cache
def tiles_sweep(name: str) -> Any:
    """The compiled wide `_sweep` of a format with activations packed as `q8_k_tiles`."""
    tile = TILES[name]
    assert isinstance(tile, QuantTile)
    return specialise(
        _sweep, f"sweep_tiles_{name.lower()}",
        UNPACK=unpacker(tile),
        MULTIPLY=stepper(tile, _multiply_only),
        BOTH=stepper(tile, _interleaved),
        FINISH=stepper(tile, _finish_only),
        TILE_BYTES=tile.tile_bytes,
    )  # fmt: skip
