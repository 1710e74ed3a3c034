"""Shared-scale small floats: MXFP4, MXFP6, MXFP8 (OCP Microscaling Formats 1.0) and NVFP4.

MX blocks hold 32 elements and one E8M0 scale, a power of two: 2^(floor(log2(largest)) - largest element exponent), spec
section 6.3. NVFP4 holds 16 elements under one E4M3 scale, and one float32 scale for the tensor. Byte layouts are ggml's
where GGUF has the type (`block_mxfp4`, `block_nvfp4`); the others put the scale byte first, then the packed elements.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from waferline.formats.codecs.floats import E2M1, E2M3, E3M2, E4M3, E5M2, MiniFloat
from waferline.formats.codecs.record import (
    F32,
    F32_MAX,
    U8,
    Codec,
    block_codec,
    pack_bits,
    pack_nibble_halves,
    unpack_bits,
    unpack_nibble_halves,
)

MX_BLOCK = 32
NV_BLOCK = 16
NV_GROUP = 64  # ggml stores four NVFP4 blocks together: 4 scale bytes, then 32 bytes of codes
E8M0_BIAS = 127
E8M0_TOP = 254  # the largest power of two; 255 is NaN


def _shared_exponent(x: F32, element_exponent: int) -> U8:
    """E8M0 code `(n, 1)` of each block; 0 (2^-127) for a block of zeros."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        code = np.floor(np.log2(largest)) - np.float32(element_exponent) + np.float32(E8M0_BIAS)
    return np.clip(np.where(largest > 0, code, 0), 0, E8M0_TOP).astype(np.uint8)


def _power_of_two(code: U8) -> F32:
    """2^(code - 127), subnormal at code 0; 255 is NaN."""
    return np.ascontiguousarray(code).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)


def _scaled(x: F32, code: U8) -> F32:
    """x / 2^(code - 127): exact but for underflow, where the element is 0 anyway."""
    return np.ldexp(x, E8M0_BIAS - code.astype(np.int32))


def encode_mxfp4(x: F32) -> U8:
    """ggml's MXFP4: nearest element, and of two equally near the smaller magnitude (so not ties-to-even)."""
    code = _shared_exponent(x, 2)
    y = _scaled(x, code)
    above = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)  # midpoints between the eight magnitudes
    q = np.searchsorted(above, np.abs(y), side="left").astype(np.uint8)
    q |= np.where((y < 0) & (q > 0), np.uint8(8), np.uint8(0))
    return np.concatenate([code, pack_nibble_halves(q)], axis=-1)


def decode_mxfp4(data: U8) -> F32:
    code = data[:, :1].astype(np.int32)
    half_scale = np.ldexp(
        np.float32(1.0), code - (E8M0_BIAS + 1)
    )  # ggml keeps the elements doubled; 255 is 2^127 there
    doubled = E2M1.decode(unpack_nibble_halves(data[:, 1:])) * np.float32(2)
    return half_scale * (doubled + np.float32(0))  # + 0: ggml's integer table has no negative zero


def _mx(name: str, element: MiniFloat, bits: int) -> Codec:
    element_exponent = int(np.log2(element.max_value))  # exponent of the largest normal element, spec section 6.3

    def encode(x: F32) -> U8:
        code = _shared_exponent(x, element_exponent)
        return np.concatenate([code, pack_bits(element.encode(_scaled(x, code)), bits)], axis=-1)

    def decode(data: U8) -> F32:
        return _power_of_two(data[:, :1]) * element.decode(unpack_bits(data[:, 1:], bits))

    about = f"OCP MX: 32 {element.name.upper()} elements under one power of two"
    return block_codec(name, MX_BLOCK, 1 + MX_BLOCK * bits // 8, encode, decode, max_abs=F32_MAX, about=about)


def _nvfp4_scales() -> F32:
    """E4M3 without a sign, as ggml reads it: bit 7 is ignored, and 0x7F (but not 0xFF) is 0 instead of NaN."""
    table = np.tile(E4M3.table()[:128], 2)
    table[0x7F], table[0xFF] = 0.0, 480.0
    return table


_NVFP4_SCALES = _nvfp4_scales()


def _encode_nvfp4(x: F32, tensor_scale: float) -> U8:
    """`(rows, cols)`: block scale = E4M3(largest / 6 / tensor scale), elements nearest even on what that leaves."""
    y = (x / np.float32(tensor_scale)).reshape(-1, NV_GROUP // NV_BLOCK, NV_BLOCK)
    scale_code = E4M3.encode(np.abs(y).max(axis=-1) / np.float32(E2M1.max_value))
    scale = E4M3.decode(scale_code)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        q = E2M1.encode(np.where(scale > 0, y / scale, np.float32(0)))
    return np.concatenate([scale_code, pack_nibble_halves(q).reshape(len(y), -1)], axis=-1).reshape(len(x), -1)


def _decode_nvfp4(data: U8, cols: int, tensor_scale: float) -> F32:
    blocks = data.reshape(-1, 36)
    scale = _NVFP4_SCALES[blocks[:, :4]]
    doubled = E2M1.decode(unpack_nibble_halves(blocks[:, 4:].reshape(-1, 4, 8))) * np.float32(2) + np.float32(0)
    y = (scale * np.float32(0.5))[..., None] * doubled
    return (y.reshape(data.shape[0], cols)) * np.float32(tensor_scale)


def _nvfp4() -> Codec:
    return Codec(
        "nvfp4",
        NV_GROUP,
        lambda cols: cols // NV_GROUP * 36,
        _encode_nvfp4,
        _decode_nvfp4,
        F32_MAX,
        "NVFP4: 16 E2M1 elements under one E4M3 scale, times one float32 for the tensor",
        tensor_scale="required",
        element_max=E4M3.max_value * E2M1.max_value,
        ggml="NVFP4",
    )


CODECS: tuple[Codec, ...] = (
    block_codec(
        "mxfp4",
        MX_BLOCK,
        17,
        encode_mxfp4,
        decode_mxfp4,
        max_abs=F32_MAX,
        about="OCP MXFP4: 32 E2M1 elements under one power of two",
        ggml="MXFP4",
    ),
    _mx("mxfp6", E2M3, 6),
    _mx("mxfp6_e3m2", E3M2, 6),
    _mx("mxfp8", E4M3, 8),
    _mx("mxfp8_e5m2", E5M2, 8),
    _nvfp4(),
)
