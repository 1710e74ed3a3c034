"""Kernels that leave the activations in f32: quantised weights widened on the way, and unquantised weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from waferline.kernels.cpu.isa import Isa
from waferline.kernels.cpu.parts import (
    Operands,
    chunk_loop,
    half_row,
    prefetch_lines,
    quads,
    scaled,
    sub_scale,
    variables,
)
from waferline.kernels.cpu.simd import F16, F32, I8, I16, I32, I64, LANES, VF, VI, Lanes, bf16_to_float, call, vector
from waferline.kernels.cpu.tiles import CHUNK_K, FloatTile, QuantTile

Body = Callable[[Lanes, Operands], list[Any]]


def _widened(lanes: Lanes, code: Any, bias: int) -> Any:
    """The low byte of each lane, less the bias, as f32."""
    value = lanes.and_(code, 0xFF)
    return lanes.to_float(lanes.b.sub(value, lanes.ints(bias)) if bias else value)


def _from_table(lanes: Lanes, code: Any, bias: int) -> Any:
    """The low four bits of each lane, less the bias, as f32: one permutation instead of a mask and a conversion."""
    table = ir.Constant(VF, [float(i - bias) for i in range(LANES)])
    return call(lanes.b, "llvm.x86.avx512.permvar.sf.512", VF, [table, code])


def exact_body(tile: QuantTile, n: int, isa: Isa) -> Body:
    """The same sums with the codes widened to f32 and the activations left alone."""
    return _Exact(tile, n, isa).body


@dataclass(frozen=True, slots=True)
class _Exact:
    tile: QuantTile
    n: int
    isa: Isa

    @property
    def by_table(self) -> bool:
        return self.tile.planes == (4,) and "avx512f" in self.isa.needs

    @property
    def chains(self) -> int:
        """Independent sums per column, to hide the latency of the multiply-add."""
        return {1: 4, 2: 2}.get(self.n, 1)

    def quad_fma(self, lanes: Lanes, ops: Operands, code: Any, x: Any, quad: int, acc: list[list[Any]]) -> None:
        widen = _from_table if self.by_table else _widened
        for t in range(4):
            value = widen(lanes, lanes.shift_right(code, 8 * t), self.tile.bias)
            for i in range(self.n):
                spread = lanes.broadcast(ops.x, lanes.at(x, ((quad * 4 + t) * self.n + i) * 4), F32)
                acc[i][t % self.chains] = lanes.fma(value, spread, acc[i][t % self.chains])

    def chunk_sums(self, lanes: Lanes, ops: Operands, w: Any, x: Any, chunk: Any, sums: list[Any]) -> None:
        """Add one chunk's scaled sums to `sums`, leaving mins, d and dmin to the block."""
        tile, zero = self.tile, lanes.floats(0.0)
        quads_per_sub = min(tile.sub_k, CHUNK_K) // 4
        acc = [[zero] * self.chains for _ in sums]
        for quad, code in enumerate(quads(lanes, tile, ops, w, chunk, masked=not self.by_table)):
            self.quad_fma(lanes, ops, code, x, quad, acc)
            if (quad + 1) % quads_per_sub:
                continue
            sub = lanes.at(scaled(lanes, chunk, max(1, CHUNK_K // tile.sub_k)), quad // quads_per_sub)
            scale = None if tile.scale is None else sub_scale(lanes, tile, ops.weights, w, sub)
            for s, parts in zip(sums, acc, strict=True):
                value, before = _total(lanes, parts), lanes.b.load(s)
                after = lanes.b.fadd(value, before) if scale is None else lanes.fma(value, scale, before)
                lanes.b.store(after, s)
            acc = [[zero] * self.chains for _ in sums]

    def min_sums(self, lanes: Lanes, ops: Operands, w: Any, block: Any) -> list[Any]:
        """sum_sub min * (sum of x), n of them."""
        tile, n = self.tile, self.n
        acc = [lanes.floats(0.0)] * n
        for sub in range(tile.subs):
            at = lanes.at(w, tile.mins_offset + 2 * LANES * (sub // 2))
            pair = lanes.load(ops.weights, at, vector(I8, 2 * LANES))
            picks = ir.Constant(vector(I32), list(range(sub % 2, 2 * LANES, 2)))
            mins = lanes.b.shuffle_vector(pair, ir.Constant(pair.type, ir.Undefined), picks)
            mins = lanes.to_float(lanes.b.zext(mins, VI))
            for i in range(n):
                at = lanes.at(scaled(lanes, block, tile.subs * 4 * n), (sub * n + i) * 4)
                acc[i] = lanes.fma(mins, lanes.broadcast(ops.sums, at, F32), acc[i])
        return acc

    def finished(self, lanes: Lanes, ops: Operands, w: Any, block: Any, values: list[Any]) -> list[Any]:
        """The products of one block out of its sums."""
        b, tile = lanes.b, self.tile
        if tile.has_d:
            d = half_row(lanes, ops.weights, w, tile.d_offset)
            values = [b.fmul(v, d) for v in values]
        if tile.has_mins:
            dmin = half_row(lanes, ops.weights, w, tile.dmin_offset)
            mins = self.min_sums(lanes, ops, w, block)
            values = [b.fsub(v, b.fmul(m, dmin)) for v, m in zip(values, mins, strict=True)]
        return values

    def body(self, lanes: Lanes, ops: Operands) -> list[Any]:
        b, tile, n = lanes.b, self.tile, self.n
        chunks = tile.block_k // CHUNK_K
        ys = variables(lanes, lanes.floats(0.0), n)
        sums = variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = scaled(lanes, loop.index, tile.tile_bytes)
            block = b.add(ops.x_block, loop.index)
            for s in sums:
                b.store(lanes.floats(0.0), s)
            for chunk in chunk_loop(lanes, chunks):
                x = scaled(lanes, b.add(scaled(lanes, block, chunks), chunk), CHUNK_K * n * 4)
                self.chunk_sums(lanes, ops, w, x, chunk, sums)
            values = self.finished(lanes, ops, w, block, [b.load(s) for s in sums])
            for y, v in zip(ys, values, strict=True):
                b.store(b.fadd(b.load(y), v), y)
        return [b.load(y) for y in ys]


def _total(lanes: Lanes, parts: list[Any]) -> Any:
    while len(parts) > 1:
        parts = [lanes.b.fadd(parts[i], parts[i + 1]) for i in range(0, len(parts), 2)]
    return parts[0]


# --- unquantised weights ----------------------------------------------------------------------------------------------
_FLOAT_LOADS: dict[str, tuple[Any, Callable[[Lanes, Any], Any]]] = {
    "F16": (vector(F16), lambda lanes, v: lanes.b.fpext(v, VF)),
    "BF16": (vector(I16), bf16_to_float),
    "F32": (VF, lambda lanes, v: v),
}


def float_body(tile: FloatTile, n: int) -> Body:
    memory, widen = _FLOAT_LOADS[tile.name]
    chains = 4 if n <= 2 else 2 if n <= 6 else 1

    def body(lanes: Lanes, ops: Operands) -> list[Any]:
        b = lanes.b
        ys = variables(lanes, lanes.floats(0.0), n)
        with cgutils.for_range(b, ops.blocks, intp=I64) as loop:
            w = scaled(lanes, loop.index, tile.tile_bytes)
            prefetch_lines(lanes, ops, w, tile.tile_bytes)
            x = scaled(lanes, b.add(ops.x_block, loop.index), tile.block_k * n * 4)
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
