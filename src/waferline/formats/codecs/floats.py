"""Plain floats: F32, F16, BF16 and the small ones, FP8 E4M3 and E5M2 and FP4 E2M1.

The values and the rounding of small floats are `ml_dtypes`', which follows the OCP 8-bit Floating Point Specification 1.0
(tables 1 and 2) and the OCP Microscaling Formats Specification 1.0 (tables 4 and 5): round to nearest, ties to even.
Here finite values beyond the range saturate, and infinities with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True, slots=True)
class MiniFloat:
    """A float of at most eight bits, one a byte in arrays of codes; `name` is what codecs and messages call it."""

    name: str
    dtype: np.dtype[np.generic]

    @property
    def max_value(self) -> float:
        """The largest finite value."""
        return float(ml_dtypes.finfo(self.dtype).max)

    def table(self) -> F32:
        """The value of every code, in code order; NaN and infinities included."""
        codes = np.arange(2 ** ml_dtypes.finfo(self.dtype).bits, dtype=np.uint8)
        return codes.view(self.dtype).astype(np.float32)

    def decode(self, codes: U8) -> F32:
        """Codes to values, any shape."""
        return self.table()[codes]  # five times as fast as casting each

    def encode(self, x: F32) -> U8:
        """Values to codes, any shape. NaN stays NaN where the format has one, and is otherwise the caller's to refuse."""
        largest = np.float32(self.max_value)
        return np.clip(np.asarray(x, np.float32), -largest, largest).astype(self.dtype).view(np.uint8)


E4M3 = MiniFloat("e4m3", np.dtype(ml_dtypes.float8_e4m3fn))  # OCP FP8 table 1: no infinity
E5M2 = MiniFloat("e5m2", np.dtype(ml_dtypes.float8_e5m2))  # OCP FP8 table 2: IEEE-like
E3M2 = MiniFloat("e3m2", np.dtype(ml_dtypes.float6_e3m2fn))  # OCP MX table 4
E2M3 = MiniFloat("e2m3", np.dtype(ml_dtypes.float6_e2m3fn))  # OCP MX table 4
E2M1 = MiniFloat("e2m1", np.dtype(ml_dtypes.float4_e2m1fn))  # OCP MX table 5: 0 .5 1 1.5 2 3 4 6


def _plain(name: str, ggml: str, dtype: npt.DTypeLike, about: str) -> Codec:
    """A float that is stored as it is, infinities and NaN too. `as_bytes` and `from_bytes` order the bytes."""
    stored = np.dtype(dtype)
    bits = np.dtype(f"u{stored.itemsize}")  # what has a byte order whatever the float is
    return Codec(
        name,
        1,
        lambda cols: stored.itemsize * cols,
        lambda x, _s: as_bytes(np.ascontiguousarray(x.astype(stored)).view(bits)),
        lambda data, _c, _s: from_bytes(data, bits.str[1:]).astype(bits).view(stored).astype(np.float32),
        float(ml_dtypes.finfo(stored).max),
        about,
        non_finite="kept",
        ggml=ggml,
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
    _plain("fp32", "F32", np.float32, "IEEE binary32"),
    _plain("fp16", "F16", np.float16, "IEEE binary16"),
    _plain("bf16", "BF16", ml_dtypes.bfloat16, "bfloat16: the upper half of binary32"),
    _fp8("fp8", E4M3, "FP8 E4M3 (fn: finite and NaN), saturating at 448; optional tensor scale"),
    _fp8("fp8_e5m2", E5M2, "FP8 E5M2, saturating at 57344; optional tensor scale"),
    _fp4(),
)
