"""K-quants: Q2_K, Q3_K, Q4_K, Q5_K and Q6_K, super-blocks of 256 weights whose sub-block scales are quantised too.

| format | sub-blocks | value | scales |
|---|---|---|---|
| Q2_K | 16 of 16 | d sc q - dmin m, q in 0..3 | 4-bit sc, m |
| Q3_K | 16 of 16 | d sc q, q in -4..3 | 6-bit signed sc |
| Q4_K, Q5_K | 8 of 32 | d sc q - dmin m, q in 0..15, 0..31 | 6-bit sc, m |
| Q6_K | 16 of 16 | d sc q, q in -32..31 | 8-bit signed sc |

Byte layouts are ggml's (`ggml-common.h`). Encoding first chooses scales (`search.py`), quantises those, then rounds
every weight with the scale it will be decoded with. Fitting is Numba; packing and decoding are NumPy and exact.
"""

from __future__ import annotations

import numpy as np

from waferline.formats.codecs.kquant_codes import affine_codes, signed_codes
from waferline.formats.codecs.record import F32, U8, Codec, as_bytes, f16_column, ggml_codec

BLOCK = 256


def _half(x: F32) -> U8:
    return as_bytes(x.astype(np.float16)[:, None])


def _crumbs(q: U8) -> U8:
    """`(n, 256)` 2-bit codes to `(n, 64)`: in each half of 128, weights 32 apart share a byte."""
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    return np.bitwise_or.reduce(q.reshape(-1, 2, 4, 32) << shifts, axis=2).reshape(-1, 64)


def _uncrumbs(data: U8) -> U8:
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    return ((data.reshape(-1, 2, 1, 32) >> shifts) & np.uint8(3)).reshape(-1, BLOCK)


def _chunk_nibbles(q: U8, width: int) -> U8:
    """`(n, 256)` 4-bit codes to `(n, 128)`: chunks of 2 * width weights, first half low nibbles, second half high."""
    pair = q.reshape(len(q), -1, 2, width)
    return (pair[:, :, 0] | (pair[:, :, 1] << np.uint8(4))).reshape(len(q), 128)


def _unchunk_nibbles(data: U8, width: int) -> U8:
    chunk = data.reshape(len(data), -1, 1, width)
    return ((chunk >> np.array([0, 4], np.uint8)[:, None]) & np.uint8(15)).reshape(len(data), BLOCK)


def _bit_planes(high: U8) -> U8:
    """`(n, 256)` single bits to `(n, 32)`: bit j of byte i belongs to weight 32 j + i."""
    return np.bitwise_or.reduce(high.reshape(-1, 8, 32) << np.arange(8, dtype=np.uint8)[:, None], axis=1)


def _unbit_planes(data: U8) -> U8:
    return ((data[:, None, :] >> np.arange(8, dtype=np.uint8)[:, None]) & np.uint8(1)).reshape(-1, BLOCK)


def pack_scales_6bit(scale: U8, minimum: U8) -> U8:
    """Eight 6-bit scales and eight 6-bit minima `(n, 8)` as 12 bytes: the upper four give their high bits away."""
    lower = scale[:, :4] | ((scale[:, 4:] >> np.uint8(4)) << np.uint8(6))
    middle = minimum[:, :4] | ((minimum[:, 4:] >> np.uint8(4)) << np.uint8(6))
    upper = (scale[:, 4:] & np.uint8(15)) | ((minimum[:, 4:] & np.uint8(15)) << np.uint8(4))
    return np.concatenate([lower, middle, upper], axis=1)


def unpack_scales_6bit(data: U8) -> tuple[U8, U8]:
    """The inverse of `pack_scales_6bit`."""
    lower, middle, upper = data[:, 0:4], data[:, 4:8], data[:, 8:12]
    scale_high = (upper & np.uint8(15)) | ((lower >> np.uint8(6)) << np.uint8(4))
    minimum_high = (upper >> np.uint8(4)) | ((middle >> np.uint8(6)) << np.uint8(4))
    six = np.uint8(63)
    return np.concatenate([lower & six, scale_high], axis=1), np.concatenate([middle & six, minimum_high], axis=1)


def _pack_scales_q3(scale: U8) -> U8:
    """Sixteen 6-bit scales `(n, 16)` as 12 bytes: low nibbles of j and j + 8, then high pairs of j, j+4, j+8, j+12."""
    low = (scale[:, :8] & np.uint8(15)) | ((scale[:, 8:] & np.uint8(15)) << np.uint8(4))
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = np.bitwise_or.reduce((scale >> np.uint8(4)).reshape(-1, 4, 4) << shifts, axis=1)
    return np.concatenate([low, high], axis=1)


