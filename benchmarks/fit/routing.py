"""What the measured MoE rows routed: expected load and experts touched on the rank that was timed.

Balanced rows spread tokens over experts in turn. Power-law rows draw each expert's popularity from a truncated power law
(range 1 .. 0.8 tokens, or 0.01 .. 2 when there are fewer routed rows than experts), and time the rank with the most rows.
"""

from __future__ import annotations

from functools import cache

import numpy as np

DRAWS = 24
RNG_SEED = 20261121


def _popularity(rng: np.random.Generator, experts: int, alpha: float, low: float, high: float) -> np.ndarray:
    u = rng.random((DRAWS, experts))
    a = 1.0 - alpha
    return ((high**a - low**a) * u + low**a) ** (1.0 / a)


@cache
def busiest_rank(tokens: int, topk: int, experts: int, ep: int, alpha: float) -> tuple[float, float]:
    """(rows, experts touched) of the busiest of `ep` ranks, averaged over draws of a power law of exponent `alpha`."""
    rng = np.random.default_rng(RNG_SEED)
    total = tokens * topk
    low, high = (1.0, max(0.8 * tokens, 1.01)) if total > experts else (0.01, 2.0)
    popularity = _popularity(rng, experts, alpha, low, high)
    rows = np.floor(popularity / popularity.sum(axis=1, keepdims=True) * total + 0.5)
    short = (total - rows.sum(axis=1)) / experts  # rounding error, handed out one by one from the most popular
    order = np.argsort(-rows, axis=1)
    for draw, missing in enumerate(np.round(short * experts).astype(int)):
        step = 1 if missing > 0 else -1
        ranked = order[draw] if missing > 0 else order[draw][: max(int((rows[draw] > 0).sum()), 1)][::-1]
        hit = ranked[np.arange(abs(missing)) % len(ranked)]
        np.add.at(rows[draw], hit, step)
    rows = np.maximum(rows, 0.0).reshape(DRAWS, ep, experts // ep)
    busiest = rows.sum(axis=2).argmax(axis=1)
    mine = rows[np.arange(DRAWS), busiest]
    return float(mine.sum(axis=1).mean()), float((mine > 0).sum(axis=1).mean())


def timed_rank(distribution: str, tokens: int, topk: int, experts: int, ep: int) -> tuple[float, float]:
    """(rows, experts touched) of the rank a table row timed."""
    if distribution == "balanced":
        rows = max(tokens * topk / ep, 1.0)
        return rows, float(min(max(tokens * topk / ep, 1.0), experts / ep))
    return busiest_rank(tokens, topk, experts, ep, float(distribution.rsplit("_", 1)[1]))
