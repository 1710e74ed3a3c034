"""The probing loops: read everything once, multiply as fast as registers allow, start threads and wait for them.

Each writes a result that can be checked exactly, so that a compiler that optimised the work away would be caught.
"""

# mypy: disable-error-code="call-arg, var-annotated"
from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import intrinsic

from waferline.kernels.cpu.amx import multiply_ones
from waferline.kernels.cpu.dot import dot4
from waferline.kernels.cpu.isa import current_isa
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import (
    Lanes,
    add,
    f32x16,
    fma,
    i32x16,
    load_f32,
    load_i32,
    spread,
    spread_i32,
    store_f32,
)

STRIDE_BYTES = 512  # eight vectors of 64 bytes a step: enough loads in flight for two a cycle
CHAINS = 12  # independent accumulators: multiply-add latency 4 x 2 units, and some slack


@intrinsic
def _dot(typing_context: Any, acc: Any, codes: Any, x: Any) -> Any:
    """acc + four byte products a lane, in the best instruction there is."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        return dot4(Lanes(builder), current_isa(), a[0], a[1], a[2])

    return i32x16(acc, codes, x), code


@intrinsic
def _to_float(typing_context: Any, v: Any) -> Any:
    return f32x16(v), lambda context, builder, signature, a: Lanes(builder).to_float(a[0])


@jit
def _read(a: Any, first: int, last: int, times: int, out: Any, at: int) -> None:
    """Sum bytes [first, last) of f32 `a`, `times` times over, lane by lane, into 16 f32 at byte `at` of `out`."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = spread(0.0)
    for _ in range(times):
        for i in range(first, last, STRIDE_BYTES):
            s0 = add(s0, load_f32(a, i))
            s1 = add(s1, load_f32(a, i + 64))
            s2 = add(s2, load_f32(a, i + 128))
            s3 = add(s3, load_f32(a, i + 192))
            s4 = add(s4, load_f32(a, i + 256))
            s5 = add(s5, load_f32(a, i + 320))
            s6 = add(s6, load_f32(a, i + 384))
            s7 = add(s7, load_f32(a, i + 448))
    total = add(add(add(s0, s1), add(s2, s3)), add(add(s4, s5), add(s6, s7)))
    store_f32(out, at, total)


@jit(parallel=True)
def read_parallel(a: Any, each: int, times: int, threads: int, out: Any) -> None:
    """Each of `threads` threads reads `each` bytes of its own, `times` times."""
    for t in prange(threads):
        _read(a, t * each, (t + 1) * each, times, out, t * 64)


@jit(fast=True)
def _sum_words(words: Any) -> Any:
    total = np.int64(0)
    for i in range(words.size):
        total += words[i]
    return total


@jit(parallel=True)
def read_words(words: Any, each: int, threads: int, sums: Any) -> None:
    """Each of `threads` threads adds up `each` i64 of its own, once. The compiler's plain loop: from main memory it is a
    seventh faster than sixteen lanes at a time, from the caches half as fast."""
    for t in prange(threads):
        sums[t] = _sum_words(words[t * each : (t + 1) * each])


@jit
def read_alone(a: Any, each: int, times: int, out: Any) -> None:
    """`read_parallel` on the calling thread, without a fork."""
    _read(a, 0, each, times, out, 0)


@jit
def _multiply_f32(ones: Any, steps: int, out: Any, at: int) -> None:
    x = load_f32(ones, 0)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = a10 = a11 = spread(0.0)
    for _ in range(steps):
        a0, a1, a2, a3 = fma(x, x, a0), fma(x, x, a1), fma(x, x, a2), fma(x, x, a3)
        a4, a5, a6, a7 = fma(x, x, a4), fma(x, x, a5), fma(x, x, a6), fma(x, x, a7)
        a8, a9, a10, a11 = fma(x, x, a8), fma(x, x, a9), fma(x, x, a10), fma(x, x, a11)
    low = add(add(add(a0, a1), add(a2, a3)), add(a4, a5))
    store_f32(out, at, add(low, add(add(a6, a7), add(add(a8, a9), add(a10, a11)))))


@jit
def _multiply_i8(ones: Any, steps: int, out: Any, at: int) -> None:
    """Twelve byte dot products a step; operands come from memory, so that none can be computed once and kept."""
    zero = spread_i32(ones, 1024)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = a10 = a11 = zero
    for step in range(steps):
        at_x = (step & 3) * 256
        u, v, w = load_i32(ones, at_x), load_i32(ones, at_x + 64), load_i32(ones, at_x + 128)
        x = spread_i32(ones, at_x)
        a0, a1, a2 = _dot(a0, u, x), _dot(a1, v, x), _dot(a2, w, x)
        x = spread_i32(ones, at_x + 4)
        a3, a4, a5 = _dot(a3, u, x), _dot(a4, v, x), _dot(a5, w, x)
        x = spread_i32(ones, at_x + 8)
        a6, a7, a8 = _dot(a6, u, x), _dot(a7, v, x), _dot(a8, w, x)
        x = spread_i32(ones, at_x + 12)
        a9, a10, a11 = _dot(a9, u, x), _dot(a10, v, x), _dot(a11, w, x)
    f0, f1, f2 = add(_to_float(a0), _to_float(a1)), add(_to_float(a2), _to_float(a3)), add(_to_float(a4), _to_float(a5))
    f3, f4 = add(_to_float(a6), _to_float(a7)), add(_to_float(a8), _to_float(a9))
    store_f32(out, at, add(add(add(f0, f1), add(f2, f3)), add(f4, add(_to_float(a10), _to_float(a11)))))


@jit(parallel=True)
def multiply_f32(ones: Any, steps: int, threads: int, out: Any) -> None:
    """`CHAINS` fused multiply-adds of 16 f32 a step on each thread."""
    for t in prange(threads):
        _multiply_f32(ones, steps, out, t * 64)


@jit(parallel=True)
def multiply_i8(ones: Any, steps: int, threads: int, out: Any) -> None:
    """`CHAINS` dot products of 64 bytes a step on each thread."""
    for t in prange(threads):
        _multiply_i8(ones, steps, out, t * 64)


@jit(parallel=True)
def multiply_tiles(ones: Any, steps: int, threads: int, out: Any) -> None:
    """Some tile products a step on each thread; `ones` is one tile of them."""
    for t in prange(threads):
        multiply_ones(ones, steps, out, t * 64)


@jit(parallel=True)
def fork_join(out: Any, threads: int) -> None:
    """Start `threads` threads on next to nothing and wait for all."""
    for t in prange(threads):
        out[16 * t] += 1.0


@jit
def call(out: Any) -> None:
    """What one call of a compiled function costs."""
    out[0] += 1.0
