"""What every codec is: how a row of weights becomes bytes, what it can hold, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

EncodeRows = Callable[[F32, float], U8]
DecodeRows = Callable[[U8, int, float], F32]

F16_MAX = 65504.0  # largest finite IEEE binary16: what a half-precision block scale can hold
F32_MAX = float(np.finfo(np.float32).max)

NonFinite = Literal["refused", "nan", "kept"]  # none may enter | NaN may enter | NaN and infinities may enter
TensorScale = Literal["none", "optional", "required"]
ScaleRule = Literal["largest", "mean"]  # what becomes `element_max`: the largest magnitude, or the mean one


@dataclass(frozen=True, slots=True)
class Codec:
    """One number format as bytes: rows of `cols` weights in, rows of `row_bytes(cols)` bytes out.

    `block` is the number of weights that must divide a row. `max_abs` is the largest magnitude that still encodes.
    `tensor_scale` says whether one float32 outside the bytes scales the whole tensor (NVFP4, per-tensor int8, FP8);
    when it is chosen automatically, `scale_rule` of the weights lands on `element_max`. `ggml` is the type's name in
    the GGUF file format, or None where GGUF has no such type.
    """

    name: str
    block: int
    row_bytes: Callable[[int], int]
    encode_rows: EncodeRows | None
    decode_rows: DecodeRows
    max_abs: float
    about: str
    non_finite: NonFinite = "refused"
    tensor_scale: TensorScale = "none"
    scale_rule: ScaleRule = "largest"
    element_max: float = 1.0
    ggml: str | None = None

    def bits(self, cols: int) -> float:
        """Bits per weight of a row of `cols` weights, block and row scales included."""
        return 8.0 * self.row_bytes(cols) / cols


def block_codec(
    name: str,
    block: int,
    block_bytes: int,
    encode_blocks: Callable[[F32], U8] | None,
    decode_blocks: Callable[[U8], F32],
    *,
    max_abs: float,
    about: str,
    ggml: str | None = None,
) -> Codec:
    """A `Codec` from functions on blocks: `(n, block)` float32 to `(n, block_bytes)` uint8 and back."""

    def encode_rows(x: F32, _scale: float) -> U8:
        assert encode_blocks is not None
        rows, cols = x.shape
        return encode_blocks(x.reshape(-1, block)).reshape(rows, cols // block * block_bytes)

    def decode_rows(data: U8, cols: int, _scale: float) -> F32:
        return decode_blocks(data.reshape(-1, block_bytes)).reshape(data.shape[0], cols)

    return Codec(
        name=name,
        block=block,
        row_bytes=lambda cols: cols // block * block_bytes,
        encode_rows=None if encode_blocks is None else encode_rows,
        decode_rows=decode_rows,
        max_abs=max_abs,
        about=about,
        ggml=ggml,
    )


def ggml_codec(
    name: str,
    block: int,
    block_bytes: int,
    encode_blocks: Callable[[F32], U8] | None,
    decode_blocks: Callable[[U8], F32],
    about: str,
    *,
    max_abs: float = F16_MAX,
) -> Codec:
    """A `block_codec` of ggml's, whose type has our name in capitals; most have half-precision scales."""
    kind = name.upper()
    about = f"ggml {kind}: {about}"
    return block_codec(name, block, block_bytes, encode_blocks, decode_blocks, max_abs=max_abs, about=about, ggml=kind)


def as_bytes(values: NDArray[np.generic]) -> U8:
    """The little-endian bytes of a `(..., k)` array as `(..., k * itemsize)` uint8."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.view(np.uint8)


def from_bytes(data: U8, dtype: str) -> NDArray[np.generic]:
    """`(n, k * itemsize)` uint8 read as little-endian `dtype`, shape `(n, k)`."""
    return np.ascontiguousarray(data).view(np.dtype(dtype).newbyteorder("<"))


def f16_column(data: U8) -> F32:
    """Two byte columns read as one half-precision column, `(n, 1)` float32."""
    return from_bytes(data, "f2").astype(np.float32)


def inverse_or_zero(d: F32) -> F32:
    """1 / d, and 0 where d is 0 or so small that the inverse overflows."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1.0) / d
    return np.where(np.isfinite(inverse), inverse, np.float32(0.0))


def round_half_away(x: F32) -> F32:
    """Rounding as C's roundf: halves go away from zero. (x + 0.5 would round 0.49999997 up.)"""
    magnitude = np.abs(x)
    whole = np.floor(magnitude)
    return np.copysign(whole + np.floor(np.float32(2.0) * (magnitude - whole)), x)


def pack_nibble_halves(q: U8) -> U8:
    """`(n, 2h)` 4-bit codes to `(n, h)` bytes: the first half in the low nibbles, the second in the high ones."""
    half = q.shape[-1] // 2
    return q[..., :half] | (q[..., half:] << np.uint8(4))


def unpack_nibble_halves(data: U8) -> U8:
    """The inverse of `pack_nibble_halves`."""
    return np.concatenate([data & np.uint8(15), data >> np.uint8(4)], axis=-1)


def pack_nibble_pairs(q: U8) -> U8:
    """`(n, 2h)` 4-bit codes to `(n, h)` bytes: even positions low, odd positions high."""
    return q[..., 0::2] | (q[..., 1::2] << np.uint8(4))


def unpack_nibble_pairs(data: U8) -> U8:
    """The inverse of `pack_nibble_pairs`."""
    return np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-1).reshape(*data.shape[:-1], -1)


def pack_bits(q: U8, bits: int) -> U8:
    """`(n, k)` codes of `bits` bits, lowest bit first, to `(n, k * bits / 8)` bytes; k * bits is a multiple of 8."""
    single = (q[..., None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(single.reshape(*q.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_bits(data: U8, bits: int) -> U8:
    """The inverse of `pack_bits`."""
    single = np.unpackbits(data, axis=-1, bitorder="little").reshape(*data.shape[:-1], -1, bits)
    return (single << np.arange(bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)
