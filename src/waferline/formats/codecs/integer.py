"""Integers with real scales: int8 per row (output channel) or tensor; 2, 3 and 4 bits in groups; ternary per tensor.

Row layouts, little-endian. `int8`: float32 scale, then a signed byte a weight. `int8_tensor`, `ternary`: codes alone.
Groups: packed codes (first weight in the lowest bits), then a half-precision scale a group; the asymmetric kind adds a
packed 4-bit zero point a group, as GPTQ and AWQ checkpoints do (so 4 + 20/128 bits a weight for 4 bits at group 128).
"""

from __future__ import annotations

import numpy as np

from waferline.formats.codecs.record import (
    F16_MAX,
    F32,
    F32_MAX,
    U8,
    Codec,
    as_bytes,
    from_bytes,
    inverse_or_zero,
    pack_bits,
    pack_nibble_pairs,
    unpack_bits,
    unpack_nibble_pairs,
)

INT8_TOP = 127  # -128 is not used, so that the range is symmetric (as in SmoothQuant and torch's symmetric scheme)
ZERO_POINT_BITS = 4


def _int8_codes(x: F32, scale: F32) -> U8:
    q = np.rint(x * inverse_or_zero(scale))
    return np.clip(q, -INT8_TOP, INT8_TOP).astype(np.int8).view(np.uint8)


def _encode_int8_rows(x: F32, _scale: float) -> U8:
    scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(INT8_TOP)
    return np.concatenate([as_bytes(scale), _int8_codes(x, scale)], axis=1)


def _decode_int8_rows(data: U8, _cols: int, _scale: float) -> F32:
    scale = from_bytes(data[:, :4], "f4").astype(np.float32)
    return from_bytes(data[:, 4:], "i1").astype(np.float32) * scale


def _encode_int8_tensor(x: F32, scale: float) -> U8:
    return _int8_codes(x, np.asarray(scale, np.float32))


def _decode_int8_tensor(data: U8, _cols: int, scale: float) -> F32:
    return from_bytes(data, "i1").astype(np.float32) * np.float32(scale)


def _half_scale(span: F32) -> F32:
    """The scale as it will be read back. A group too small for half precision gets 0 and decodes to zeros."""
    return span.astype(np.float16).astype(np.float32)


def _zero_bytes(groups: int) -> int:
    return (groups + 1) // 2


def _pack(q: U8, bits: int) -> U8:
    return pack_nibble_pairs(q) if bits == 4 else pack_bits(q, bits)


def _unpack(data: U8, bits: int) -> U8:
    return unpack_nibble_pairs(data) if bits == 4 else unpack_bits(data, bits)


