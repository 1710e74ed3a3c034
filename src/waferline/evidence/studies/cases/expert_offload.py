"""Expert offloading: Mixtral on a small GPU with a cache of recently used experts.

Experts kept on the host, the recently used ones on the device: what misses cost per token.

Source: Eliseev and Mazur 2023, arXiv:2312.17238, sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, own
from waferline.evidence.studies.tolerance import at_least, between


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


_LAYERS, _EXPERTS, _CHOSEN, _EXPERT_PARAMETERS = 32, 8, 2, 3 * 4096 * 14336  # Mixtral-8x7B
_TOKENS = 20_000
_SAMPLING = 0.01


def compute(e: Facts) -> Iterator[Check]:
    hits = lru_hit_ratio(_EXPERTS, _CHOSEN, e["cached"], _TOKENS)
    limit = between(e["hit_ratio"][0], e["hit_ratio"][1], "the source's own range")
    yield Check("LRU hits, 4 of 8 experts kept, uniform routing", "", None, hits, limit, how="simulated")
    closed = uniform_hit_ratio(_EXPERTS, _CHOSEN, e["cached"])
    limit = between(closed - _SAMPLING, closed + _SAMPLING, f"closed form, sampling error of {_TOKENS} tokens")
    yield own("the same against its closed form", "", None, hits, limit, how="simulated")
    waits = token_s(_LAYERS, _CHOSEN, _EXPERT_PARAMETERS * e["expert_bits"] / 8, hits, e["link_bytes_per_s"])
    why = "a published rate above what the link allows"
    name = "tokens a second that PCIe allows, at least the published ones"
    yield Check(name, "tok/s", e["tokens_per_s"], 1 / waits, at_least(e["tokens_per_s"], "law of bandwidth"), why=why)
    why = "dequantisation, attention and kernel launches of the T4 share the token's time and are not broken down"
    yield Check("tokens a second themselves", "tok/s", e["tokens_per_s"], None, why=why)
