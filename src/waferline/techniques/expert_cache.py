"""Experts kept on the host, the recently used ones on the device: what misses cost per token.

Source: Eliseev and Mazur 2023, arXiv:2312.17238, sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np


def lru_hit_ratio(experts: int, chosen: int, cached: int, tokens: int, stickiness: float = 0.0, seed: int = 0) -> float:
    """Share of chosen experts found in a least-recently-used cache of one layer.

    stickiness: chance that an expert is chosen again with the next token instead of a uniformly drawn one.
    """
    rng = np.random.default_rng(seed)
    cache: OrderedDict[int, None] = OrderedDict()
    now = list(rng.permutation(experts)[:chosen])
    hits = 0
    for _ in range(tokens):
        kept = [e for e in now if rng.random() < stickiness]
        others = [e for e in rng.permutation(experts) if e not in kept]
        now = kept + others[: chosen - len(kept)]
        for expert in now:
            hits += expert in cache
            cache[expert] = None
            cache.move_to_end(expert)
            if len(cache) > cached:
                cache.popitem(last=False)
    return hits / (tokens * chosen)


def uniform_hit_ratio(experts: int, chosen: int, cached: int) -> float:
    """The same for uniform choices, in closed form: the j-th of a token's experts finds `cached - j` of the others kept."""
    return float(np.mean([(cached - j) / (experts - j) for j in range(chosen)]))


def token_s(layers: float, chosen: float, expert_bytes: float, hit_ratio: float, link_bytes_per_s: float) -> float:
    """Seconds a token waits for experts that are not on the device, nothing prefetched."""
    return layers * chosen * (1.0 - hit_ratio) * expert_bytes / link_bytes_per_s
