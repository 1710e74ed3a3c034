"""Posits: `posit(n, es)` for 2 <= n <= 16, by exhaustive tables.

A posit is a two's-complement integer: a sign, a run of equal regime bits (m ones: r = m - 1, m zeros: r = -m), up to
`es` exponent bits, and a fraction; bits cut off are zero. Its value is (-1)^s * 2^(r * 2^es + e) * (1 + f); 0...0 is
zero and 10...0 is NaR, "not a real" (Gustafson and Yonemoto, "Beating floating point at its own game", 2017).
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.formats.codecs.record import (
    F32,
    F32_MAX,
    U8,
    Codec,
    as_bytes,
    from_bytes,
    pack_nibble_pairs,
    unpack_nibble_pairs,
)

MAX_BITS = 16  # tables have 2^n entries; wider posits would want arithmetic instead
MAX_ES = 4
Rounding = Literal["nearest", "standard"]


def _check(n: int, es: int) -> None:
    if not (2 <= n <= MAX_BITS and 0 <= es <= MAX_ES):
        raise UnsupportedError(
            f"posit({n},{es}) is not available", hint=f"n from 2 to {MAX_BITS}, es from 0 to {MAX_ES}"
        )


@functools.lru_cache(maxsize=32)
def posit_table(n: int, es: int) -> FloatArray:
    """The value of every code, in code order `(2**n,)`; NaN at NaR. All values are exact in float64."""
    _check(n, es)
    return _table(n, es)


def _table(n: int, es: int) -> FloatArray:
    codes = np.arange(2**n, dtype=np.int64)
    negative = codes >> (n - 1) == 1
    body = np.where(negative, -codes, codes) & (2 ** (n - 1) - 1)  # n - 1 bits after the sign
    left = n - 1  # bits of the body not yet read
    first = (body >> (left - 1)) & 1
    run = np.zeros_like(codes)
    running = np.ones_like(codes, dtype=bool)
    for bit in range(left - 1, -1, -1):
        running &= ((body >> bit) & 1) == first
        run += running
    regime = np.where(first == 1, run - 1, -run)
    rest = np.maximum(left - run - 1, 0)  # bits after the regime and the bit that ends it
    exponent_bits = np.minimum(rest, es)
    exponent = ((body >> (rest - exponent_bits)) & ((1 << exponent_bits) - 1)) << (es - exponent_bits)
    fraction_bits = rest - exponent_bits
    fraction = (body & ((1 << fraction_bits) - 1)) / (1 << fraction_bits).astype(np.float64)
    value = np.ldexp(1.0 + fraction, (regime * 2**es + exponent).astype(np.int32))
    value = np.where(negative, -value, value)
    value[0], value[2 ** (n - 1)] = 0.0, np.nan
    return value


@functools.lru_cache(maxsize=32)
def _boundaries(n: int, es: int, rounding: Rounding) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Where the positive code k becomes k + 1, for k = 1 ... maxpos - 1, and whether the boundary itself goes up.

    Ties go to the even code. `nearest` takes the middle of the two values; `standard` the value of the (n+1)-bit posit
    between them, which differs only where exponent bits are cut off (Posit Standard 2022, section 4.1).
    """
    values = posit_table(n, es)[1 : 2 ** (n - 1)]
    if rounding == "nearest":
        middle = (values[:-1] + values[1:]) / 2
    else:
        middle = _table(n + 1, es)[3 : 2**n - 1 : 2]
    k = np.arange(1, len(values))
    return middle, k % 2 == 1


def posit_encode(x: NDArray[np.floating], n: int, es: int, rounding: Rounding = "nearest") -> NDArray[np.uint16]:
    """Values to codes, any shape. Nothing but zero becomes zero, nothing finite becomes NaR; NaN and infinity do.

    Raises `UnsupportedError` for an n or es outside the tables.
    """
    _check(n, es)
    middle, tie_up = _boundaries(n, es, rounding)
    magnitude = np.abs(np.asarray(x, np.float64))
    below = np.searchsorted(middle, magnitude, side="left")  # boundaries strictly below x
    at = np.minimum(below, max(len(middle) - 1, 0))
    tied = (middle[at] == magnitude) & tie_up[at] if len(middle) else np.zeros(magnitude.shape, bool)
    code = np.where(magnitude == 0, 0, below + 1 + tied).astype(np.int64)
    code = np.where(np.signbit(x), -code, code) & (2**n - 1)
    return np.where(np.isfinite(magnitude), code, 2 ** (n - 1)).astype(np.uint16)


def posit_decode(codes: NDArray[np.integer], n: int, es: int) -> FloatArray:
    """Codes to values, any shape; NaR to NaN."""
    return posit_table(n, es)[codes]


def quire_bits(n: int, es: int, terms: int) -> int:
    """Width of the fixed-point accumulator that sums `terms` products of posits exactly (sign included)."""
    values = posit_table(n, es)[1 : 2 ** (n - 1)]
    span = 2 * int(np.log2(values[-1] / values[0]))
    return span + 1 + int(np.ceil(np.log2(max(terms, 1))))


def _pack(codes: NDArray[np.uint16], n: int) -> U8:
    """Codes of a row packed n bits each, lowest bit first."""
    if n == 4:
        return pack_nibble_pairs(codes.astype(np.uint8))
    if n == 8:
        return codes.astype(np.uint8)
    return as_bytes(codes)


def _unpack(data: U8, n: int) -> NDArray[np.integer]:
    if n == 4:
        return unpack_nibble_pairs(data)
    return data if n == 8 else from_bytes(data, "u2").astype(np.uint16)


def _posit_codec(name: str, n: int, es: int) -> Codec:
    def encode(x: F32, scale: float) -> U8:
        return _pack(posit_encode(x / np.float32(scale), n, es), n)

    def decode(data: U8, _cols: int, scale: float) -> F32:
        return posit_decode(_unpack(data, n), n, es).astype(np.float32) * np.float32(scale)

    return Codec(
        name,
        8 // n if n < 8 else 1,
        lambda cols: cols * n // 8,
        encode,
        decode,
        F32_MAX,
        f"posit({n},{es}), nearest value, ties to even code; saturating; optional tensor scale",
        non_finite="nan",
        tensor_scale="optional",
        # posits are densest around 1: the largest weight goes where the fraction still has bits
        element_max=float(2 ** (2**es)),
    )


CODECS: tuple[Codec, ...] = (
    _posit_codec("posit4", 4, 1),  # XR-NPE's three formats (arXiv 2508.13049)
    _posit_codec("posit8", 8, 0),
    _posit_codec("posit16", 16, 1),
    _posit_codec("posit8_2", 8, 2),  # Posit Standard 2022 fixes es = 2
    _posit_codec("posit16_2", 16, 2),
)
