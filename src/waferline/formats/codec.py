"""The one door to the codecs: weights to bytes and back, in any format that has a byte layout.

Policy for what a format cannot hold, the same everywhere: NaN and infinity enter only where the format has them (see
`Codec.non_finite`); a magnitude beyond `Codec.max_abs` is refused, because a scale that overflows would destroy its
whole block; a row that is not a whole number of blocks is refused. Plain FP8, FP4 and posit saturate, as their
specifications allow.

    data = encode(weights, "q4_k")                    # (rows, row_bytes) uint8
    weights = decode(data, "q4_k", (rows, cols))      # float32
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError, unknown
from waferline.formats.codecs.record import F32, F32_MAX, U8, Codec
from waferline.formats.format import Format, get_format
from waferline.formats.parallel import ordered_map

CHUNK_WEIGHTS = 1 << 20  # temporaries stay near 50 MB whatever the tensor's size

# spelled-out names of formats whose short name is the usual kind
_ALIASES = {
    "fp8_e4m3fn": "fp8",
    "f8_e4m3": "fp8",
    "f8_e5m2": "fp8_e5m2",
    "mxfp8_e4m3": "mxfp8",
    "mxfp6_e2m3": "mxfp6",
    "int4_g128_asym": "int4",
    "int8_channel": "int8",
    "posit4_1": "posit4",
    "posit8_0": "posit8",
    "posit16_1": "posit16",
    "awq": "int4",
    "gptq": "int4",
}


@cache
def codecs() -> dict[str, Codec]:
    """Every codec by name."""
    from waferline.formats.codecs import codebook, floats, integer, iq4, kquants, legacy, microscaling, posit, ternary

    families = (floats, legacy, kquants, iq4, codebook, ternary, microscaling, integer, posit)
    return {codec.name: codec for family in families for codec in family.CODECS}


def codec_for(format: str | Format) -> Codec:
    """The codec of a format, by name, alias or `Format`.

    Raises: UnknownNameError for a name that is no format; UnsupportedError for a format without a byte layout of its
    own (a recipe such as `q4_k_m`, or tf32).
    """
    name = format.name if isinstance(format, Format) else str(format).strip().lower().replace("-", "_")
    table = codecs()
    name = _ALIASES.get(name, name)
    if name in table:
        return table[name]
    try:
        known = get_format(name)
    except UnknownNameError:
        raise unknown("number format", str(format), [*table, *_ALIASES]) from None
    name = _ALIASES.get(known.name, known.name)
    if name in table:
        return table[name]
    if known.mixture:
        raise UnsupportedError(f"'{known.name}' is a mixture of formats, not one", hint="choose one, such as q4_k")
    raise UnsupportedError(f"'{known.name}' has no codec", hint="waferline formats list names those that have")


def row_bytes(format: str | Format, cols: int) -> int:
    """Bytes of one row of `cols` weights, scales included (a tensor scale is outside).

    Raises: InvalidInputError when the row is not a whole number of blocks.
    """
    codec = codec_for(format)
    _check_cols(codec, cols)
    return codec.row_bytes(cols)


def encode(x: ArrayLike, format: str | Format, *, tensor_scale: float | None = None) -> U8:
    """Weights `(..., cols)` as bytes `(..., row_bytes)` in `format`.

    `tensor_scale` is the float32 by which all values are multiplied on decoding, for formats that have one; take it
    from `tensor_scale_for`. Where it is optional it is 1 unless given.

    Raises: InvalidInputError for non-finite values or magnitudes the format cannot hold, rows that are not whole
    blocks, or a missing tensor scale; UnsupportedError for decode-only formats.
    """
    codec = codec_for(format)
    values = _as_float(x)
    if codec.encode_rows is None:
        raise UnsupportedError(f"'{codec.name}' can be decoded, not encoded", hint="q2_k and iq4_xs can be encoded")
    _check_cols(codec, values.shape[-1])
    scale = _check_scale(codec, tensor_scale)
    rows = values.reshape(-1, values.shape[-1])
    out = np.empty((len(rows), codec.row_bytes(values.shape[-1])), np.uint8)
    encode_rows = codec.encode_rows

    def encode_part(part: slice) -> None:
        chunk = _checked_values(codec, rows[part], part.start)
        out[part] = encode_rows(np.ascontiguousarray(chunk), scale)

    parts = list(_row_chunks(rows.shape))
    for _ in map(encode_part, parts) if len(parts) == 1 else ordered_map(encode_part, parts):
        pass
    return out.reshape(*values.shape[:-1], -1)


def decode_chunks(
    data: ArrayLike, format: str | Format, shape: tuple[int, ...], *, tensor_scale: float | None = None
) -> Iterator[tuple[slice, F32]]:
    """Decoded rows a chunk at a time: (slice of rows, float32 `(rows in chunk, cols)`). Memory stays bounded.

    Leading dimensions of `shape` count as rows. Raises InvalidInputError when the bytes are not what `shape` needs.
    """
    codec = codec_for(format)
    cols = int(shape[-1])
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    _check_cols(codec, cols)
    scale = _check_scale(codec, tensor_scale)
    raw = np.asarray(data)
    if raw.dtype != np.uint8:
        raise InvalidInputError(f"encoded data is uint8, not {raw.dtype}")
    needed = rows * codec.row_bytes(cols)
    if raw.size != needed:
        raise InvalidInputError(f"shape {tuple(shape)} is {needed} bytes in {codec.name}, and {raw.size} were given")
    matrix = raw.reshape(rows, codec.row_bytes(cols))
    for part in _row_chunks((rows, cols)):
        yield part, codec.decode_rows(np.ascontiguousarray(matrix[part]), cols, scale)


def decode(data: ArrayLike, format: str | Format, shape: tuple[int, ...], *, tensor_scale: float | None = None) -> F32:
    """Bytes as written by `encode` (or found in a GGUF file) to float32 of `shape`; the last dimension is the row.

    Raises: as `decode_chunks`.
    """
    out = np.empty((int(np.prod(shape[:-1], dtype=np.int64)), int(shape[-1])), np.float32)
    for part, values in decode_chunks(data, format, shape, tensor_scale=tensor_scale):
        out[part] = values
    return out.reshape(shape)


def tensor_scale_for(x: ArrayLike, format: str | Format) -> float:
    """The tensor scale that suits `x` (float32): its largest magnitude over the format's largest element (its mean
    magnitude for ternary); 1 for formats without one and for tensors of zeros."""
    codec = codec_for(format)
    values = _as_float(x)
    if codec.tensor_scale == "none" or values.size == 0:
        return 1.0
    rows = values.reshape(-1, values.shape[-1])
    if codec.scale_rule == "mean":
        magnitude = sum(float(np.abs(rows[p]).sum(dtype=np.float64)) for p in _row_chunks(rows.shape)) / rows.size
    else:
        magnitude = max(float(np.nanmax(np.abs(rows[p]), initial=0.0)) for p in _row_chunks(rows.shape))
    return scale_from_magnitude(magnitude, codec)


def scale_from_magnitude(magnitude: float, codec: Codec) -> float:
    """A float32 tensor scale from the magnitude that `codec.scale_rule` asks for; 1 where there is none to speak of."""
    scale = float(np.float32(magnitude / codec.element_max))
    return scale if np.isfinite(scale) and scale > 0 else 1.0


def roundtrip(x: ArrayLike, format: str | Format) -> F32:
    """What is left of `x` after `format`: encoded and decoded, with the tensor scale chosen by `tensor_scale_for`."""
    values = _as_float(x)
    scale = tensor_scale_for(values, format)
    scale_or_none = None if codec_for(format).tensor_scale == "none" else scale
    data = encode(values, format, tensor_scale=scale_or_none)
    return decode(data, format, values.shape, tensor_scale=scale_or_none)


def _as_float(x: ArrayLike) -> NDArray[np.floating]:
    values = np.asarray(x)
    if values.ndim == 0 or values.dtype.kind not in "fiu":
        raise InvalidInputError(f"weights are an array of real numbers, not {values.dtype} of {values.ndim} dimensions")
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _check_cols(codec: Codec, cols: int) -> None:
    if cols <= 0 or cols % codec.block:
        raise InvalidInputError(f"rows of {cols} weights are not whole {codec.name} blocks of {codec.block}")


def _check_scale(codec: Codec, scale: float | None) -> float:
    if scale is None:
        if codec.tensor_scale == "required":
            raise InvalidInputError(
                f"'{codec.name}' needs a tensor scale", hint="tensor_scale_for(weights, format) gives one"
            )
        return 1.0
    if codec.tensor_scale == "none" and scale != 1.0:
        raise InvalidInputError(f"'{codec.name}' has no tensor scale, and {scale:g} was given")
    if not (np.isfinite(scale) and 0 < scale <= F32_MAX):
        raise InvalidInputError(f"a tensor scale is positive and finite, not {scale}")
    return float(scale)


def _row_chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows, cols = shape
    step = max(1, CHUNK_WEIGHTS // max(cols, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _checked_values(codec: Codec, x: NDArray[np.floating], first_row: int) -> F32:
    """`x` as float32, or the error that names the first value the format cannot hold."""
    magnitude = np.abs(x)
    largest = magnitude.max(initial=0.0)  # NaN comes through
    if not largest <= codec.max_abs:
        bad = ~(magnitude <= codec.max_abs)
        if codec.non_finite in ("nan", "kept"):
            bad &= ~np.isnan(x)
        if codec.non_finite == "kept":
            bad &= ~np.isinf(x)
        if bad.any():
            row, col = np.argwhere(bad)[0]
            value = float(x[row, col])
            limit = f"magnitudes up to {codec.max_abs:g}" if np.isfinite(value) else "finite values only"
            raise InvalidInputError(
                f"{value:g} at ({row + first_row}, {col}) cannot be stored in {codec.name}", hint=limit
            )
    return x.astype(np.float32, copy=False)
