"""Softmax three ways, as compared by Dukhan and Ablavatski (arXiv 2001.04438).

    algorithm            reads + writes of the array   exponentials per element
    three-pass recompute  3 + 1                         2     (max; sum; exponential again and divide)
    three-pass reload     3 + 2                         1     (max; exponential stored and summed; rescale)
    two-pass              2 + 1                         2     (e**x kept as m * 2**n: no maximum is needed)

NaN anywhere, plus infinity anywhere or nothing but minus infinity gives NaN everywhere; minus infinity gives 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, unknown
from waferline.kernels.cpu.exponential import exp, exponent_of, mantissa_of
from waferline.kernels.cpu.jit import jit
from waferline.kernels.cpu.simd import (
    add,
    at_least,
    fma,
    greater_of,
    load_f32,
    max_lanes,
    maximum,
    mul,
    power_of_two,
    spread,
    store_f32,
    sub,
    sum_lanes,
)

_LOWEST = np.float32(-16000.0)  # stands for anything lower in the two-pass form, whose exponents are plain floats
_FURTHEST = np.float32(16384.0)  # largest |n| for which the range reduction is still exact to rounding
_ZERO_EXPONENT = np.float32(-127.0)  # the bit pattern of zero
_MINUS_INFINITY = np.float32(-np.inf)


@jit
def _tail_of(x: Any, whole: int) -> Any:
    """The last incomplete vector, filled up with minus infinity."""
    tail = np.full(16, _MINUS_INFINITY, np.float32)
    tail[: x.size - whole] = x[whole:]
    return tail


@jit
def _largest(x: Any, whole: int, tail: Any) -> Any:
    top = load_f32(tail, 0)
    for i in range(0, whole, 16):
        top = maximum(top, load_f32(x, i * 4))
    return max_lanes(top)


@jit
def softmax_recompute(x: Any, y: Any) -> None:
    """Three passes, the exponential computed twice. x, y: contiguous f32[n]; y may be x."""
    whole = x.size // 16 * 16
    tail = _tail_of(x, whole)
    top = spread(_largest(x, whole, tail))
    total = exp(sub(load_f32(tail, 0), top))
    for i in range(0, whole, 16):
        total = add(total, exp(sub(load_f32(x, i * 4), top)))
    factor = spread(np.float32(1.0) / sum_lanes(total))
    for i in range(0, whole, 16):
        store_f32(y, i * 4, mul(exp(sub(load_f32(x, i * 4), top)), factor))
    store_f32(tail, 0, mul(exp(sub(load_f32(tail, 0), top)), factor))
    y[whole:] = tail[: x.size - whole]


@jit
def softmax_reload(x: Any, y: Any) -> None:
    """Three passes, the exponential stored in y and rescaled. x, y: contiguous f32[n]; y may be x."""
    whole = x.size // 16 * 16
    tail = _tail_of(x, whole)
    top = spread(_largest(x, whole, tail))
    total = exp(sub(load_f32(tail, 0), top))
    store_f32(tail, 0, total)
    for i in range(0, whole, 16):
        e = exp(sub(load_f32(x, i * 4), top))
        store_f32(y, i * 4, e)
        total = add(total, e)
    factor = spread(np.float32(1.0) / sum_lanes(total))
    for i in range(0, whole, 16):
        store_f32(y, i * 4, mul(load_f32(y, i * 4), factor))
    store_f32(tail, 0, mul(load_f32(tail, 0), factor))
    y[whole:] = tail[: x.size - whole]


@jit
def _gather_lanes(m: Any, n: Any) -> Any:
    """Sum sixteen numbers m * 2**n; the result in the same form."""
    ms, ns = np.empty(16, np.float32), np.empty(16, np.float32)
    store_f32(ms, 0, m)
    store_f32(ns, 0, n)
    n_all = ns.max()
    m_all = np.float32(0.0)
    for i in range(16):
        m_all += ms[i] * np.float32(2.0) ** max(ns[i] - n_all, np.float32(-127.0))
    # The factor 1/m is then near one and only results that are themselves below 2**-126 vanish: on many processors a
    # denormal product costs more than the whole element.
    mantissa, exponent = math.frexp(m_all)
    return np.float32(mantissa), np.float32(n_all + np.float32(exponent))


@jit
def _shrink(n: Any) -> Any:
    """2**n for n <= 0 (or barely above), zero below 2**-126."""
    return power_of_two(at_least(n, _ZERO_EXPONENT))


@jit
def softmax_two_pass(x: Any, y: Any) -> None:
    """Two passes over x; y: contiguous f32[n], may be x.

    Where the largest exponent is not a number or too large for exact range reduction (|x| beyond 11000), the answer is
    that of `softmax_recompute`.
    """
    whole = x.size // 16 * 16
    tail = _tail_of(x, whole)
    v = at_least(load_f32(tail, 0), _LOWEST)
    n_sum = exponent_of(v)
    m_sum = mantissa_of(v, n_sum)
    for i in range(0, whole, 16):
        v = at_least(load_f32(x, i * 4), _LOWEST)
        n = exponent_of(v)
        n_top = greater_of(n, n_sum)
        m_sum = fma(mantissa_of(v, n), _shrink(sub(n, n_top)), mul(m_sum, _shrink(sub(n_sum, n_top))))
        n_sum = n_top
    m_all, n_all = _gather_lanes(m_sum, n_sum)
    if not (abs(n_all) < _FURTHEST and np.isfinite(m_all)):
        softmax_recompute(x, y)
        return
    factor, level = spread(np.float32(1.0) / m_all), spread(n_all)
    for i in range(0, whole, 16):
        v = at_least(load_f32(x, i * 4), _LOWEST)
        n = exponent_of(v)
        store_f32(y, i * 4, mul(mul(mantissa_of(v, n), factor), _shrink(sub(n, level))))
    v = at_least(load_f32(tail, 0), _LOWEST)
    n = exponent_of(v)
    store_f32(tail, 0, mul(mul(mantissa_of(v, n), factor), _shrink(sub(n, level))))
    y[whole:] = tail[: x.size - whole]


ALGORITHMS = {
    "three-pass-recompute": softmax_recompute,
    "three-pass-reload": softmax_reload,
    "two-pass": softmax_two_pass,
}


def softmax(x: np.ndarray, *, algorithm: str = "three-pass-reload") -> np.ndarray:
    """Softmax over the last axis, f32. Raises `UnknownNameError` for an algorithm not in `ALGORITHMS`."""
    if algorithm not in ALGORITHMS:
        raise unknown("softmax algorithm", algorithm, ALGORITHMS)
    x = np.asarray(x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise InvalidInputError(f"shape {x.shape} has nothing to normalise", where="softmax")
    rows = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])
    y = np.empty_like(rows)
    for source, target in zip(rows, y, strict=True):
        ALGORITHMS[algorithm](source, target)
    return y.reshape(x.shape)
