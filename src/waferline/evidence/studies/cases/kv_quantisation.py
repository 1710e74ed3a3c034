"""KV cache quantisation: KIVI's two-bit cache, its memory and what batch it makes room for.

Quantised KV caches: groups with a scale and a zero point each, and the newest tokens in full width.

Source: KIVI, arXiv:2402.02750, section 3: keys by channel and values by token, 2 bits, groups of 32, 128 recent tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check
from waferline.evidence.studies.tolerance import at_least, relative
from waferline.formats import Precision
from waferline.predict.memory import kv_cache_bytes, model_weight_bytes
from waferline.workloads.load import load_model

_FULL_BITS = 16.0


@dataclass(frozen=True, slots=True)
class KvFormat:
    """Bits of a code, elements that share a scale and a zero point (16 bits each), and tokens left in full width."""

    bits: float = 2.0
    group: int = 32
    recent_tokens: int = 128

    @property
    def bits_per_element(self) -> float:
        return self.bits + 2 * _FULL_BITS / self.group

    def share(self, tokens: npt.ArrayLike) -> FloatArray:
        """Bytes of a cache of `tokens` tokens over those of 16 bits."""
        tokens = np.asarray(tokens, dtype=np.float64)
        old = np.maximum(tokens - self.recent_tokens, 0.0)
        return np.asarray((old * self.bits_per_element + (tokens - old) * _FULL_BITS) / (tokens * _FULL_BITS))


def memory_ratio(weights_bytes: float, kv_bytes: npt.ArrayLike, share: npt.ArrayLike) -> FloatArray:
    """Memory of weights and a 16-bit cache over that with the cache shrunk to `share`."""
    kv = np.asarray(kv_bytes, dtype=np.float64)
    return np.asarray((weights_bytes + kv) / (weights_bytes + kv * np.asarray(share)))


def batch_ratio(share: npt.ArrayLike) -> FloatArray:
    """Times the sequences that fit into the same memory for the cache."""
    return np.asarray(1.0 / np.asarray(share))


_TOKENS = 4096
_TOLERANCE = 0.15


def compute(k: Facts) -> Iterator[Check]:
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
