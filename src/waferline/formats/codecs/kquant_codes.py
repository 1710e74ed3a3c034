"""Choosing the integers of a K-quant super-block: sub-block scales, minima and 256 codes (before packing)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from waferline.formats.codecs.record import F32, U8, inverse_or_zero
from waferline.formats.codecs.search import FAST, TINY, Real, clamp_round, fit_scale, fit_scale_min

BLOCK = 256
_F0 = np.float32(0.0)


@dataclass(frozen=True, slots=True)
class _Affine:
    """How ggml searches an affine format: sub-block size, code and scale ranges, candidates, weighting."""

    sub: int
    top: float
    scale_top: float
    first: float
    step: float
    tries: int
    absolute: bool
    root_mean_square: bool  # weigh with rms + |x| (4 and 5 bits) or |x| alone (2 bits)


# quantize_row_q{2,4,5}_K_ref in ggml-quants.c
_AFFINE = {
    2: _Affine(16, 3, 15, -0.5, 0.1, 15, absolute=True, root_mean_square=False),
    4: _Affine(32, 15, 63, -1.0, 0.1, 20, absolute=False, root_mean_square=True),
    5: _Affine(32, 31, 63, -0.5, 0.1, 15, absolute=False, root_mean_square=True),
}
# sub-blocks of 16: bits -> (half of the code range, half of the scale range, candidates each side)
_SIGNED = {3: (4, 32, 9), 6: (32, 128, 9)}


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _affine_kernel(
    x: np.ndarray,
    sub: int,
    top: Real,
    first: Real,
    step: Real,
    tries: int,
    absolute: bool,
    root_mean_square: bool,
    scales: np.ndarray,
    minima: np.ndarray,
) -> None:
    """Real scales and minima `(n, 256 / sub)` of every sub-block of `x` `(n, 256)`."""
    w = np.empty(sub, np.float32)
    for b in range(x.shape[0]):
        for j in range(BLOCK // sub):
            v = x[b, j * sub : (j + 1) * sub]
            base = _F0
            if root_mean_square:
                for i in range(sub):
                    base += v[i] * v[i]
                base = np.sqrt(base / np.float32(sub))
            for i in range(sub):
                w[i] = base + abs(v[i])
            scales[b, j], minima[b, j] = fit_scale_min(v, w, top, first, step, tries, absolute)


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _affine_round(x: np.ndarray, step: np.ndarray, offset: np.ndarray, sub: int, top: Real, q: np.ndarray) -> None:
    """Codes of every weight for the scales as they will be read back."""
    for b in range(x.shape[0]):
        for j in range(BLOCK // sub):
            s, m = step[b, j], offset[b, j]
            inverse = np.float32(1.0) / s if s > 0 else _F0
            for i in range(j * sub, (j + 1) * sub):
                q[b, i] = np.uint8(clamp_round((x[b, i] + m) * inverse, _F0, top))


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _signed_kernel(x: np.ndarray, half: Real, reach: int, scales: np.ndarray) -> None:
    for b in range(x.shape[0]):
        for j in range(BLOCK // 16):
            scales[b, j] = fit_scale(x[b, j * 16 : (j + 1) * 16], half, reach)


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def _signed_round(x: np.ndarray, step: np.ndarray, half: Real, q: np.ndarray) -> None:
    for b in range(x.shape[0]):
        for j in range(BLOCK // 16):
            s = step[b, j]
            inverse = np.float32(1.0) / s if abs(s) > TINY else _F0
            for i in range(j * 16, (j + 1) * 16):
                q[b, i] = np.uint8(clamp_round(x[b, i] * inverse, -half, half - np.float32(1)) + half)


def _quantise_positive(values: F32, top: float) -> tuple[F32, U8]:
    """Half-precision step `(n,)` and integers 0..top `(n, k)` for non-negative values `(n, k)`. The integers are chosen
    for the step as it will be read back, which matters where it is subnormal."""
    step = (values.max(axis=1) / np.float32(top)).astype(np.float16).astype(np.float32)
    return step, np.clip(np.rint(values * inverse_or_zero(step)[:, None]), 0, top).astype(np.uint8)


def affine_codes(x: F32, bits: int) -> tuple[F32, F32, U8, U8, U8]:
    """d, dmin `(n,)`, integer scales and minima `(n, k)` and codes `(n, 256)` of x ~ d sc q - dmin m."""
    p = _AFFINE[bits]
    x = np.ascontiguousarray(x, np.float32)
    scales, minima = (np.empty((len(x), BLOCK // p.sub), np.float32) for _ in range(2))
    top, first, step = np.float32(p.top), np.float32(p.first), np.float32(p.step)
    _affine_kernel(x, p.sub, top, first, step, p.tries, p.absolute, p.root_mean_square, scales, minima)
    d, scale = _quantise_positive(np.maximum(scales, 0), p.scale_top)
    dmin, minimum = _quantise_positive(np.maximum(minima, 0), p.scale_top)
    q = np.empty(x.shape, np.uint8)
    _affine_round(x, d[:, None] * scale.astype(np.float32), dmin[:, None] * minimum.astype(np.float32), p.sub, top, q)
    return d, dmin, scale, minimum, q


def signed_codes(x: F32, bits: int) -> tuple[F32, np.ndarray, U8]:
    """d `(n,)`, signed integer scales `(n, 16)` and codes `(n, 256)`, offset to start at 0, of x ~ d sc (q - half)."""
    half, scale_half, reach = _SIGNED[bits]
    x = np.ascontiguousarray(x, np.float32)
    scales = np.empty((len(x), 16), np.float32)
    _signed_kernel(x, np.float32(half), reach, scales)
    extreme = np.take_along_axis(scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1)
    d = (extreme[:, 0] / np.float32(-scale_half)).astype(np.float16).astype(np.float32)
    scale = np.clip(np.rint(scales * inverse_or_zero(d)[:, None]), -scale_half, scale_half - 1).astype(np.int32)
    q = np.empty(x.shape, np.uint8)
    _signed_round(x, d[:, None] * scale.astype(np.float32), np.float32(half), q)
    return d, scale, q
