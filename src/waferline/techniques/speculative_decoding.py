"""Speculative decoding: a draft model proposes, the target checks several tokens in one pass, output unchanged.

Source: Leviathan, Kalman and Matias 2022, arXiv:2211.17192, equation 1, theorems 3.8 and 3.11, and appendix A.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray


def expected_tokens(acceptance: npt.ArrayLike, drafted: npt.ArrayLike) -> FloatArray:
    """Tokens that one target pass yields when each of `drafted` tokens is accepted with probability `acceptance`."""
    a, n = np.asarray(acceptance, dtype=np.float64), np.asarray(drafted, dtype=np.float64)
    return np.asarray((1 - a ** (n + 1)) / (1 - a))


def speed_up(acceptance: npt.ArrayLike, drafted: npt.ArrayLike, draft_cost: npt.ArrayLike = 0.0) -> FloatArray:
    """Times faster than plain decoding; `draft_cost` is a draft step over a target step."""
    return np.asarray(expected_tokens(acceptance, drafted) / (np.asarray(drafted) * np.asarray(draft_cost) + 1))


def operations(acceptance: npt.ArrayLike, drafted: npt.ArrayLike, draft_operations: npt.ArrayLike = 0.0) -> FloatArray:
    """Times the arithmetic of plain decoding; `draft_operations` is a draft token over a target token."""
    n = np.asarray(drafted, dtype=np.float64)
    return np.asarray((n * np.asarray(draft_operations) + n + 1) / expected_tokens(acceptance, n))


def output_distribution(target: FloatArray, draft: FloatArray) -> FloatArray:
    """What accept-or-resample emits for one drafted token: the target's distribution, whatever the draft's.

    A token x of the draft q is kept with probability min(1, p(x)/q(x)), else drawn from the normalised max(p - q, 0).
    """
    kept = np.minimum(target, draft)
    rest = np.maximum(target - draft, 0.0)
    rejected = 1.0 - kept.sum(axis=-1, keepdims=True)
    whole = rest.sum(axis=-1, keepdims=True)
    return np.asarray(kept + np.divide(rest, whole, out=np.zeros_like(rest), where=whole > 0) * rejected)
