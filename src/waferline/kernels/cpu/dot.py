"""The one primitive everything byte-sized rests on: per 32-bit lane, acc += sum of four u8 x s8 products."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from waferline.kernels.cpu.isa import Isa
from waferline.kernels.cpu.simd import I8, I16, I32, LANES, VI, Lanes, call, vector

_BYTES, _WORDS = vector(I8, 64), vector(I16, 32)


def dot4(lanes: Lanes, isa: Isa, acc: Any, codes: Any, x: Any, *, wide: bool = False, bias: int = 0) -> Any:
    """acc + sum_t codes[t] * x[t] over the four bytes of each lane; `codes` unsigned, `x` signed in [-127, 127].

    `wide` says that codes may exceed 7 bits. Where the instruction saturates 16-bit pairs (`isa.signed_bytes`) such codes
    are made signed by their bias of 128 first, and the result is then sum (codes - 128) * x: see `folds_bias`.
    """
    if wide and folds_bias(isa, wide, bias):
        return _DOTS_SIGNED[isa.byte_dot](lanes, acc, lanes.b.xor(codes, lanes.ints(_all_bytes(0x80))), x)
    return _DOTS[isa.byte_dot](lanes, acc, codes, x)


def folds_bias(isa: Isa, wide: bool, bias: int) -> bool:
    """Whether `dot4` itself subtracts the bias of 128 from the codes."""
    return wide and isa.signed_bytes and bias == 128


def _all_bytes(value: int) -> int:
    pattern = value * 0x01010101
    return pattern - (1 << 32) if pattern >= 1 << 31 else pattern


def _vnni(lanes: Lanes, acc: Any, u: Any, s: Any) -> Any:
    b = lanes.b
    return call(b, "llvm.x86.avx512.vpdpbusd.512", VI, [acc, b.bitcast(u, _BYTES), b.bitcast(s, _BYTES)])


def _maddubs512(lanes: Lanes, acc: Any, u: Any, s: Any) -> Any:
    b = lanes.b
    pairs = call(b, "llvm.x86.avx512.pmaddubs.w.512", _WORDS, [b.bitcast(u, _BYTES), b.bitcast(s, _BYTES)])
    return b.add(acc, call(b, "llvm.x86.avx512.pmaddw.d.512", VI, [pairs, ir.Constant(_WORDS, [1] * 32)]))


def _maddubs256(lanes: Lanes, acc: Any, u: Any, s: Any) -> Any:
    words = vector(I16, 16)
    sums = []
    for i in (0, 1):
        args = [lanes.half(u, I8, 32, i), lanes.half(s, I8, 32, i)]
        pairs = call(lanes.b, "llvm.x86.avx2.pmadd.ub.sw", words, args)
        sums.append(call(lanes.b, "llvm.x86.avx2.pmadd.wd", vector(I32, 8), [pairs, ir.Constant(words, [1] * 16)]))
    return lanes.b.add(acc, lanes.join(sums, 8))


def _sdot(lanes: Lanes, acc: Any, u: Any, s: Any) -> Any:
    quads = [
        call(
            lanes.b,
            "llvm.aarch64.neon.sdot.v4i32.v16i8",
            vector(I32, 4),
            [lanes.half(acc, I32, 4, i), lanes.half(u, I8, 16, i), lanes.half(s, I8, 16, i)],
        )
        for i in range(4)
    ]
    return lanes.join(quads, 4)


def _plain(lanes: Lanes, acc: Any, u: Any, s: Any) -> Any:
    b = lanes.b
    for t in range(4):
        up, top = lanes.ints(24 - 8 * t), lanes.ints(24)
        acc = b.add(acc, b.mul(b.lshr(b.shl(u, up), top), b.ashr(b.shl(s, up), top)))
    return acc


def _signed_by_abs(unsigned_dot: Any) -> Any:
    """s8 x s8 through u8 x s8: |w| * (x with w's sign). |w| <= 128 and |x| <= 127, so pairs stay below 2**15."""

    def dot(lanes: Lanes, acc: Any, w: Any, x: Any) -> Any:
        b = lanes.b
        w8, x8 = b.bitcast(w, _BYTES), b.bitcast(x, _BYTES)
        zero = ir.Constant(_BYTES, [0] * 64)
        negative = b.icmp_signed("<", w8, zero)
        magnitude = b.select(negative, b.sub(zero, w8), w8)
        signed = b.select(negative, b.sub(zero, x8), x8)
        return unsigned_dot(lanes, acc, b.bitcast(magnitude, VI), b.bitcast(signed, VI))

    return dot


_DOTS = {
    "vpdpbusd": _vnni,
    "maddubs512": _maddubs512,
    "maddubs256": _maddubs256,
    "sdot": _sdot,
    "plain": _plain,
}
_DOTS_SIGNED = {
    "maddubs512": _signed_by_abs(_maddubs512),
    "maddubs256": _signed_by_abs(_maddubs256),
    "sdot": _sdot,  # already signed
}


def dot2(lanes: Lanes, isa: Isa, acc: Any, u: Any, s: Any) -> Any:
    """acc + sum of two i16 x i16 products per 32-bit lane."""
    b = lanes.b
    u, s = b.bitcast(u, VI), b.bitcast(s, VI)
    if isa.byte_dot == "vpdpbusd":
        return call(b, "llvm.x86.avx512.vpdpwssd.512", VI, [acc, b.bitcast(u, _WORDS), b.bitcast(s, _WORDS)])
    up = ir.Constant(VI, [16] * LANES)
    low = b.mul(b.ashr(b.shl(u, up), up), b.ashr(b.shl(s, up), up))
    return b.add(acc, b.add(low, b.mul(b.ashr(u, up), b.ashr(s, up))))
