"""The inner kernels, generated: one tile row (16 rows x all columns) times N activation columns.

Each generator returns a Numba intrinsic whose code is a Python loop unrolled over the N columns and over the planes of
the format. Everything the processor does 16 rows at a time; nothing is ever summed across lanes.

Activations arrive packed by column block (see `activations.py`), so that one base pointer and constant offsets feed the
broadcast operands of every multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from waferline.kernels.cpu.dot import dot2, dot4, folds_bias
from waferline.kernels.cpu.isa import Isa
from waferline.kernels.cpu.simd import (
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    VECTOR_BYTES,
    VF,
    VI,
    Lanes,
    bf16_to_float,
    data_pointer,
    vector,
)
from waferline.kernels.cpu.tiles import CHUNK_K, QUADS, FloatTile, QuantTile, Tile

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


def tile_kernel(tile: Tile, columns: int, exact: bool, isa: Isa) -> Any:
    """The intrinsic `kernel(weights, w_at, blocks, x, sums, sums16, scales, x_block, y, y_at, y_step, ahead)`.

    All offsets are bytes except `x_block` (blocks). Writes y[n] (16 f32 at y_at + n*y_step) for n < columns.
    """
    body: Callable[[Lanes, Operands], list[Any]]
    if isinstance(tile, FloatTile):
        body = _float_body(tile, columns)
    elif exact:
        body = _exact_body(tile, columns)
    else:
        body = _int8_body(tile, columns, isa)

    def kernel(
        typing_context: Any, weights: Any, w_at: Any, blocks: Any, x: Any, sums: Any, sums16: Any, scales: Any,
        x_block: Any, y: Any, y_at: Any, y_step: Any, ahead: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
            lanes = Lanes(builder)
            base = [data_pointer(context, builder, signature.args[i], a[i]) for i in (0, 3, 4, 5, 6, 8)]
            row = builder.gep(base[0], [a[1]])
            ops = Operands(row, a[2], base[1], base[2], base[3], base[4], a[7], base[5], a[9], a[10], a[11])
            for n, value in enumerate(body(lanes, ops)):
                lanes.store(value, ops.y, builder.add(ops.y_at, builder.mul(ops.y_step, lanes.i64(n))))
            return context.get_dummy_value()

        n = types.intp
        return types.void(weights, n, n, x, sums, sums16, scales, n, y, n, n, n), code

    return intrinsic(kernel)


def _variables(lanes: Lanes, start: Any, count: int) -> list[Any]:
    """Stack slots that LLVM turns into registers."""
    return [cgutils.alloca_once_value(lanes.b, start) for _ in range(count)]


def _scaled(lanes: Lanes, index: Any, size: int) -> Any:
    return lanes.b.mul(index, lanes.i64(size))


def _prefetch_lines(lanes: Lanes, ops: Operands, at: Any, size: int) -> None:
    for line in range(0, size, CACHE_LINE_BYTES):
        lanes.prefetch(ops.weights, lanes.b.add(lanes.at(at, line), ops.ahead))


def _quads(lanes: Lanes, tile: QuantTile, row: Any, block_at: Any, chunk: Any) -> Iterator[Any]:
    """The eight code vectors (16 x four u8) of one chunk of 32 columns."""
    loaded: dict[tuple[int, int], Any] = {}
    for quad in range(QUADS):
        code, position = None, 0
        for p, bits in enumerate(tile.planes):
            per_vector = 8 // bits
            key = (p, quad // per_vector)
            if key not in loaded:
                at = lanes.b.add(block_at, _scaled(lanes, chunk, VECTOR_BYTES * bits))
                loaded[key] = lanes.load(row, lanes.at(at, tile.plane_offset(p) + VECTOR_BYTES * key[1]), VI)
            part = loaded[key]
            if bits < 8:
                shift = bits * (quad % per_vector) - position
                part = lanes.shift_right(part, shift) if shift >= 0 else lanes.shift_left(part, -shift)
                part = lanes.and_(part, (((1 << bits) - 1) << position) * 0x01010101)
            code = part if code is None else lanes.b.or_(code, part)
            position += bits
        yield code


def _scale(lanes: Lanes, tile: QuantTile, row: Any, block_at: Any, sub: Any) -> Any:
    """The sub-block's scale for 16 rows, as f32 (`sub`: index of the sub-block, an LLVM value)."""
    size = 2 if tile.scale == "f16" else 1
    at = lanes.b.add(lanes.at(block_at, tile.scales_offset), _scaled(lanes, sub, LANES * size))
    if tile.scale == "f16":
        return lanes.b.fpext(lanes.load(row, at, vector(F16)), VF)
    codes = lanes.load(row, at, vector(I8))
    return lanes.to_float((lanes.b.sext if tile.scale == "s8" else lanes.b.zext)(codes, VI))


