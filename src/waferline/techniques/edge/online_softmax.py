"""Softmax in one pass: a running maximum and a sum that is rescaled whenever the maximum grows.

Exact, not an approximation. `quantise` turns it into the fixed-point datapath of an FPGA.
Source: Edge-MoE, arXiv:2305.18691, section III-B; Milakov and Gimelshein 2018, arXiv:1805.02867.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from waferline.arrays import FloatArray


def fixed_point(fraction_bits: int) -> Callable[[FloatArray], FloatArray]:
    """Truncation towards minus infinity to multiples of 2^-fraction_bits, as `ap_fixed` does by default."""
    scale = 2.0**fraction_bits
    return lambda x: np.floor(x * scale) / scale


def online_softmax(x: FloatArray, quantise: Callable[[FloatArray], FloatArray] = np.asarray) -> FloatArray:
    """Softmax over the last axis of `x` (..., n); every intermediate goes through `quantise`."""
    x = quantise(np.asarray(x, np.float64))
    largest, total = x[..., 0].copy(), np.ones(x.shape[:-1])
    for i in range(1, x.shape[-1]):
        value = x[..., i]
        grows = value > largest
        factor = quantise(np.exp(-np.abs(value - largest)))
        total = np.where(grows, quantise(total * factor) + 1.0, total + factor)
        largest = np.where(grows, value, largest)
    inverse = quantise(1.0 / total)
    return quantise(quantise(np.exp(x - largest[..., None])) * inverse[..., None])
