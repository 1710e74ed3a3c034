"""The first ggml block formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Blocks of 32 weights, half-precision scale (and minimum).

Layouts and rounding are ggml's (`ggml-common.h`, `quantize_row_*_ref`); encoders give the same bytes as the reference.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from waferline.formats.codecs.record import (
    F16_MAX,
    F32,
    U8,
    Codec,
    as_bytes,
    f16_column,
    from_bytes,
    ggml_codec,
    inverse_or_zero,
    pack_nibble_halves,
    round_half_away,
    unpack_nibble_halves,
)

BLOCK = 32


def _signed_extreme(x: F32) -> F32:
    """The element of largest magnitude of each block, with its sign, `(n, 1)`."""
    return np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), axis=-1)


def _pack(q: U8, bits: int) -> list[U8]:
    """Codes of 32 weights as they are stored: of five bits the highest come first, weight 0 in the lowest bit."""
    if bits == 4:
        return [pack_nibble_halves(q)]
    return [np.packbits(q >> np.uint8(4), axis=-1, bitorder="little"), pack_nibble_halves(q & np.uint8(15))]


def _unpack(data: U8, bits: int) -> F32:
    if bits == 4:
        return unpack_nibble_halves(data).astype(np.float32)
    high = np.unpackbits(data[:, :4], axis=-1, bitorder="little") << np.uint8(4)
    return (unpack_nibble_halves(data[:, 4:]) | high).astype(np.float32)


def _half(x: F32) -> U8:
    return as_bytes(x.astype(np.float16))


def _encode_symmetric(x: F32, bits: int) -> U8:
    """x = d * (q - levels): the extreme element of a block gets code 0."""
    levels = 2 ** (bits - 1)
    d = _signed_extreme(x) / np.float32(-levels)
    q = np.trunc(x * inverse_or_zero(d) + np.float32(levels + 0.5))
    return np.concatenate([_half(d), *_pack(np.clip(q, 0, 2 * levels - 1).astype(np.uint8), bits)], axis=-1)


def _decode_symmetric(data: U8, bits: int) -> F32:
    return f16_column(data[:, :2]) * (_unpack(data[:, 2:], bits) - np.float32(2 ** (bits - 1)))


def _encode_affine(x: F32, bits: int) -> U8:
    """x = d * q + m, q from 0 to 2^bits - 1."""
    top = 2**bits - 1
    low = x.min(axis=-1, keepdims=True)
    d = (x.max(axis=-1, keepdims=True) - low) / np.float32(top)
    q = np.trunc((x - low) * inverse_or_zero(d) + np.float32(0.5))
    return np.concatenate([_half(d), _half(low), *_pack(np.clip(q, 0, top).astype(np.uint8), bits)], axis=-1)


def _decode_affine(data: U8, bits: int) -> F32:
    return f16_column(data[:, :2]) * _unpack(data[:, 4:], bits) + f16_column(data[:, 2:4])


def _encode_q8_0(x: F32, bits: int) -> U8:
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    q = round_half_away(x * inverse_or_zero(d))
    return np.concatenate([_half(d), q.astype(np.int8).view(np.uint8)], axis=-1)


def _decode_q8_0(data: U8, bits: int) -> F32:
    return from_bytes(data[:, 2:], "i1").astype(np.float32) * f16_column(data[:, :2])


_TABLE = (  # name, bits, bytes a block, encode, decode, largest magnitude whose scale still fits in half precision
    ("q4_0", 4, 18, _encode_symmetric, _decode_symmetric, 8 * F16_MAX),
    ("q4_1", 4, 20, _encode_affine, _decode_affine, F16_MAX),
    ("q5_0", 5, 22, _encode_symmetric, _decode_symmetric, 16 * F16_MAX),
    ("q5_1", 5, 24, _encode_affine, _decode_affine, F16_MAX),
    ("q8_0", 8, 34, _encode_q8_0, _decode_q8_0, 127 * F16_MAX),
)

CODECS: tuple[Codec, ...] = tuple(
    ggml_codec(name, BLOCK, size, partial(encode, bits=bits), partial(decode, bits=bits), "blocks of 32", max_abs=top)
    for name, bits, size, encode, decode, top in _TABLE
)
