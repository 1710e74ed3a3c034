"""Kernels for int8 activations, in two shapes: super-blocks of 256 columns (K formats, TQ2_0) and blocks of 32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from waferline.kernels.cpu.dot import dot2, dot4, folds_bias
from waferline.kernels.cpu.isa import Isa
from waferline.kernels.cpu.parts import Operands, chunk_loop, half_row, quads, scaled, sub_scale, variables
from waferline.kernels.cpu.simd import F32, I8, I16, I64, LANES, VI, Lanes, vector
from waferline.kernels.cpu.tiles import CHUNK_K, QUADS, QuantTile

Body = Callable[[Lanes, Operands], list[Any]]
_NOTHING = ir.Constant(VI, [0] * LANES)


def int8_body(tile: QuantTile, n: int, isa: Isa) -> Body:
    """The generator of one tile row times n columns of int8 activations."""
    return _SuperBlocks(tile, n, isa).body if tile.activation == "q8_k" else _small_block_body(tile, n, isa)


def _activation(lanes: Lanes, ops: Operands, x: Any, quad: int, n: int, column: int) -> Any:
    """Four codes of one column in every lane."""
    return lanes.broadcast(ops.x, lanes.at(x, (quad * n + column) * 4))


def _small_block_body(tile: QuantTile, n: int, isa: Isa) -> Body:
    """y = sum over blocks of 32 columns of x_scale * scale * ((codes - bias) . x); a tile holds a few such blocks."""
    wide = tile.code_bits > 7
    bias_shift = None if folds_bias(isa, wide, tile.bias) else tile.bias.bit_length() - 1  # biases are powers of two

    def start(lanes: Lanes, ops: Operands, at: Any, i: int) -> Any:
        """The bias times minus the sum of x, so that it need not be subtracted from each code."""
        if bias_shift is None:
            return _NOTHING
        return lanes.shift_left(lanes.broadcast(ops.sums, lanes.at(at, 4 * i)), bias_shift)

    def body(lanes: Lanes, ops: Operands) -> list[Any]:
        b = lanes.b
        ys = variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = scaled(lanes, loop.index, tile.tile_bytes)
            for sub in range(tile.subs):
                block = lanes.at(scaled(lanes, b.add(ops.x_block, loop.index), tile.subs), sub)
                x, at = scaled(lanes, block, CHUNK_K * n), scaled(lanes, block, 4 * n)
                acc = [start(lanes, ops, at, i) for i in range(n)]
                for quad, code in enumerate(quads(lanes, tile, ops, w, lanes.i64(sub))):
                    for i in range(n):
                        value = _activation(lanes, ops, x, quad, n, i)
                        acc[i] = dot4(lanes, isa, acc[i], code, value, wide=wide, bias=tile.bias)
                scale = sub_scale(lanes, tile, ops.weights, w, lanes.i64(sub))
                for i in range(n):
                    both = b.fmul(scale, lanes.broadcast(ops.scales, lanes.at(at, 4 * i), F32))
                    b.store(lanes.fma(lanes.to_float(acc[i]), both, b.load(ys[i])), ys[i])
        return [b.load(y) for y in ys]

    return body


@dataclass(frozen=True, slots=True)
class _SuperBlocks:
    """y = sum over blocks of x_scale * (d * sum_sub scale * ((codes - bias) . x) - dmin * sum_sub min * sum x)."""

    tile: QuantTile
    n: int
    isa: Isa

    @property
    def halves(self) -> bool:
        """Whether a chunk holds two sub-blocks."""
        return self.tile.sub_k == CHUNK_K // 2

    @property
    def whole(self) -> bool:
        """Whether there is one sub-block: the sum then stays in integers to the end."""
        return self.tile.scale is None

    def dots(self, lanes: Lanes, ops: Operands, w: Any, x: Any, chunk: Any, start: list[Any]) -> Iterator[list[Any]]:
        """Per sub-block inside one chunk, the n integer sums, beginning from the next n of `start`."""
        n = self.n
        acc = start[:n]
        for quad, code in enumerate(quads(lanes, self.tile, ops, w, chunk)):
            for i in range(n):
                acc[i] = dot4(lanes, self.isa, acc[i], code, _activation(lanes, ops, x, quad, n, i))
            if self.halves and quad == QUADS // 2 - 1:
                yield acc
                acc = start[n:]
        yield acc

    def starts(self, lanes: Lanes, ops: Operands, block: Any, chunk: Any) -> list[Any]:
        n = self.n
        if not self.halves:
            return [_NOTHING] * n
        # Formats in 16s have the bias 32, which the activations carry multiplied with minus their sum.
        at = lanes.b.add(scaled(lanes, block, 16 * 4 * n), scaled(lanes, chunk, 2 * 4 * n))
        return [lanes.broadcast(ops.sums16, lanes.at(at, 4 * i)) for i in range(2 * n)]

    def block_sums(self, lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """The n sums of one block before d: floats, or integers where no sub-block scales exist."""
        tile, n = self.tile, self.n
        sums = variables(lanes, _NOTHING if self.whole else lanes.floats(0.0), n)
        for chunk in chunk_loop(lanes, tile.block_k // CHUNK_K):
            x = lanes.b.add(scaled(lanes, block, tile.block_k * n), scaled(lanes, chunk, CHUNK_K * n))
            if self.whole:
                (acc,) = self.dots(lanes, ops, w, x, chunk, [lanes.b.load(s) for s in sums])
                for s, a in zip(sums, acc, strict=True):
                    lanes.b.store(a, s)
                continue
            for half, acc in enumerate(self.dots(lanes, ops, w, x, chunk, self.starts(lanes, ops, block, chunk))):
                sub = lanes.at(scaled(lanes, chunk, 1 + self.halves), half)
                scale = sub_scale(lanes, tile, ops.weights, w, sub)
                for s, a in zip(sums, acc, strict=True):
                    lanes.b.store(lanes.fma(lanes.to_float(a), scale, lanes.b.load(s)), s)
        return [lanes.b.load(s) for s in sums]

    def min_sums(self, lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """sum_sub min * (sum of x) in integers, two sub-blocks of 32 a step. A whole-block bias counts as such a min."""
        tile, n = self.tile, self.n
        acc = [_NOTHING] * n
        pairs = vector(I16, 2 * LANES)
        for pair in range(tile.block_k // 64):
            at = lanes.at(scaled(lanes, block, 4 * 4 * n), pair * 4 * n)
            if tile.has_mins:
                low = lanes.load(ops.weights, lanes.at(w, tile.mins_offset + 2 * LANES * pair), vector(I8, 2 * LANES))
                mins = lanes.b.zext(low, pairs)
            else:
                mins = ir.Constant(pairs, [tile.bias] * (2 * LANES))
            for i in range(n):
                acc[i] = dot2(lanes, self.isa, acc[i], mins, lanes.broadcast(ops.sums, lanes.at(at, 4 * i)))
        return acc

    def block_values(self, lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """The n products of one block, before the activations' scale."""
        b, tile = lanes.b, self.tile
        sums = self.block_sums(lanes, ops, w, block)
        mins = self.min_sums(lanes, ops, w, block) if tile.has_mins or self.whole else []
        if self.whole:
            sums = [lanes.to_float(b.sub(s, m)) for s, m in zip(sums, mins, strict=True)]
        d = half_row(lanes, ops.weights, w, tile.d_offset)
        values = [b.fmul(s, d) for s in sums]
        if tile.has_mins:
            dmin = half_row(lanes, ops.weights, w, tile.dmin_offset)
            values = [b.fsub(v, b.fmul(lanes.to_float(m), dmin)) for v, m in zip(values, mins, strict=True)]
        return values

    def body(self, lanes: Lanes, ops: Operands) -> list[Any]:
        b, n = lanes.b, self.n
        ys = variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = scaled(lanes, loop.index, self.tile.tile_bytes)
            block = b.add(ops.x_block, loop.index)
            for i, value in enumerate(self.block_values(lanes, ops, w, block)):
                scale = lanes.broadcast(ops.scales, lanes.at(scaled(lanes, block, 4 * n), 4 * i), F32)
                b.store(lanes.fma(value, scale, b.load(ys[i])), ys[i])
        return [b.load(y) for y in ys]
