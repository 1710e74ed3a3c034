"""The first ggml block formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Blocks of 32 weights, half-precision scale (and minimum).

Layouts and rounding are ggml's (`ggml-common.h`, `quantize_row_*_ref`); encoders give the same bytes as the reference.
"""

from __future__ import annotations

import numpy as np

from .record import (
    F16_MAX,
    F32,
    U8,
    Codec,
    as_bytes,
    block_codec,
    f16_column,
    from_bytes,
    inverse_or_zero,
    pack_nibble_halves,
    round_half_away,
    unpack_nibble_halves,
)

BLOCK = 32


def _signed_extreme(x: F32) -> F32:
    """The element of largest magnitude of each block, with its sign, `(n, 1)`."""
    return np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)


def _pack_high_bits(q: U8) -> U8:
    """Bit 4 of 32 codes as 4 bytes, weight 0 in the lowest bit."""
    return np.packbits(q >> np.uint8(4), axis=-1, bitorder="little")


def _unpack_high_bits(data: U8) -> U8:
    return np.unpackbits(data, axis=-1, bitorder="little") << np.uint8(4)


def _symmetric_codes(x: F32, levels: int) -> tuple[F32, U8]:
    """Scale `(n, 1)` and codes of a block whose extreme element gets code 0: x = d * (q - levels)."""
    d = _signed_extreme(x) / np.float32(-levels)
    q = np.trunc(x * inverse_or_zero(d) + np.float32(levels + 0.5))
    return d, np.clip(q, 0, 2 * levels - 1).astype(np.uint8)


def _affine_codes(x: F32, top: int) -> tuple[F32, F32, U8]:
    """Scale, minimum `(n, 1)` and codes of a block: x = d * q + m, q from 0 to `top`."""
    low = x.min(axis=-1, keepdims=True)
    d = (x.max(axis=-1, keepdims=True) - low) / np.float32(top)
    q = np.trunc((x - low) * inverse_or_zero(d) + np.float32(0.5))
    return d, low, np.clip(q, 0, top).astype(np.uint8)


def _half(x: F32) -> U8:
    return as_bytes(x.astype(np.float16))


def encode_q4_0(x: F32) -> U8:
    d, q = _symmetric_codes(x, 8)
    return np.concatenate([_half(d), pack_nibble_halves(q)], axis=-1)


def decode_q4_0(data: U8) -> F32:
    q = unpack_nibble_halves(data[:, 2:]).astype(np.float32) - np.float32(8)
    return f16_column(data[:, :2]) * q


def encode_q4_1(x: F32) -> U8:
    d, low, q = _affine_codes(x, 15)
    return np.concatenate([_half(d), _half(low), pack_nibble_halves(q)], axis=-1)


def decode_q4_1(data: U8) -> F32:
    q = unpack_nibble_halves(data[:, 4:]).astype(np.float32)
    return f16_column(data[:, :2]) * q + f16_column(data[:, 2:4])


def encode_q5_0(x: F32) -> U8:
    d, q = _symmetric_codes(x, 16)
    return np.concatenate([_half(d), _pack_high_bits(q), pack_nibble_halves(q & np.uint8(15))], axis=-1)


def decode_q5_0(data: U8) -> F32:
    q = unpack_nibble_halves(data[:, 6:]) | _unpack_high_bits(data[:, 2:6])
    return f16_column(data[:, :2]) * (q.astype(np.float32) - np.float32(16))


def encode_q5_1(x: F32) -> U8:
    d, low, q = _affine_codes(x, 31)
    return np.concatenate([_half(d), _half(low), _pack_high_bits(q), pack_nibble_halves(q & np.uint8(15))], axis=-1)


def decode_q5_1(data: U8) -> F32:
    q = unpack_nibble_halves(data[:, 8:]) | _unpack_high_bits(data[:, 4:8])
    return f16_column(data[:, :2]) * q.astype(np.float32) + f16_column(data[:, 2:4])


def encode_q8_0(x: F32) -> U8:
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    q = round_half_away(x * inverse_or_zero(d))
    return np.concatenate([_half(d), q.astype(np.int8).view(np.uint8)], axis=-1)


def decode_q8_0(data: U8) -> F32:
    return from_bytes(data[:, 2:], "i1").astype(np.float32) * f16_column(data[:, :2])


_TABLE = (  # name, bytes a block, encode, decode, largest magnitude whose scale still fits in half precision
    ("q4_0", 18, encode_q4_0, decode_q4_0, 8 * F16_MAX),
    ("q4_1", 20, encode_q4_1, decode_q4_1, F16_MAX),
    ("q5_0", 22, encode_q5_0, decode_q5_0, 16 * F16_MAX),
    ("q5_1", 24, encode_q5_1, decode_q5_1, F16_MAX),
    ("q8_0", 34, encode_q8_0, decode_q8_0, 127 * F16_MAX),
)

CODECS: tuple[Codec, ...] = tuple(
    block_codec(n, BLOCK, size, enc, dec, max_abs=top, about=f"ggml {n.upper()}: blocks of 32", ggml=n.upper())
    for n, size, enc, dec, top in _TABLE
)
