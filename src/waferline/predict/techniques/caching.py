"""Prefix caching: tokens of a prompt whose keys and values an earlier request left in the cache are not computed again."""

from __future__ import annotations

from waferline.predict.techniques.technique import Parameter, Technique

CACHING = {
    "prefix-cache": Technique(
        title="Prefix caching: shared tokens of prompts are computed once",
        parameters={"hit": Parameter("share of the prompt's tokens that are in the cache already", 0.5, 0.0, 1.0)},
        source="Zheng et al. 2024, SGLang (RadixAttention), arXiv:2312.07104; vLLM docs, automatic prefix caching",
        limits="the last token is always computed; looking blocks up and moving them from slower memory cost nothing here",
        checked="published times to first token by hit rate (evidence check on techniques)",
        cached=lambda given: float(given["hit"]),
        server=lambda given: {"hit": float(given["hit"])},
        replaces="prefix caching",
    ),
}
