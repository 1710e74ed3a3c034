"""What a format loses: error statistics of a tensor against what it decodes to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from waferline.errors import InvalidInputError
from waferline.formats.codec import CHUNK_WEIGHTS, codec_for, decode_chunks, encode, tensor_scale_for
from waferline.formats.codecs.record import Codec
from waferline.formats.format import Format


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """How far a decoded tensor is from the original.

    `relative_l2` is |y - x| / |x|; `sqnr_db` the signal-to-quantisation-noise ratio, -20 log10 of it; `cosine` the
    cosine of the angle between the two; `max_abs` the largest single error, `mean` the average one, with its sign. An
    exact copy has `sqnr_db` infinite.
    """

    weights: int
    relative_l2: float
    max_abs: float
    mean: float
    sqnr_db: float
    cosine: float
    bits: float

    def to_json(self) -> dict[str, float | int | None]:
        """The statistics as data; what is infinite or undefined is None, since JSON has neither."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


@dataclass(slots=True)
class ErrorSums:
    """Running sums, in float64, from which `ErrorStats` follow; feed it a tensor in pieces or several tensors."""

    weights: int = 0
    original: float = 0.0  # sum x^2
    decoded: float = 0.0  # sum y^2
    product: float = 0.0  # sum x y
    squared: float = 0.0  # sum (y - x)^2
    signed: float = 0.0  # sum (y - x)
    max_abs: float = 0.0
    total_bits: float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray, bits: float) -> None:
        """Take in originals `x` and decoded `y` of one shape, stored at `bits` a weight."""
        if x.shape != y.shape:
            raise InvalidInputError(f"tensors of shape {x.shape} and {y.shape} cannot be compared")
        a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
        gap = b - a
        self.weights += a.size
        self.original += float(a @ a)
        self.decoded += float(b @ b)
        self.product += float(a @ b)
        self.squared += float(gap @ gap)
        self.signed += float(gap.sum())
        self.max_abs = max(self.max_abs, float(np.abs(gap).max(initial=0.0)))
        self.total_bits += bits * a.size

    def merge(self, other: ErrorSums) -> None:
        """Take in the sums of other tensors."""
        for name in ("weights", "original", "decoded", "product", "squared", "signed", "total_bits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.max_abs = max(self.max_abs, other.max_abs)

    def stats(self) -> ErrorStats:
        """The statistics so far. Zeros decoded to zeros are exact; decoded to anything else, infinitely far."""
        if self.squared == 0:
            relative = 0.0
        else:
            relative = math.sqrt(self.squared / self.original) if self.original > 0 else math.inf
        norms = math.sqrt(self.original * self.decoded)
        cosine = min(self.product / norms, 1.0) if norms > 0 else (1.0 if self.squared == 0 else 0.0)
        return ErrorStats(
            weights=self.weights,
            relative_l2=relative,
            max_abs=self.max_abs,
            mean=self.signed / self.weights if self.weights else 0.0,
            sqnr_db=math.inf if relative == 0 else -20 * math.log10(relative) if math.isfinite(relative) else -math.inf,
            cosine=cosine,
            bits=self.total_bits / self.weights if self.weights else 0.0,
        )


def compare(x: ArrayLike, y: ArrayLike, *, bits: float = math.nan) -> ErrorStats:
    """Statistics of decoded `y` against original `x`.

    Raises: InvalidInputError when the shapes differ.
    """
    sums = ErrorSums()
    sums.add(np.asarray(x), np.asarray(y), bits)
    return sums.stats()


def add_roundtrip(
    sums: ErrorSums, x: np.ndarray, codec: Codec, tensor_scale: float | None, data: np.ndarray | None = None
) -> None:
    """Encode (unless `data` already is that) and decode `x` `(rows, cols)`, and add its error to `sums`."""
    if data is None:
        data = encode(x, codec.name, tensor_scale=tensor_scale)
    bits = codec.bits(x.shape[-1])
    for part, y in decode_chunks(data, codec.name, x.shape, tensor_scale=tensor_scale):
        sums.add(x[part], y, bits)


def error_of(x: ArrayLike, format: str | Format) -> ErrorStats:
    """Error statistics of storing `x` `(..., cols)` in `format`, with the best-fitting tensor scale where it has one.

    Raises: as `codec.encode`.
    """
    codec = codec_for(format)
    values = np.asarray(x)
    rows = values.reshape(-1, values.shape[-1]) if values.ndim else values
    scale = None if codec.tensor_scale == "none" else tensor_scale_for(values, codec.name)
    sums = ErrorSums()
    step = max(1, CHUNK_WEIGHTS // max(values.shape[-1], 1)) if values.ndim else 1
    for start in range(0, len(rows), step):
        add_roundtrip(sums, rows[start : start + step], codec, scale)
    return sums.stats()
