"""Shared prefixes: how much a prompt that many requests begin with can save.

Shared prompt prefixes: their KV cache is stored once, read once by a shared kernel, and not computed again.

Sources: ChunkAttention, arXiv:2402.15220 (memory and kernel traffic); RadixAttention in SGLang, arXiv:2312.07104.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, own
from waferline.evidence.studies.tolerance import at_least, between
from waferline.formats import Precision
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_prefill


def kv_saved(shared: npt.ArrayLike, own: npt.ArrayLike, sequences: npt.ArrayLike) -> FloatArray:
    """Share of KV memory saved when `sequences` sequences share `shared` tokens and have `own` ones each."""
    shared, own, n = (np.asarray(x, dtype=np.float64) for x in (shared, own, sequences))
    return np.asarray(1 - (shared + n * own) / (n * (shared + own)))


def attention_speed_up_bound(shared: npt.ArrayLike, own: npt.ArrayLike, sequences: npt.ArrayLike) -> FloatArray:
    """Most that a decode attention kernel can gain when the shared part is read once instead of once a sequence."""
    return np.asarray(1 / (1 - kv_saved(shared, own, sequences)))


def prefill_flops(model: Any, precision: Any, prompt: int, cached: int) -> float:
    """FLOPs of a prompt of which `cached` tokens are found in the cache; attention still looks at them."""
    operators = lower_prefill(model, batch=1, prompt=prompt - cached, cached=cached, precision=precision)
    return float(sum(op.count * op.flops for op in operators))


_LAW = "no kernel gains more than the bytes it no longer reads"


def compute(p: Facts) -> Iterator[Check]:
    each, sequences = p["own"], p["sequences"]
    for shared, published in zip(
        p["attention"]["shared"], (p["attention"]["least"], p["attention"]["most"]), strict=True
    ):
        bound = float(attention_speed_up_bound(shared, each, sequences))
        name = f"bound of attention's gain, {shared} shared tokens"
        yield Check(name, "×", published, bound, at_least(published, _LAW), why="a published gain above its bound")
    why = "the batch and the requests' own tokens are assumed, the source's abstract does not give them"
    for shared in p["attention"]["shared"]:
        saved = float(kv_saved(shared, each, sequences))
        limit = between(p["memory"]["least"], p["memory"]["most"], "the source's own range")
        yield Check(f"KV memory saved, {shared} shared tokens", "", None, saved, limit, why=why)
    model, precision = load_model("llama-3-8b"), Precision("fp16", "fp16", "fp16", "fp16")
    whole = prefill_flops(model, precision, 4096, 0)
    rest = prefill_flops(model, precision, 4096, 2048) + prefill_flops(model, precision, 2048, 0)
    exact = between(0.999, 1.001, "two halves make a whole, but for a second pass through the head")
    yield own("prompt read in two parts over read at once", "", None, rest / whole, exact)
