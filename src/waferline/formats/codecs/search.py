"""The scale search behind K-quants and IQ4: given a sub-block, which scale (and minimum) loses least?

For a handful of candidate scales the codes are rounded, and the weighted least-squares scale and minimum for those
codes are found in closed form; the candidate with the least weighted error wins. This is ggml's method
(`make_qx_quants`, `make_qkx2_quants`), with the squared error also in closed form, from the sums the fit needs anyway:
one pass over the weights a candidate instead of two.
"""

from __future__ import annotations

import numba
import numpy as np

_F0 = np.float32(0.0)
_F1 = np.float32(1.0)
_F2 = np.float32(2.0)
Real = np.float32  # everything here is single precision: eight or sixteen at a time
TINY = np.float32(1e-15)  # ggml's GROUP_MAX_EPS: below it a group counts as zeros

# sums may be reordered (that is what vectorises them); NaN and infinity have been refused before
FAST = {"reassoc", "contract", "nsz", "nnan", "ninf", "arcp"}


@numba.njit(cache=True, fastmath=FAST, inline="always")
def clamp_round(v: Real, low: Real, high: Real) -> Real:
    """v rounded to the nearest integer (ties to even) within [low, high]."""
    return min(max(np.rint(v), low), high)


@numba.njit(cache=True, fastmath=FAST, inline="always")
def signed_extreme(x: np.ndarray) -> Real:
    """The element of largest magnitude, with its sign."""
    low, high = _F0, _F0
    for i in range(x.size):
        low, high = min(low, x[i]), max(high, x[i])
    return high if high > -low else low


@numba.njit(cache=True, fastmath=FAST)
def _extent(x: np.ndarray, w: np.ndarray) -> tuple[Real, Real, Real, Real, Real]:
    """Smallest and largest of x and 0, and the sums of w, w x and w x^2."""
    low, high, sum_w, sum_x, sum_xx = _F0, _F0, _F0, _F0, _F0
    for i in range(x.size):
        low, high = min(low, x[i]), max(high, x[i])
        sum_w += w[i]
        sum_x += w[i] * x[i]
        sum_xx += w[i] * x[i] * x[i]
    return low, high, sum_w, sum_x, sum_xx


@numba.njit(cache=True, fastmath=FAST)
def _code_sums(x: np.ndarray, w: np.ndarray, low: Real, inverse: Real, top: Real) -> tuple[Real, Real, Real]:
    """Sums of w q, w q^2 and w q x for the codes q that this scale rounds to."""
    sum_q, sum_qq, sum_qx = _F0, _F0, _F0
    for i in range(x.size):
        q = clamp_round(inverse * (x[i] - low), _F0, top)
        wq = w[i] * q
        sum_q += wq
        sum_qq += wq * q
        sum_qx += wq * x[i]
    return sum_q, sum_qq, sum_qx


@numba.njit(cache=True, fastmath=FAST)
def _absolute_error(x: np.ndarray, w: np.ndarray, low: Real, inverse: Real, top: Real, s: Real, m: Real) -> Real:
    """Sum of w |s q + m - x| for the codes q that this scale rounds to."""
    error = _F0
    for i in range(x.size):
        error += w[i] * abs(s * clamp_round(inverse * (x[i] - low), _F0, top) + m - x[i])
    return error


@numba.njit(cache=True, fastmath=FAST)
def fit_scale_min(
    x: np.ndarray, w: np.ndarray, top: Real, first: Real, step: Real, tries: int, absolute: bool
) -> tuple[Real, Real]:
    """Scale s and minimum m >= 0 with x ~ s q - m, q in 0..top: the candidate with the least weighted error.

    Candidate t rounds with scale (largest - smallest) / (top + first + t * step); the first of all with exactly top.
    The error is squared, or `absolute` (ggml's choice for two bits).
    """
    low, high, sum_w, sum_x, sum_xx = _extent(x, w)
    if high - low < TINY:
        return _F0, -low
    best, best_s, best_m = np.float32(np.inf), _F0, _F0
    for t in range(-1, tries + 1):
        inverse = (top if t < 0 else top + first + step * np.float32(t)) / (high - low)
        sum_q, sum_qq, sum_qx = _code_sums(x, w, low, inverse, top)
        if t < 0:
            s, m = _F1 / inverse, low
        else:
            det = sum_w * sum_qq - sum_q * sum_q
            if det <= 0:
                continue
            s = (sum_w * sum_qx - sum_x * sum_q) / det
            m = (sum_qq * sum_x - sum_q * sum_qx) / det
            if m > 0:  # the minimum may only lower values
                s, m = sum_qx / sum_qq, _F0
        if absolute:
            error = _absolute_error(x, w, low, inverse, top, s, m)
        else:
            error = sum_xx + s * (s * sum_qq + _F2 * (m * sum_q - sum_qx)) + m * (m * sum_w - _F2 * sum_x)
        if error < best:
            best, best_s, best_m = error, s, m
    return best_s, -best_m


@numba.njit(cache=True, fastmath=FAST)
def fit_scale(x: np.ndarray, half: Real, reach: int) -> Real:
    """Scale s with x ~ s * q, q in -half..half-1, least sum x^2 (x - s q)^2 over 2 * reach + 1 candidates.

    Candidate t maps the extreme element to -(half + t / 10), so the side with one more code serves it. The scale may be
    negative. 0 for a group of zeros.
    """
    extreme = signed_extreme(x)
    if abs(extreme) < TINY:
        return _F0
    best, best_s = _F0, _F0
    for t in range(-reach, reach + 1):
        inverse = -(half + np.float32(0.1) * np.float32(t)) / extreme
        sum_qx, sum_qq = _F0, _F0
        for i in range(x.size):
            q = clamp_round(inverse * x[i], -half, half - _F1)
            wq = x[i] * x[i] * q
            sum_qx += wq * x[i]
            sum_qq += wq * q
        if sum_qq > 0 and sum_qx * sum_qx > best * sum_qq:
            best_s = sum_qx / sum_qq
            best = best_s * sum_qx
    return best_s


@numba.njit(cache=True, fastmath=FAST, inline="always")
def nearest_level(v: Real, boundaries: np.ndarray) -> int:
    """Index of the level nearest v: how many of the sorted midpoints `boundaries` lie at or below it."""
    index = 0
    for k in range(boundaries.size):
        index += v >= boundaries[k]
    return index


@numba.njit(cache=True, fastmath=FAST)
def fit_level_scale(x: np.ndarray, levels: np.ndarray, boundaries: np.ndarray, reach: int) -> Real:
    """Scale s with x ~ s * levels[q], least sum x^2 (x - s level)^2 over 2 * reach + 1 candidates; 0 for zeros."""
    extreme = signed_extreme(x)
    if abs(extreme) < TINY:
        return _F0
    best, best_s = _F0, _F0
    for t in range(-reach, reach + 1):
        inverse = (levels[0] + np.float32(t)) / extreme
        sum_qx, sum_qq = _F0, _F0
        for i in range(x.size):
            q = levels[nearest_level(inverse * x[i], boundaries)]
            wq = x[i] * x[i] * q
            sum_qx += wq * x[i]
            sum_qq += wq * q
        if sum_qq > 0 and sum_qx * sum_qx > best * sum_qq:
            best_s = sum_qx / sum_qq
            best = best_s * sum_qx
    return best_s
