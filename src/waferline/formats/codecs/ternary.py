"""Ternary super-blocks of 256 weights: TQ1_0 (five trits a byte, 1.6875 bits) and TQ2_0 (two bits a trit, 2.0625 bits).

Layouts are ggml's (`block_tq1_0`, `block_tq2_0`): codes first, then one half-precision scale, the largest magnitude.
"""

from __future__ import annotations

import numpy as np

from waferline.formats.codecs.record import (
    F32,
    U8,
    Codec,
    as_bytes,
    f16_column,
    ggml_codec,
    inverse_or_zero,
    round_half_away,
)

BLOCK = 256
# TQ1_0 packs trits `stride` apart into one byte: 160 = 5 x 32, then 80 = 5 x 16, then 16 = 4 x 4 weights
_TQ1_GROUPS = ((0, 160, 32), (160, 80, 16), (240, 16, 4))


def _trits(x: F32) -> tuple[F32, U8]:
    """Scale `(n, 1)` and codes 0, 1, 2 for -d, 0, +d."""
    d = np.abs(x).max(axis=-1, keepdims=True)
    return d, (round_half_away(x * inverse_or_zero(d)).astype(np.int8) + np.int8(1)).astype(np.uint8)


def encode_tq1_0(x: F32) -> U8:
    d, q = _trits(x)
    columns = []
    for start, length, stride in _TQ1_GROUPS:
        trits = q[:, start : start + length].reshape(len(q), -1, stride).astype(np.uint16)
        weights = 3 ** np.arange(4, 4 - trits.shape[1], -1, dtype=np.uint16)  # first trit is the most significant
        columns.append((trits * weights[:, None]).sum(axis=1, dtype=np.uint16))
    number = np.concatenate(columns, axis=-1).astype(np.uint32)
    fixed_point = (number * 256 + 242) // 243  # q / 243 as an 8-bit fraction, rounded up: trits come out by * 3 >> 8
    return np.concatenate([fixed_point.astype(np.uint8), as_bytes(d.astype(np.float16))], axis=-1)


def decode_tq1_0(data: U8) -> F32:
    parts, at = [], 0
    for _start, length, stride in _TQ1_GROUPS:
        byte = data[:, at : at + stride]
        powers = (3 ** np.arange(length // stride)).astype(np.uint8)
        parts.append((byte[:, None, :] * powers[:, None]).reshape(len(data), -1))  # uint8: the integer part falls off
        at += stride
    trit = (np.concatenate(parts, axis=-1).astype(np.uint16) * np.uint16(3)) >> np.uint16(8)
    return f16_column(data[:, 52:]) * (trit.astype(np.float32) - np.float32(1))


_SHIFTS = np.array([0, 2, 4, 6], np.uint8)[:, None]


def encode_tq2_0(x: F32) -> U8:
    d, q = _trits(x)
    packed = np.bitwise_or.reduce(q.reshape(len(q), 2, 4, 32) << _SHIFTS, axis=2)
    return np.concatenate([packed.reshape(len(q), 64), as_bytes(d.astype(np.float16))], axis=-1)


def decode_tq2_0(data: U8) -> F32:
    q = (data[:, :64].reshape(-1, 2, 1, 32) >> _SHIFTS) & np.uint8(3)
    return f16_column(data[:, 64:]) * (q.reshape(-1, BLOCK).astype(np.float32) - np.float32(1))


CODECS: tuple[Codec, ...] = (
    ggml_codec("tq1_0", BLOCK, 54, encode_tq1_0, decode_tq1_0, "5 trits a byte"),
    ggml_codec("tq2_0", BLOCK, 66, encode_tq2_0, decode_tq2_0, "4 trits a byte"),
)
