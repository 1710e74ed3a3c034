"""Techniques of attention: a narrower cache, attention to a part of the tokens, and a prompt read by a smaller model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum
from waferline.errors import InvalidInputError
from waferline.formats import get_format
from waferline.predict.techniques.speculative import generator, model_bytes
from waferline.predict.techniques.technique import Given, Parameter, Setting, Step, Technique, helps
from waferline.workloads.lower import builder, lower_decode, lower_prefill
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Attention, SoftmaxAttention, Transformer

_ATTENTION = frozenset({"prefill_attention", "decode_attention", "mla_prefill", "mla_decode"})


_TRIANGLE = "triangle."  # before the name of attention in such a pattern: nothing else makes it sparser


def _sparse(step: Step, s: Setting, given: Given) -> Step:
    """Queries see at most `tokens` of the context; an estimate of which ones reads a share of all keys.

    A prompt's kernels compute `padded` pairs for each one wanted, and choosing takes `choose` ms for each head of a layer.
    """

    def kept(op: Operator) -> Operator:
        if op.kind.endswith(("decode_attention", "decode")):
            share = minimum(given["tokens"] / s.context, 1.0)
            seen = share + given["estimate"] * (1.0 - share)
            return replace(op, flops=op.flops * seen, kv_bytes=op.kv_bytes * seen)
        part = (_pairs(s.prompt, given["tokens"]) - _pairs(s.cached, given["tokens"])) / _all_pairs(s)
        part = minimum(part * given["padded"], maximum(part, 1.0))
        return replace(op, flops=op.flops * (part + given["estimate"] * maximum(1.0 - part, 0.0)))

    chosen = [op for op in step.operators if _attends(op) and not op.name.startswith(_TRIANGLE)]
    heads = sum(op.count * op.shape["heads"] for op in chosen if not op.kind.endswith("decode"))
    ops = [kept(op) if any(op is one for one in chosen) else op for op in step.operators]
    return replace(step, operators=ops, host_s=step.host_s + heads * given["choose"] * 1e-3)


def _triangle(step: Step, s: Setting, given: Given) -> Step:
    """In a share of the layers a prompt's queries see `tokens`, the first ones and the nearest; its last `last` queries see all."""
    last = minimum(given["last"], s.prompt - s.cached)
    pairs = (
        _pairs(s.prompt - last, given["tokens"]) - _pairs(s.cached, given["tokens"]) + last * (s.prompt - 0.5 * last)
    )
    part = minimum(pairs / _all_pairs(s) * given["padded"], 1.0)

    def split(op: Operator) -> list[Operator]:
        if not _attends(op):
            return [op]
        deep = replace(op, name=f"{_TRIANGLE}{op.name}", count=op.count * given["layers"], flops=op.flops * part)
        return [replace(op, count=op.count * (1.0 - given["layers"])), deep]

    return replace(step, operators=[part for op in step.operators for part in split(op)])


def _attends(op: Operator) -> bool:
    return op.kind in _ATTENTION and not helps(op)


def _pairs(n: Floats, tokens: float) -> Floats:
    """Of the first `n` queries with keys: each sees all before it up to the t-th, and t after it."""
    reach = minimum(n, tokens)
    return reach * (n - 0.5 * reach)


def _all_pairs(s: Setting) -> Floats:
    return 0.5 * (s.prompt**2 - s.cached**2)


def keeps_no_cache(model: Transformer) -> str:
    """Why nothing of attention changes: no layer keeps keys and values."""
    attends = any(isinstance(m, SoftmaxAttention) for block in model.blocks for m in block.mixers)
    return "" if attends else f"{model.name} keeps no keys and values"


def _read_by_another(step: Step, s: Setting, given: Given) -> Step:
    """The auxiliary model reads the prompt, linear maps turn its cache into the base's, and the base runs the last token."""
    small = generator("kv-prediction", given["auxiliary"])
    shared: dict[str, Any] = {"precision": s.precision, "parallel": s.parallel}
    rows = s.prompt - s.cached
    reads = lower_prefill(small, batch=s.batch, prompt=rows, cached=s.cached, **shared)
    last = lower_decode(s.model, batch=s.batch, context=s.prompt, **shared)
    b, source = builder(s.model, s.precision), float(np.median([width for width, _ in _cached(small)]))
    maps = [b.gemm("predictor", s.batch * rows, 2.0 * width, source, count=count) for width, count in _cached(s.model)]
    layers = float(sum(block.count for block in small.blocks))
    named = [replace(op, name=f"auxiliary.{op.name}") for op in reads]
    return replace(step, operators=[*named, *maps, *last], layers=layers + step.layers, helping=layers)


