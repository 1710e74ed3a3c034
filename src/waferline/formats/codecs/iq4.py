"""IQ4_NL and IQ4_XS: 4-bit codes into a fixed table of sixteen uneven levels, denser near zero.

IQ4_NL has a half-precision scale every 32 weights; IQ4_XS a 6-bit signed scale every 32 and a half-precision one every
256. Table and byte layouts are ggml's (`kvalues_iq4nl`, `block_iq4_nl`, `block_iq4_xs`).
"""

from __future__ import annotations

import numba
import numpy as np

from waferline.formats.codecs.record import (
    F32,
    U8,
    Codec,
    as_bytes,
    f16_column,
    from_bytes,
    ggml_codec,
    inverse_or_zero,
)
from waferline.formats.codecs.search import FAST, fit_level_scale, nearest_level

SUB = 32
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
BOUNDARIES = (LEVELS[1:] + LEVELS[:-1]) / np.float32(2)
REACH = 7  # candidates each side, as ggml


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _fit(x: np.ndarray, levels: np.ndarray, boundaries: np.ndarray, reach: int, scales: np.ndarray) -> None:
    for b in range(x.shape[0]):
        scales[b] = fit_level_scale(x[b], levels, boundaries, reach)


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _codes(x: np.ndarray, inverse: np.ndarray, boundaries: np.ndarray, q: np.ndarray) -> None:
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            q[b, i] = np.uint8(nearest_level(x[b, i] * inverse[b], boundaries))


def _scales(x: F32) -> F32:
    """The best real scale `(m,)` of every sub-block of `x` `(m, 32)`."""
    out = np.empty(len(x), np.float32)
    _fit(x, LEVELS, BOUNDARIES, REACH, out)
    return out


def _pack(x: F32, scale: F32) -> U8:
    """Codes of `(m, 32)` weights at the given scales, `(m, 16)` bytes: first sixteen low, last sixteen high."""
    q = np.empty(x.shape, np.uint8)
    _codes(x, inverse_or_zero(scale), BOUNDARIES, q)
    return q[:, :16] | (q[:, 16:] << np.uint8(4))


def _values(data: U8) -> F32:
    """Levels `(m, 32)` of `(m, 16)` bytes."""
    return LEVELS[np.concatenate([data & np.uint8(15), data >> np.uint8(4)], axis=1)]


def encode_iq4_nl(x: F32) -> U8:
    x = np.ascontiguousarray(x, np.float32)
    scale = _scales(x).astype(np.float16)
    return np.concatenate([as_bytes(scale[:, None]), _pack(x, scale.astype(np.float32))], axis=1)


def decode_iq4_nl(data: U8) -> F32:
    return f16_column(data[:, :2]) * _values(data[:, 2:])


def encode_iq4_xs(x: F32) -> U8:
    n = len(x)
    sub = np.ascontiguousarray(x, np.float32).reshape(-1, SUB)
    scales = _scales(sub).reshape(n, 8)
    extreme = np.take_along_axis(scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1)
    d = (extreme / np.float32(-32)).astype(np.float16)
    step = np.clip(np.rint(scales * inverse_or_zero(d.astype(np.float32))), -32, 31)
    codes = _pack(sub, (d.astype(np.float32) * step).reshape(-1)).reshape(n, 128)
    six = (step + np.float32(32)).astype(np.uint16)
    high = np.bitwise_or.reduce((six >> 4) << (2 * np.arange(8, dtype=np.uint16)), axis=1)
    low = (six & 15).astype(np.uint8)
    nibbles = low[:, 0::2] | (low[:, 1::2] << np.uint8(4))
    return np.concatenate([as_bytes(d), as_bytes(high[:, None]), nibbles, codes], axis=1)


def decode_iq4_xs(data: U8) -> F32:
    n = len(data)
    high = (from_bytes(data[:, 2:4], "u2").astype(np.uint16) >> (2 * np.arange(8, dtype=np.uint16))) & np.uint16(3)
    low = np.stack([data[:, 4:8] & np.uint8(15), data[:, 4:8] >> np.uint8(4)], axis=2).reshape(n, 8)
    step = (low | (high << 4)).astype(np.float32) - np.float32(32)
    scale = (f16_column(data[:, :2]) * step)[..., None]
    return (scale * _values(data[:, 8:].reshape(-1, 16)).reshape(n, 8, SUB)).reshape(n, 256)


CODECS: tuple[Codec, ...] = (
    ggml_codec("iq4_nl", 32, 18, encode_iq4_nl, decode_iq4_nl, "uneven levels"),
    ggml_codec("iq4_xs", 256, 136, encode_iq4_xs, decode_iq4_xs, "uneven levels, 6-bit scales"),
)
