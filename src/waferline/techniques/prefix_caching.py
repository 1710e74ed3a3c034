"""Shared prompt prefixes: their KV cache is stored once, read once by a shared kernel, and not computed again.

Sources: ChunkAttention, arXiv:2402.15220 (memory and kernel traffic); RadixAttention in SGLang, arXiv:2312.07104.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
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