def _half_row(lanes: Lanes, row: Any, block_at: Any, offset: int) -> Any:
    return lanes.b.fpext(lanes.load(row, lanes.at(block_at, offset), vector(F16)), VF)


# --- int8 activations -------------------------------------------------------------------------------------------------
def _int8_body(tile: QuantTile, n: int, isa: Isa) -> Callable[[Lanes, Operands], list[Any]]:
    """y = sum over blocks of x_scale * (d * sum_sub scale * (codes . x) - dmin * sum_sub min * sum x)."""
    chunks = tile.block_k // CHUNK_K
    wide = tile.code_bits > 7
    nothing = ir.Constant(VI, [0] * LANES)
    per_chunk = max(1, CHUNK_K // tile.sub_k)

    def dots(lanes: Lanes, ops: Operands, w: Any, x: Any, chunk: Any, start: list[Any]) -> Iterator[list[Any]]:
        """Per sub-block inside one chunk, the N integer accumulators."""
        acc = start
        for quad, code in enumerate(_quads(lanes, tile, ops.weights, w, chunk)):
            for i in range(n):
                value = lanes.broadcast(ops.x, lanes.at(x, (quad * n + i) * 4))
                acc[i] = dot4(lanes, isa, acc[i], code, value, wide=wide, bias=tile.bias)
            if per_chunk == 2 and quad == QUADS // 2 - 1:
                yield acc
                acc = start[n:]
        yield acc

    def starts(lanes: Lanes, ops: Operands, block: Any, chunk: Any) -> list[Any]:
        """What the accumulators begin with: zero, or the bias times minus the sum of x."""
        if tile.activation == "q8_0":
            if folds_bias(isa, wide, tile.bias):
                return [nothing] * n
            at = _scaled(lanes, block, 4 * n)
            shift = tile.bias.bit_length() - 1  # biases are powers of two
            return [
                lanes.shift_left(lanes.broadcast(ops.sums, lanes.at(at, 4 * i)), shift) for i in range(n)
            ]  # sums hold minus the sum
        if tile.sub_k == CHUNK_K // 2:
            at = lanes.b.add(_scaled(lanes, block, 16 * 4 * n), _scaled(lanes, chunk, 2 * 4 * n))
            return [lanes.broadcast(ops.sums16, lanes.at(at, 4 * i)) for i in range(2 * n)]
        return [nothing] * n

    def block_sum(lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """The N float sums of one block, before d."""
        x = _scaled(lanes, block, tile.block_k * n)
        if chunks == 1:
            zero = lanes.i64(0)
            _prefetch_lines(lanes, ops, w, tile.tile_bytes)
            (acc,) = dots(lanes, ops, w, x, zero, starts(lanes, ops, block, zero))
            scale = _scale(lanes, tile, ops.weights, w, zero)
            return [lanes.b.fmul(lanes.to_float(a), scale) for a in acc]
        whole = tile.sub_k == tile.block_k
        sums = _variables(lanes, nothing if whole else lanes.floats(0.0), n)
        with cgutils.for_range(lanes.b, lanes.i64(chunks), intp=I64) as loop:
            chunk = loop.index
            step = -(-tile.tile_bytes // chunks // CACHE_LINE_BYTES) * CACHE_LINE_BYTES
            _prefetch_lines(lanes, ops, lanes.b.add(w, _scaled(lanes, chunk, step)), step)
            here = lanes.b.add(x, _scaled(lanes, chunk, CHUNK_K * n))
            if whole:
                (acc,) = dots(lanes, ops, w, here, chunk, [lanes.b.load(s) for s in sums])
                for s, a in zip(sums, acc, strict=True):
                    lanes.b.store(a, s)
            else:
                start = starts(lanes, ops, block, chunk)
                for half, acc in enumerate(dots(lanes, ops, w, here, chunk, start)):
                    sub = lanes.b.add(_scaled(lanes, chunk, per_chunk), lanes.i64(half))
                    scale = _scale(lanes, tile, ops.weights, w, sub)
                    for s, a in zip(sums, acc, strict=False):
                        lanes.b.store(lanes.fma(lanes.to_float(a), scale, lanes.b.load(s)), s)
        values = [lanes.b.load(s) for s in sums]
        return values

    def min_sum(lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """sum_sub min * (sum of x) for N columns, in integers: two sub-blocks a step. Bias 1 counts as a min of 1."""
        acc = [nothing] * n
        for pair in range(tile.block_k // 64):
            at = lanes.at(_scaled(lanes, block, 4 * 4 * n), pair * 4 * n)
            if tile.has_mins:
                low = lanes.load(ops.weights, lanes.at(w, tile.mins_offset + 2 * LANES * pair), vector(I8, 2 * LANES))
                mins = lanes.b.zext(low, vector(I16, 2 * LANES))
            else:
                mins = ir.Constant(vector(I16, 2 * LANES), [tile.bias] * (2 * LANES))
            for i in range(n):
                acc[i] = dot2(lanes, isa, acc[i], mins, lanes.broadcast(ops.sums, lanes.at(at, 4 * i)))
        return acc

    def body(lanes: Lanes, ops: Operands) -> list[Any]:
        b = lanes.b
        ys = _variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = _scaled(lanes, loop.index, tile.tile_bytes)
            block = b.add(ops.x_block, loop.index)
            sums = block_sum(lanes, ops, w, block)
            if tile.has_mins:
                mins = min_sum(lanes, ops, w, block)
                d = _half_row(lanes, ops.weights, w, tile.d_offset)
                dmin = _half_row(lanes, ops.weights, w, tile.dmin_offset)
                sums = [b.fsub(b.fmul(s, d), b.fmul(lanes.to_float(m), dmin)) for s, m in zip(sums, mins, strict=True)]
            elif tile.has_d:
                d = _half_row(lanes, ops.weights, w, tile.d_offset)
                if tile.scale is None:  # integer sums so far: take the bias off before leaving the integers
                    mins = min_sum(lanes, ops, w, block)
                    sums = [lanes.to_float(b.sub(s, m)) for s, m in zip(sums, mins, strict=True)]
                sums = [b.fmul(s, d) for s in sums]
            for i in range(n):
                scale = lanes.broadcast(ops.scales, lanes.at(_scaled(lanes, block, 4 * n), 4 * i), F32)
                b.store(lanes.fma(sums[i], scale, b.load(ys[i])), ys[i])
        return [b.load(y) for y in ys]

    return body


# --- exact f32 activations --------------------------------------------------------------------------------------------
def _exact_body(tile: QuantTile, n: int) -> Callable[[Lanes, Operands], list[Any]]:
    """The same sums with the codes widened to f32 and the activations left alone."""
    chunks = tile.block_k // CHUNK_K
    chains = 4 if n == 1 else 2 if n == 2 else 1  # independent sums, to hide the latency of the multiply-add
    quads_per_sub = min(tile.sub_k, CHUNK_K) // 4

    def quad_fma(lanes: Lanes, ops: Operands, code: Any, x: Any, quad: int, acc: list[list[Any]]) -> None:
        for t in range(4):
            value = lanes.shift_right(code, 8 * t)
            value = lanes.and_(value, 0xFF) if t < 3 else value
            if tile.bias:
                value = lanes.b.sub(value, lanes.ints(tile.bias))
            value = lanes.to_float(value)
            for i in range(n):
                spread = lanes.broadcast(ops.x, lanes.at(x, ((quad * 4 + t) * n + i) * 4), F32)
                acc[i][t % chains] = lanes.fma(value, spread, acc[i][t % chains])

    def total(lanes: Lanes, parts: list[Any]) -> Any:
        while len(parts) > 1:
            parts = [lanes.b.fadd(parts[i], parts[i + 1]) for i in range(0, len(parts), 2)]
        return parts[0]

    def chunk_sums(lanes: Lanes, ops: Operands, w: Any, x: Any, block: Any, chunk: Any, sums: list[Any]) -> None:
        """Add one chunk's scaled sums (and minus its mins) to `sums`, leaving d and dmin to the block."""
        zero = lanes.floats(0.0)
        acc = [[zero] * chains for _ in range(n)]
        for quad, code in enumerate(_quads(lanes, tile, ops.weights, w, chunk)):
            quad_fma(lanes, ops, code, x, quad, acc)
            if (quad + 1) % quads_per_sub:
                continue
            subs_in_chunk = max(1, CHUNK_K // tile.sub_k)
            sub = lanes.b.add(_scaled(lanes, chunk, subs_in_chunk), lanes.i64(quad // quads_per_sub))
            scale = None if tile.scale is None else _scale(lanes, tile, ops.weights, w, sub)
            for i in range(n):
                value, before = total(lanes, acc[i]), lanes.b.load(sums[i])
                after = lanes.b.fadd(value, before) if scale is None else lanes.fma(value, scale, before)
                lanes.b.store(after, sums[i])
            acc = [[zero] * chains for _ in range(n)]

    def min_sums(lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        acc = [lanes.floats(0.0)] * n
        for sub in range(tile.subs):
            pair = lanes.load(
                ops.weights, lanes.at(w, tile.mins_offset + 2 * LANES * (sub // 2)), vector(I8, 2 * LANES)
            )
            picks = ir.Constant(vector(I32), list(range(sub % 2, 2 * LANES, 2)))
            mins = lanes.b.shuffle_vector(pair, ir.Constant(pair.type, ir.Undefined), picks)
            mins = lanes.to_float(lanes.b.zext(mins, VI))
            for i in range(n):
                at = lanes.at(_scaled(lanes, block, tile.subs * 4 * n), (sub * n + i) * 4)
                acc[i] = lanes.fma(mins, lanes.broadcast(ops.sums, at, F32), acc[i])
        return acc

    def body(lanes: Lanes, ops: Operands) -> list[Any]:
        b = lanes.b
        ys = _variables(lanes, lanes.floats(0.0), n)
        sums = _variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = _scaled(lanes, loop.index, tile.tile_bytes)
            block = b.add(ops.x_block, loop.index)
            for s in sums:
                b.store(lanes.floats(0.0), s)
            step = -(-tile.tile_bytes // chunks // CACHE_LINE_BYTES) * CACHE_LINE_BYTES
            with cgutils.for_range(b, lanes.i64(chunks), intp=I64) as inner:
                _prefetch_lines(lanes, ops, b.add(w, _scaled(lanes, inner.index, step)), step)
                x = _scaled(lanes, b.add(_scaled(lanes, block, chunks), inner.index), CHUNK_K * n * 4)
                chunk_sums(lanes, ops, w, x, block, inner.index, sums)
            values = [b.load(s) for s in sums]
            if tile.has_d:
                d = _half_row(lanes, ops.weights, w, tile.d_offset)
                values = [b.fmul(v, d) for v in values]
            if tile.has_mins:
                dmin = _half_row(lanes, ops.weights, w, tile.dmin_offset)
                mins = min_sums(lanes, ops, w, block)
                values = [b.fsub(v, b.fmul(m, dmin)) for v, m in zip(values, mins, strict=True)]
            for y, v in zip(ys, values, strict=True):
                b.store(b.fadd(b.load(y), v), y)
        return [b.load(y) for y in ys]

    return body


# --- unquantised weights ----------------------------------------------------------------------------------------------
_FLOAT_LOADS: dict[str, tuple[Any, Callable[[Lanes, Any], Any]]] = {
    "F16": (vector(F16), lambda lanes, v: lanes.b.fpext(v, VF)),
    "BF16": (vector(I16), bf16_to_float),
    "F32": (VF, lambda lanes, v: v),
}


def _float_body(tile: FloatTile, n: int) -> Callable[[Lanes, Operands], list[Any]]:
    memory, widen = _FLOAT_LOADS[tile.name]
    chains = 4 if n <= 2 else 2 if n <= 6 else 1

    def body(lanes: Lanes, ops: Operands) -> list[Any]:
        b = lanes.b
        ys = _variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = _scaled(lanes, loop.index, tile.tile_bytes)
            _prefetch_lines(lanes, ops, w, tile.tile_bytes)
            x = _scaled(lanes, b.add(ops.x_block, loop.index), tile.block_k * n * 4)
            acc = [[lanes.floats(0.0)] * chains for _ in range(n)]
            for k in range(tile.block_k):
                values = lanes.load(ops.weights, lanes.at(w, k * LANES * tile.element_bytes), memory)
                values = widen(lanes, values)
                for i in range(n):
                    spread = lanes.broadcast(ops.x, lanes.at(x, (k * n + i) * 4), F32)
                    acc[i][k % chains] = lanes.fma(values, spread, acc[i][k % chains])
            for y, parts in zip(ys, acc, strict=True):
                for part in parts:
                    b.store(b.fadd(b.load(y), part), y)
        return [b.load(y) for y in ys]

    return body
