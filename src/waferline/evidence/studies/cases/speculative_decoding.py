"""Speculative decoding: several tokens out of one pass of the large model.

Speculative decoding: a draft model proposes, the target checks several tokens in one pass, output unchanged.

Source: Leviathan, Kalman and Matias 2022, arXiv:2211.17192, equation 1, theorems 3.8 and 3.11, and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import absolute, printed


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


def compute(facts: Facts) -> Iterator[Check]:
    for row in facts["rows"]:
        setting = (row["acceptance"], row["drafted"])
        name = f"acceptance {row['acceptance']}, {row['drafted']} drafted"
        yield identity(f"{name}: speed", "×", float(row["speed"]), float(speed_up(*setting)), printed(row["speed"]))
        ours = float(operations(*setting))
        yield identity(f"{name}: operations", "×", float(row["operations"]), ours, printed(row["operations"]))
    rng = np.random.default_rng(0)
    target, draft = rng.dirichlet(np.ones(50), 100), rng.dirichlet(np.ones(50), 100)
    error = float(np.abs(output_distribution(target, draft) - target).max())
    yield own("output distribution against the target's", "max error", 0.0, error, absolute(1e-12, "exact"))
    why = "acceptance, costs and machines of served systems are not stated together"
    yield Check("speed-ups in serving", "×", None, None, why=why)
