"""AMX tile registers as Numba functions see them: set up, given back, multiplied.

A register holds 16 rows of 64 bytes. TDPBSSD adds 16 tokens x 64 columns times 64 columns x 16 rows of signed bytes to
int32 sums; one takes 16 cycles (measured: 3.0e12 multiply-adds a second and core at 3 GHz).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import I8, I64, Lanes, call, data_pointer

TOKENS = 16  # rows of an activation tile
TILE_K = 64  # columns in a tile
REGISTER_BYTES = 1024
ALIGN = 64

# Registers: for each of PAIR row tiles the sums of its two planes and of its mins, then what is multiplied.
PAIR, SUMS_EACH, LEFT, RIGHT = 2, 3, 6, 7
MIN_SUMS = 2
# As LDTILECFG reads it: palette 1, then bytes a row of eight registers (16 bits each), then their rows.
PALETTE = bytes([1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8])


def tile_op(lanes: Lanes, name: str, *arguments: Any) -> None:
    """One tile instruction as LLVM names it (`llvm.x86.<name>`); plain ints are register numbers."""
    call(
        lanes.b, f"llvm.x86.{name}", ir.VoidType(), [ir.Constant(I8, a) if isinstance(a, int) else a for a in arguments]
    )


@intrinsic
def configure(typing_context: Any, before: Any) -> Any:
    """Set this thread's tile registers up, after writing how they were to `before` (64 bytes); `restore` must follow."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        lanes = Lanes(builder)
        tile_op(lanes, "sttilecfg", data_pointer(context, builder, signature.args[0], a[0]))
        data = ir.Constant(ir.ArrayType(I8, 64), bytearray(PALETTE))
        place = cgutils.alloca_once(builder, data.type)
        builder.store(data, place)
        tile_op(lanes, "ldtilecfg", builder.bitcast(place, I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(before), code


@intrinsic
def restore(typing_context: Any, before: Any) -> Any:
    """Leave the tile registers as they were found: set up for another library that does so once a thread, or given back,
    so that a switch of threads need not save them."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        lanes, was = Lanes(builder), data_pointer(context, builder, signature.args[0], a[0])
        with builder.if_else(builder.icmp_unsigned("==", builder.load(was), ir.Constant(I8, 0))) as (unused, used):
            with unused:
                tile_op(lanes, "tilerelease")
            with used:
                tile_op(lanes, "ldtilecfg", was)
        return context.get_dummy_value()

    return types.void(before), code


def at_byte(lanes: Lanes, base: Any, offset: int) -> Any:
    """The byte pointer `offset` bytes behind `base`."""
    return lanes.b.gep(base, [lanes.i64(offset)])


PEAK_CHAINS = 4  # sums in turn, so that none waits for the one before


@intrinsic
def _products_of_ones(typing_context: Any, ones: Any, steps: Any, scratch: Any) -> Any:
    """`steps` times `PEAK_CHAINS` products of the tile `ones` with itself; their sums to `scratch`, tile after tile."""

    def code(context: Any, builder: Any, signature: Any, a: Any) -> Any:
        lanes = Lanes(builder)
        tile, out = (data_pointer(context, builder, signature.args[i], a[i]) for i in (0, 2))
        for p in range(PEAK_CHAINS):
            tile_op(lanes, "tilezero", p)
        for register in (LEFT, RIGHT):
            tile_op(lanes, "tileloadd64", register, tile, lanes.i64(ALIGN))
        with cgutils.for_range(builder, a[1], intp=I64):
            for p in range(PEAK_CHAINS):
                tile_op(lanes, "tdpbssd", p, LEFT, RIGHT)
        for p in range(PEAK_CHAINS):
            tile_op(lanes, "tilestored64", p, at_byte(lanes, out, p * REGISTER_BYTES), lanes.i64(ALIGN))
        return context.get_dummy_value()

    return types.void(ones, types.intp, scratch), code


@jit
def multiply_ones(ones: Any, steps: int, out: Any, at: int) -> None:
    """The arithmetic peak: 16 f32 at byte `at` of `out` become the count of products each lane of a tile row received."""
    sums = np.empty(PEAK_CHAINS * REGISTER_BYTES // 4, np.int32)
    before = np.empty(ALIGN, np.int8)
    configure(before)
    _products_of_ones(ones, steps, sums)
    restore(before)
    for lane in range(16):
        out[at // 4 + lane] = 0
        for p in range(PEAK_CHAINS):
            out[at // 4 + lane] += sums[p * REGISTER_BYTES // 4 + lane]
