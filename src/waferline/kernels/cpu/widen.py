"""Formats without a kernel whose every value a format with one holds exactly: their blocks are rewritten when a model is loaded.

Blocks of 32 small codes with one scale become Q8_0, whose codes have eight bits: twice the bytes in memory, the same numbers.
Layouts: ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from waferline.errors import UnsupportedError

_IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # twice the value
_E8M0_HALF = 128  # exponent at which a doubled code counts once
_F16_EXPONENTS = (-24, 15)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """u8[n, 16] -> u8[n, 32]: low halves, then high halves."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _q5_0(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    return blocks[:, :2], (_nibbles(blocks[:, 6:]) | high << 4).astype(np.int8) - np.int8(16)


def _iq4_nl(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return blocks[:, :2], np.array(_IQ4_NL, np.int8)[_nibbles(blocks[:, 2:])]


def _mxfp4(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array(_E2M1, np.int8)[_nibbles(blocks[:, 1:])]
    exponents = np.where(codes.any(axis=1), blocks[:, 0].astype(np.int32) - _E8M0_HALF, 0)
    low, high = _F16_EXPONENTS
    if exponents.size and (exponents.min() < low or exponents.max() > high):
        raise UnsupportedError("MXFP4 blocks with scales beyond those of f16", hint=f"2**{low} to 2**{high}")
    return np.ldexp(1.0, exponents).astype(np.float16).view(np.uint8).reshape(-1, 2), codes


# Format -> its bytes a block, and what splits blocks u8[n, bytes] into scales (f16 as u8[n, 2]) and codes i8[n, 32].
_BLOCKS: dict[str, tuple[int, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]] = {
    "Q5_0": (22, _q5_0),
    "IQ4_NL": (18, _iq4_nl),
    "MXFP4": (17, _mxfp4),
}


def kept_as(format: str) -> str:
    """The format that `format` is held in: Q8_0 for what is rewritten, else its own."""
    return "Q8_0" if format.upper() in _BLOCKS else format


def widened(raw: np.ndarray, format: str) -> np.ndarray:
    """u8 blocks of `format` as those of `kept_as(format)`."""
    if format.upper() not in _BLOCKS:
        return raw
    size, split = _BLOCKS[format.upper()]
    scales, codes = split(raw.reshape(-1, size))
    return np.concatenate([scales, codes.view(np.uint8)], axis=1).reshape(-1)
