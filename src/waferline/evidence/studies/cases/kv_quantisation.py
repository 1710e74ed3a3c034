"""KV cache quantisation: KIVI's two-bit cache, its memory and what batch it makes room for."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import at_least, relative

_TOKENS = 4096
_TOLERANCE = 0.15


def compute() -> Iterator[Check]:
    import numpy as np

    from waferline.evidence.studies.facts import facts
    from waferline.formats import Precision
    from waferline.predict.memory import kv_cache_bytes, model_weight_bytes
    from waferline.techniques.kv_quantisation import KvFormat, batch_ratio, memory_ratio
    from waferline.workloads.load import load_model

    k = facts("techniques")["kivi"]
    share = float(KvFormat().share(_TOKENS))
    most = float(batch_ratio(share))
    yield Check("batch for the same cache memory, 4096 tokens", "×", k["batch_ratio"], most, at_least(k["batch_ratio"]))
    model, precision = load_model("llama-2-7b"), Precision("fp16", "fp16", "fp16", "fp16")
    weights = model_weight_bytes(model, precision)  # type: ignore[arg-type]
    one = float(kv_cache_bytes(model, precision, np.asarray(float(_TOKENS)), np.ones(())))  # type: ignore[arg-type]
    full = np.floor((80e9 - weights) / one)
    ratio = float(memory_ratio(weights, full * one, share))
    why = "the abstract does not say at which batch and length its peak memory was taken; activations are not in ours"
    yield Check(
        f"memory with weights, {full:.0f} × 4096 tokens", "×", k["memory_ratio"], ratio, relative(_TOLERANCE), why=why
    )
    why = "batch, lengths and kernels behind the range are not in the abstract"
    yield Check("throughput", "×", k["throughput"][0], None, why=why)


STUDY = Study(
    name="kv-quantisation",
    title="KIVI: tuning-free 2-bit quantisation of the KV cache",
    source=Source("https://arxiv.org/abs/2402.02750", "2024-02-05"),
    claim="2.6 times less peak memory with weights, up to 4 times the batch, 2.35 to 3.47 times the throughput",
    configuration={"model": "Llama-2-7B, fp16 weights", "cache": "2 bits, groups of 32, 128 recent tokens in fp16"},
    compute=compute,
    note="taken at the fullest batch of 4096-token sequences that 80 GB hold in 16 bits",
)
