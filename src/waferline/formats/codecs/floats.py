"""Plain floats: F32, F16, BF16 and the small ones, FP8 E4M3 and E5M2 and FP4 E2M1.

Small floats follow the OCP 8-bit Floating Point Specification 1.0 (tables 1 and 2) and the OCP Microscaling Formats
Specification 1.0 (tables 4 and 5): round to nearest, ties to even; finite values beyond the range saturate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .record import F16_MAX, F32, F32_MAX, U8, Codec, as_bytes, from_bytes, pack_nibble_pairs, unpack_nibble_pairs


@dataclass(frozen=True, slots=True)
class MiniFloat:
    """A sign, `exponent_bits` and `mantissa_bits`. `max_code` is the largest finite positive code."""

    name: str
    exponent_bits: int
    mantissa_bits: int
    max_code: int
    inf_code: int | None
    nan_code: int | None

    @property
    def bias(self) -> int:
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def sign_bit(self) -> int:
        return 1 << (self.exponent_bits + self.mantissa_bits)

    @property
    def max_value(self) -> float:
        """The largest finite value."""
        return float(self.table()[self.max_code])

    def table(self) -> F32:
        """The value of every code, in code order; NaN and infinities included."""
        codes = np.arange(2 * self.sign_bit)
        magnitude = codes % self.sign_bit
        exponent = magnitude >> self.mantissa_bits
        fraction = (magnitude % 2**self.mantissa_bits) / 2**self.mantissa_bits
        subnormal = exponent == 0
        value = np.ldexp(np.where(subnormal, fraction, 1.0 + fraction), np.where(subnormal, 1, exponent) - self.bias)
        value = np.where(magnitude > self.max_code, np.nan, value)
        if self.inf_code is not None:
            value = np.where(magnitude == self.inf_code, np.inf, value)
        return np.where(codes >= self.sign_bit, -value, value).astype(np.float32)

    def decode(self, codes: U8) -> F32:
        """Codes to values, any shape."""
        return self.table()[codes]

    def encode(self, x: F32, *, saturate: bool = True) -> U8:
        """Values to codes, any shape. Without `saturate`, what overflows becomes infinity, or NaN where there is none.

        With `saturate` infinities too become the largest finite value. NaN stays NaN where the format has one, and is
        otherwise the caller's to refuse.
        """
        x = np.asarray(x, np.float32)
        magnitude = np.abs(x)
        lowest = 1 - self.bias  # exponent of the smallest normal number, and of all subnormals
        exponent = np.maximum(((magnitude.view(np.uint32) >> np.uint32(23)).astype(np.int32)) - 127, lowest)
        exponent = np.minimum(exponent, self.bias + 2)  # beyond the range anyway; keeps ldexp finite
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.rint(np.ldexp(magnitude, self.mantissa_bits - exponent))
            steps = np.minimum(steps, np.float32(2.0 ** (self.mantissa_bits + 4)))
            steps = np.where(np.isnan(x), np.float32(0), steps).astype(np.int32)
        code = steps + ((exponent - lowest) << self.mantissa_bits)  # a carry out of the mantissa lands in the exponent
        beyond = code > self.max_code
        if saturate:
            code = np.where(beyond, self.max_code, code)
        else:
            overflow = self.inf_code if self.inf_code is not None else self.nan_code
            code = np.where(beyond, self.max_code if overflow is None else overflow, code)
        if self.nan_code is not None:
            code = np.where(np.isnan(x), self.nan_code, code)
        return (code | np.where(np.signbit(x), self.sign_bit, 0)).astype(np.uint8)


E4M3 = MiniFloat("e4m3", 4, 3, max_code=0x7E, inf_code=None, nan_code=0x7F)  # OCP FP8 table 1: no infinity
E5M2 = MiniFloat("e5m2", 5, 2, max_code=0x7B, inf_code=0x7C, nan_code=0x7E)  # OCP FP8 table 2: IEEE-like
E3M2 = MiniFloat("e3m2", 3, 2, max_code=0x1F, inf_code=None, nan_code=None)  # OCP MX table 4
E2M3 = MiniFloat("e2m3", 2, 3, max_code=0x1F, inf_code=None, nan_code=None)  # OCP MX table 4
E2M1 = MiniFloat("e2m1", 2, 1, max_code=0x07, inf_code=None, nan_code=None)  # OCP MX table 5: 0 .5 1 1.5 2 3 4 6


def encode_bf16(x: F32) -> U8:
    """`(n, k)` float32 to bfloat16 bytes `(n, 2k)`: nearest even, NaN made quiet."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    nearest_even = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return as_bytes(np.where(is_nan, quiet, nearest_even).astype(np.uint16))


def decode_bf16(data: U8) -> F32:
    """bfloat16 bytes `(n, 2k)` to float32 `(n, k)`."""
    return (from_bytes(data, "u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def _f32() -> Codec:
    return Codec(
        "fp32",
        1,
        lambda cols: 4 * cols,
        lambda x, _s: as_bytes(x),
        lambda data, _c, _s: from_bytes(data, "f4").astype(np.float32),
        F32_MAX,
        "IEEE binary32",
        non_finite="kept",
        ggml="F32",
    )


def _f16() -> Codec:
    return Codec(
        "fp16",
        1,
        lambda cols: 2 * cols,
        lambda x, _s: as_bytes(x.astype(np.float16)),
        lambda data, _c, _s: from_bytes(data, "f2").astype(np.float32),
        F16_MAX,
        "IEEE binary16",
        non_finite="kept",
        ggml="F16",
    )


def _bf16() -> Codec:
    largest = float(np.uint32(0x7F7F0000).view(np.float32))
    return Codec(
        "bf16",
        1,
        lambda cols: 2 * cols,
        lambda x, _s: encode_bf16(x),
        lambda data, _c, _s: decode_bf16(data),
        largest,
        "bfloat16: the upper half of binary32",
        non_finite="kept",
        ggml="BF16",
    )


def _fp8(name: str, element: MiniFloat, about: str) -> Codec:
    return Codec(
        name,
        1,
        lambda cols: cols,
        lambda x, scale: element.encode(x / np.float32(scale)),
        lambda data, _c, scale: element.decode(data) * np.float32(scale),
        F32_MAX,
        about,
        non_finite="nan",
        tensor_scale="optional",
        element_max=element.max_value,
    )


def _fp4() -> Codec:
    return Codec(
        "fp4_e2m1",
        2,
        lambda cols: cols // 2,
        lambda x, scale: pack_nibble_pairs(E2M1.encode(x / np.float32(scale))),
        lambda data, _c, scale: E2M1.decode(unpack_nibble_pairs(data)) * np.float32(scale),
        F32_MAX,
        "FP4 E2M1, two a byte, saturating at 6; optional tensor scale",
        tensor_scale="optional",
        element_max=E2M1.max_value,
    )


CODECS: tuple[Codec, ...] = (
    _f32(),
    _f16(),
    _bf16(),
    _fp8("fp8", E4M3, "FP8 E4M3 (fn: finite and NaN), saturating at 448; optional tensor scale"),
    _fp8("fp8_e5m2", E5M2, "FP8 E5M2, saturating at 57344; optional tensor scale"),
    _fp4(),
)
