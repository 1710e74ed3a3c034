"""Speculative decoding: several tokens out of one pass of the large model.

Speculative decoding: a draft model proposes, the target checks several tokens in one pass, output unchanged.

Source: Leviathan, Kalman and Matias 2022, arXiv:2211.17192, equation 1, theorems 3.8 and 3.11, and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import absolute, printed
from waferline.predict.techniques.speculative import accepted_tokens


def operations(acceptance: float, drafted: float) -> float:
    """Times the arithmetic of plain decoding, of drafts that cost nothing."""
    return (drafted + 1.0) / accepted_tokens(drafted, acceptance, None)


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
        speed = accepted_tokens(
            row["drafted"], row["acceptance"], None
        )  # a draft costs nothing: one pass yields so many
        yield identity(f"{name}: speed", "×", float(row["speed"]), speed, printed(row["speed"]))
        ours = operations(*setting)
        yield identity(f"{name}: operations", "×", float(row["operations"]), ours, printed(row["operations"]))
    rng = np.random.default_rng(0)
    target, draft = rng.dirichlet(np.ones(50), 100), rng.dirichlet(np.ones(50), 100)
    error = float(np.abs(output_distribution(target, draft) - target).max())
    yield own("output distribution against the target's", "max error", 0.0, error, absolute(1e-12, "exact"))
    why = "acceptance, costs and machines of served systems are not stated together"
    yield Check("speed-ups in serving", "×", None, None, why=why)