def _encode_symmetric(x: F32, bits: int, group: int) -> U8:
    rows, cols = x.shape
    half = 2 ** (bits - 1)
    y = x.reshape(rows, cols // group, group)
    scale = _half_scale(np.abs(y).max(axis=-1) / np.float32(half - 1))
    q = np.clip(np.rint(y * inverse_or_zero(scale)[..., None]), -half, half - 1) + np.float32(half)
    codes = _pack(q.astype(np.uint8).reshape(rows, cols), bits)
    return np.concatenate([codes, as_bytes(scale.astype(np.float16))], axis=1)


def _decode_symmetric(data: U8, cols: int, bits: int, group: int) -> F32:
    at = cols * bits // 8
    q = _unpack(data[:, :at], bits).astype(np.float32) - np.float32(2 ** (bits - 1))
    scale = from_bytes(data[:, at:], "f2").astype(np.float32)
    return (q.reshape(len(data), -1, group) * scale[..., None]).reshape(len(data), cols)


def _encode_asymmetric(x: F32, bits: int, group: int) -> U8:
    rows, cols = x.shape
    groups, top = cols // group, np.float32(2**bits - 1)
    y = x.reshape(rows, groups, group)
    low = np.minimum(y.min(axis=-1), np.float32(0))  # zero is always representable
    high = np.maximum(y.max(axis=-1), np.float32(0))
    scale = _half_scale(high / top - low / top)
    inverse = inverse_or_zero(scale)
    zero = np.clip(np.rint(-low * inverse), 0, top)
    q = np.clip(np.rint(y * inverse[..., None]) + zero[..., None], 0, top)
    packed_zero = np.zeros((rows, 2 * _zero_bytes(groups)), np.uint8)
    packed_zero[:, :groups] = zero.astype(np.uint8)
    codes = _pack(q.astype(np.uint8).reshape(rows, cols), bits)
    return np.concatenate([codes, as_bytes(scale.astype(np.float16)), pack_nibble_pairs(packed_zero)], axis=1)


def _decode_asymmetric(data: U8, cols: int, bits: int, group: int) -> F32:
    groups, at = cols // group, cols * bits // 8
    q = _unpack(data[:, :at], bits).astype(np.float32)
    scale = from_bytes(data[:, at : at + 2 * groups], "f2").astype(np.float32)
    zero = unpack_nibble_pairs(data[:, at + 2 * groups :])[:, :groups].astype(np.float32)
    return ((q.reshape(len(data), groups, group) - zero[..., None]) * scale[..., None]).reshape(len(data), cols)


def _grouped(name: str, bits: int, group: int, *, symmetric: bool) -> Codec:
    def row_bytes(cols: int) -> int:
        groups = cols // group
        return cols * bits // 8 + 2 * groups + (0 if symmetric else _zero_bytes(groups))

    kind = "symmetric" if symmetric else f"asymmetric, {ZERO_POINT_BITS}-bit zero point"
    encode = _encode_symmetric if symmetric else _encode_asymmetric
    decode = _decode_symmetric if symmetric else _decode_asymmetric
    return Codec(
        name,
        group,
        row_bytes,
        lambda x, _s: encode(x, bits, group),
        lambda data, cols, _s: decode(data, cols, bits, group),
        F16_MAX,
        f"{bits}-bit integers, half-precision scale every {group} weights, {kind}",
    )


def _encode_ternary(x: F32, scale: float) -> U8:
    q = np.clip(np.rint(x * inverse_or_zero(np.asarray(scale, np.float32))), -1, 1) + np.float32(1)
    return pack_bits(q.astype(np.uint8), 2)


def _decode_ternary(data: U8, _cols: int, scale: float) -> F32:
    return (unpack_bits(data, 2).astype(np.float32) - np.float32(1)) * np.float32(scale)


CODECS: tuple[Codec, ...] = (
    Codec(
        "int8",
        1,
        lambda cols: 4 + cols,
        _encode_int8_rows,
        _decode_int8_rows,
        F32_MAX,
        "8-bit integers, one float32 scale a row (output channel), symmetric",
    ),
    Codec(
        "int8_tensor",
        1,
        lambda cols: cols,
        _encode_int8_tensor,
        _decode_int8_tensor,
        F32_MAX,
        "8-bit integers, one float32 scale a tensor, symmetric",
        tensor_scale="required",
        element_max=float(INT8_TOP),
    ),
    # the names without a group are what GPTQ and AWQ checkpoints hold: group 128 with zero points
    *(_grouped(f"int{bits}", bits, 128, symmetric=False) for bits in (4, 3, 2)),
    *(_grouped(f"int4_g{group}_asym", 4, group, symmetric=False) for group in (32, 64)),
    *(_grouped(f"int4_g{group}_sym", 4, group, symmetric=True) for group in (32, 64, 128)),
    Codec(
        "ternary",
        4,
        lambda cols: cols // 4,
        _encode_ternary,
        _decode_ternary,
        F32_MAX,
        "-s, 0, +s at two bits a weight, s one float32 a tensor: the mean magnitude (BitNet b1.58, arXiv 2402.17764)",
        tensor_scale="required",
        scale_rule="mean",
    ),
)