def _cached(model: Transformer) -> list[tuple[float, float]]:
    """Elements of a token's keys, or values, and layers that are alike, by kind of layer."""
    kinds = [(b.mixer, float(b.count)) for b in model.blocks]
    found = [(float(m.kv_heads * m.head_dim), count) for m, count in kinds if isinstance(m, Attention)]
    if not found:
        raise InvalidInputError(f"kv-prediction: {model.name} keeps no keys and values of heads")
    return found


ATTENTION = {
    "kv-format": Technique(
        title="KV cache in a narrower format",
        parameters={"format": Parameter("number format of keys and values", "fp8", text=True)},
        source="Liu et al. 2024, KIVI, arXiv:2402.02750; vLLM docs, quantised KV cache",
        limits="scales of groups are those of the format; attention kernels unpack at the rate measured for 8 bits",
        checked="published speed-ups of fp8 caches (evidence check on techniques)",
        refuses=lambda model, device: keeps_no_cache(model),
        kv=lambda given: get_format(given["format"]).name,
    ),
    "sparse-attention": Technique(
        title="Sparse attention: each query sees a part of the context",
        parameters={
            "tokens": Parameter("tokens that a query sees at most", 2048.0, 1.0, whole=True),
            "estimate": Parameter("cost of choosing them, as a share of attending to the rest", 0.1, 0.0, 1.0),
            "padded": Parameter("pairs that a prompt's kernel computes for each one wanted", 1.0, 1.0, 64.0),
            "choose": Parameter("time of choosing for each head of a layer of a prompt, in ms", 0.0, 0.0, 100.0),
        },
        source="Jiang et al. 2024, MInference, arXiv:2407.02490; DeepSeek-AI 2025, DeepSeek-V3.2 (DSA), arXiv:2512.02556",
        limits="kernels are as fast as dense ones on what is left unless told: padded=2.8,choose=1.1 are MInference's on an A100",
        checked="compared with data: prompt times of MInference with those, fitted on another model's table (docs/techniques.md)",
        refuses=lambda model, device: keeps_no_cache(model),
        prefill=_sparse,
        decode=_sparse,
    ),
    "triangle-attention": Technique(
        title="Triangle attention: in deep layers a prompt's queries see the first and the nearest tokens, its last ones all",
        parameters={
            "tokens": Parameter("tokens that a query sees at most", 520.0, 1.0, whole=True),
            "last": Parameter("queries at the end that see all", 128.0, 0.0, whole=True),
            "layers": Parameter("share of the layers, the deep ones", 0.5, 0.0, 1.0),
            "padded": Parameter("pairs that the kernel computes for each one wanted; StreamingLLM's", 3.2, 1.0, 64.0),
        },
        source="He et al. 2025, TriangleMix, arXiv:2507.21526",
        limits="a token of the answer attends to everything; prompts in pieces are not told",
        checked="compared with data: prompt times of one model from 32 k to 128 k tokens (evidence check on techniques)",
        refuses=lambda model, device: keeps_no_cache(model),
        prefill=_triangle,
        anew=True,  # before what else makes attention sparse, which leaves those layers alone
    ),
    "kv-prediction": Technique(
        title="KV prediction: a smaller model reads the prompt, linear maps fill the cache",
        parameters={"auxiliary": Parameter("the smaller model", text=True)},
        source="Horton et al. 2024, KV Prediction for Improved Time to First Token, arXiv:2410.08391",
        limits="what the answer loses in quality is not told",
        unserved="a prompt passes through another model than the tokens that share its step",
        checked="identity: ratios of FLOPs of OpenELM models (study kv-prediction)",
        prefill=_read_by_another,
        anew=True,
        weights=lambda s, given: model_bytes(s, generator("kv-prediction", given["auxiliary"])),
    ),
}
