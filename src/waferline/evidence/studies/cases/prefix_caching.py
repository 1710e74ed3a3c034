"""Shared prefixes: how much a prompt that many requests begin with can save."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import at_least, between

_LAW = "no kernel gains more than the bytes it no longer reads"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.formats import Precision
    from waferline.techniques.prefix_caching import attention_speed_up_bound, kv_saved, prefill_flops
    from waferline.workloads.load import load_model

    p = facts("techniques")["prefix"]
    own, sequences = p["own"], p["sequences"]
    for shared, published in zip(
        p["attention"]["shared"], (p["attention"]["least"], p["attention"]["most"]), strict=True
    ):
        bound = float(attention_speed_up_bound(shared, own, sequences))
        name = f"bound of attention's gain, {shared} shared tokens"
        yield Check(name, "×", published, bound, at_least(published, _LAW), why="a published gain above its bound")
    why = "the batch and the requests' own tokens are assumed, the source's abstract does not give them"
    for shared in p["attention"]["shared"]:
        saved = float(kv_saved(shared, own, sequences))
        limit = between(p["memory"]["least"], p["memory"]["most"], "the source's own range")
        yield Check(f"KV memory saved, {shared} shared tokens", "", None, saved, limit, why=why)
    model, precision = load_model("llama-3-8b"), Precision("fp16", "fp16", "fp16", "fp16")
    whole = prefill_flops(model, precision, 4096, 0)
    rest = prefill_flops(model, precision, 4096, 2048) + prefill_flops(model, precision, 2048, 0)
    exact = between(0.999, 1.001, "two halves make a whole, but for a second pass through the head")
    yield Check("prompt read in two parts over read at once", "", None, rest / whole, exact)


STUDY = Study(
    name="prefix-caching",
    title="Prefix caching: ChunkAttention",
    source=Source("https://arxiv.org/abs/2402.15220", "2024-02-23"),
    claim="decode attention 3.2 to 4.8 times faster and 70 to 90 % less KV memory for shared prompts of 1k to 4k tokens",
    configuration={"sequences": "32 (assumed)", "own tokens": "256 (assumed)"},
    compute=compute,
    note="checked as bounds: a traffic model gives the most that sharing can gain",
)