def _unpack_scales_q3(data: U8) -> U8:
    low = np.concatenate([data[:, :8] & np.uint8(15), data[:, :8] >> np.uint8(4)], axis=1)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = ((data[:, None, 8:12] >> shifts) & np.uint8(3)).reshape(-1, 16)
    return low | (high << np.uint8(4))


def _affine(d: F32, scale: U8, dmin: F32, minimum: U8, q: U8) -> F32:
    """d * scale * q - dmin * minimum over sub-blocks; d, dmin `(n, 1)`, scale, minimum `(n, k)`, q `(n, 256)`."""
    step = (d * scale.astype(np.float32))[..., None]
    offset = (dmin * minimum.astype(np.float32))[..., None]
    return (step * q.reshape(len(q), scale.shape[1], -1).astype(np.float32) - offset).reshape(len(q), BLOCK)


def encode_q2_k(x: F32) -> U8:
    d, dmin, scale, minimum, q = affine_codes(x, 2)
    return np.concatenate([scale | (minimum << np.uint8(4)), _crumbs(q), _half(d), _half(dmin)], axis=1)


def decode_q2_k(data: U8) -> F32:
    scale, minimum = data[:, :16] & np.uint8(15), data[:, :16] >> np.uint8(4)
    q = _uncrumbs(data[:, 16:80])
    return _affine(f16_column(data[:, 80:82]), scale, f16_column(data[:, 82:84]), minimum, q)


def encode_q4_k(x: F32) -> U8:
    d, dmin, scale, minimum, q = affine_codes(x, 4)
    return np.concatenate([_half(d), _half(dmin), pack_scales_6bit(scale, minimum), _chunk_nibbles(q, 32)], axis=1)


def decode_q4_k(data: U8) -> F32:
    scale, minimum = unpack_scales_6bit(data[:, 4:16])
    q = _unchunk_nibbles(data[:, 16:], 32)
    return _affine(f16_column(data[:, :2]), scale, f16_column(data[:, 2:4]), minimum, q)


def encode_q5_k(x: F32) -> U8:
    d, dmin, scale, minimum, q = affine_codes(x, 5)
    parts = [_half(d), _half(dmin), pack_scales_6bit(scale, minimum)]
    return np.concatenate([*parts, _bit_planes(q >> np.uint8(4)), _chunk_nibbles(q & np.uint8(15), 32)], axis=1)


def decode_q5_k(data: U8) -> F32:
    scale, minimum = unpack_scales_6bit(data[:, 4:16])
    q = _unchunk_nibbles(data[:, 48:], 32) | (_unbit_planes(data[:, 16:48]) << np.uint8(4))
    return _affine(f16_column(data[:, :2]), scale, f16_column(data[:, 2:4]), minimum, q)


def encode_q3_k(x: F32) -> U8:
    d, scale, q = signed_codes(x, 3)
    parts = [_bit_planes(q >> np.uint8(2)), _crumbs(q & np.uint8(3))]  # the mask bit is set where q >= 0
    return np.concatenate([*parts, _pack_scales_q3((scale + 32).astype(np.uint8)), _half(d)], axis=1)


def decode_q3_k(data: U8) -> F32:
    q = _uncrumbs(data[:, 32:96]) | (_unbit_planes(data[:, :32]) << np.uint8(2))
    scale = _unpack_scales_q3(data[:, 96:108]).astype(np.float32) - np.float32(32)
    step = (f16_column(data[:, 108:110]) * scale)[..., None]
    return (step * (q.reshape(-1, 16, 16).astype(np.float32) - np.float32(4))).reshape(-1, BLOCK)


def encode_q6_k(x: F32) -> U8:
    d, scale, q = signed_codes(x, 6)
    low, high = _chunk_nibbles(q & np.uint8(15), 64), _crumbs(q >> np.uint8(4))
    return np.concatenate([low, high, scale.astype(np.int8).view(np.uint8), _half(d)], axis=1)


def decode_q6_k(data: U8) -> F32:
    q = _unchunk_nibbles(data[:, :128], 64) | (_uncrumbs(data[:, 128:192]) << np.uint8(4))
    scale = data[:, 192:208].copy().view(np.int8).astype(np.float32)
    step = (f16_column(data[:, 208:210]) * scale)[..., None]
    return (step * (q.reshape(-1, 16, 16).astype(np.float32) - np.float32(32))).reshape(-1, BLOCK)


_TABLE = (
    ("q2_k", 84, encode_q2_k, decode_q2_k),
    ("q3_k", 110, encode_q3_k, decode_q3_k),
    ("q4_k", 144, encode_q4_k, decode_q4_k),
    ("q5_k", 176, encode_q5_k, decode_q5_k),
    ("q6_k", 210, encode_q6_k, decode_q6_k),
)

CODECS: tuple[Codec, ...] = tuple(
    ggml_codec(name, BLOCK, size, encode, decode, "super-blocks of 256") for name, size, encode, decode in _TABLE
)
