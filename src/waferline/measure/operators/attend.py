"""Attention over a cache: one new token (attention) or a whole prompt (prefill_attention)."""

from __future__ import annotations

from typing import Any

import numpy as np

from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.kernels.cpu.attention import KVCache
from waferline.measure.caches import caches
from waferline.measure.contract import Check, Outcome, relative_error
from waferline.measure.engine import Cpu, Plan, foresee_memory, measure
from waferline.measure.operators.request import OperatorRequest

_KINDS = {"fp16": "f16", "q8_0": "q8", "int8": "q8"}
# f16 keeps eleven bits of every key and value; q8 keeps eight with a scale a token and head.
_TOLERANCE = {"f16": 2e-3, "q8": 2e-2}
_SEED = 20260102
_MOST_COLD_BYTES = 2**29
_CHECKED_HEADS = 2  # of the last query: enough to see a wrong mask, head or scale


def cache_kind(name: str) -> str:
    """The cache format of a catalogue name. Raises: UnsupportedError naming those with kernels."""
    found = _KINDS.get(get_format(name).name)
    if found is None:
        raise UnsupportedError(f"no attention kernel for a cache in '{name}'", hint="supported: " + ", ".join(_KINDS))
    return found


def measure_attention(request: OperatorRequest, plan: Plan) -> Outcome:
    """Time softmax(q·kᵀ/√d)·v for `batch` sequences of `context` tokens, one query each or a query a token."""
    heads, kv_heads, d, context = request.shape
    kind = cache_kind(request.format)
    prefill = request.operator == "prefill_attention"
    each = KVCache.size_bytes(kind, 1, kv_heads, context, d)
    layers = request.batch * _rotations(each * request.batch, request.cold and not prefill)
    foresee_memory(each * layers + 4 * 3 * context * heads * d, request.label)
    random = np.random.default_rng(_SEED)
    k, v = (random.standard_normal((context, kv_heads, d)).astype(np.float32) for _ in range(2))
    q = random.standard_normal((context if prefill else 1, heads, d)).astype(np.float32)
    cache = KVCache.empty(kind, layers, kv_heads, context, d)
    for layer in range(layers):
        cache.write(layer, 0, k, v)
    position = 0 if prefill else context - 1
    wanted = _reference(q[-1], k, v)

    def run(first_layer: int) -> Any:
        return [cache.attend(first_layer + b, position, q, threads=request.threads) for b in range(request.batch)][-1]

    def check(out: Any) -> Check:
        error = relative_error(out[-1, :_CHECKED_HEADS], wanted[:_CHECKED_HEADS])
        return Check("softmax written out in f64", error, _TOLERANCE[kind])

    groups = layers // request.batch
    pairs = context * (context + 1) / 2 if prefill else context
    return measure(
        run,
        name=request.label,
        check=check,
        inputs=lambda call: (call % groups * request.batch,),
        device=Cpu(request.threads),
        plan=plan,
        work={"flops": 4.0 * request.batch * heads * d * pairs, "bytes": float(each * request.batch)},
        detail=request.detail(kv_format=get_format(request.format).name),
    )


def _rotations(one_bytes: int, cold: bool) -> int:
    """How many caches to take turns with, so that none is still in a processor cache when its turn comes again."""
    if not cold:
        return 1
    last = max((c.bytes for c in caches()), default=0)
    return max(1, -(-min(2 * last, _MOST_COLD_BYTES) // one_bytes))


def _reference(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Every head of one query that sees all tokens, f64[heads, d]."""
    heads, d = q.shape
    group = heads // k.shape[1]
    out = np.empty((heads, d))
    for h in range(heads):
        score = k[:, h // group].astype(np.float64) @ q[h].astype(np.float64) / d**0.5
        weight = np.exp(score - score.max())
        out[h] = weight @ v[:, h // group].astype(np.float64) / weight.sum()
    return out
