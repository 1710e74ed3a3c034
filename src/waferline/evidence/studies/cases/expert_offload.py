"""Expert offloading: Mixtral on a small GPU with a cache of recently used experts."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import at_least, between

_LAYERS, _EXPERTS, _CHOSEN, _EXPERT_PARAMETERS = 32, 8, 2, 3 * 4096 * 14336  # Mixtral-8x7B
_TOKENS = 20_000
_SAMPLING = 0.01


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.techniques.expert_cache import lru_hit_ratio, token_s, uniform_hit_ratio

    e = facts("techniques")["expert_offload"]
    hits = lru_hit_ratio(_EXPERTS, _CHOSEN, e["cached"], _TOKENS)
    limit = between(e["hit_ratio"][0], e["hit_ratio"][1], "the source's own range")
    yield Check("LRU hits, 4 of 8 experts kept, uniform routing", "", None, hits, limit, how="simulated")
    closed = uniform_hit_ratio(_EXPERTS, _CHOSEN, e["cached"])
    limit = between(closed - _SAMPLING, closed + _SAMPLING, f"closed form, sampling error of {_TOKENS} tokens")
    yield Check("the same against its closed form", "", None, hits, limit, how="simulated")
    waits = token_s(_LAYERS, _CHOSEN, _EXPERT_PARAMETERS * e["expert_bits"] / 8, hits, e["link_bytes_per_s"])
    why = "a published rate above what the link allows"
    name = "tokens a second that PCIe allows, at least the published ones"
    yield Check(name, "tok/s", e["tokens_per_s"], 1 / waits, at_least(e["tokens_per_s"], "law of bandwidth"), why=why)
    why = "dequantisation, attention and kernel launches of the T4 share the token's time and are not broken down"
    yield Check("tokens a second themselves", "tok/s", e["tokens_per_s"], None, why=why)


STUDY = Study(
    name="expert-offload",
    title="Fast inference of mixture-of-experts models with offloading",
    source=Source("https://arxiv.org/abs/2312.17238", "2023-12-28"),
    claim="Mixtral-8x7B at two tokens a second on a free Colab machine",
    configuration={
        "model": "Mixtral-8x7B, experts in 2 bits",
        "machine": "T4 over PCIe 3.0 x16",
        "cache": "4 of 8 experts",
    },
    compute=compute,
    note="hit rates and speeds as summaries of the paper quote them",
)
