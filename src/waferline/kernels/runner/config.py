"""What kind of Llama-family model a GGUF file holds, from its metadata alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from waferline.errors import FileFormatError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Family:
    """What an architecture name implies beyond its metadata (llama.cpp, src/models)."""

    halves: bool  # rotary pairs are (i, i + d/2), not (2i, 2i + 1)
    head_norms: bool = False  # RMSNorm on each query and key head
    renormalise: bool = True  # the weights of the chosen experts are made to sum to one


FAMILIES: dict[str, Family] = {
    "llama": Family(halves=False),  # Llama, Mistral, Mixtral, TinyLlama, SmolLM, ...
    "qwen2": Family(halves=True),
    "qwen3": Family(halves=True, head_norms=True),
    "qwen2moe": Family(halves=True, renormalise=False),
    "qwen3moe": Family(halves=True, head_norms=True),
}

# Sizes above these are corrupt metadata, not models.
_MOST = {"block_count": 4096, "head_count": 65536, "context_length": 1 << 28, "expert_count": 65536}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a model. Lengths are elements; `ffn` and `expert_ffn` are hidden widths of one (expert's) network."""

    architecture: str
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    context: int
    rms_eps: float
    rope_base: float
    rope_scale: float
    rotated: int
    family: Family
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim


class _Metadata:
    """Typed, checked access to `<architecture>.<key>`."""

    def __init__(self, values: Mapping[str, Any], prefix: str, where: str) -> None:
        self.values, self.prefix, self.where = values, prefix, where

    def size(self, key: str, default: int | None = None) -> int:
        value = self.values.get(f"{self.prefix}.{key}", default)
        if isinstance(value, list) and value and len(set(map(str, value))) == 1:
            value = value[0]  # some files repeat one number per layer
        if isinstance(value, list):
            raise UnsupportedError(f"layers that differ in {key}", where=self.where)
        if value is None:
            raise FileFormatError(f"metadata lacks {self.prefix}.{key}", where=self.where)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST.get(key, 1 << 24):
            raise FileFormatError(f"{self.prefix}.{key} is {value!r}", where=self.where)
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(f"{self.prefix}.{key}", default)
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise FileFormatError(f"{self.prefix}.{key} is {value!r}", where=self.where)
        return float(value)


def read_config(values: Mapping[str, Any], vocabulary: int, where: str) -> ModelConfig:
    """The configuration in GGUF metadata (plain values by key). `vocabulary`: rows of the embedding.

    Raises `UnsupportedError` for an architecture outside `FAMILIES` or a rotary scaling that is not computed,
    `FileFormatError` for missing or impossible values.
    """
    name = values.get("general.architecture")
    if not isinstance(name, str):
        raise FileFormatError("metadata lacks general.architecture", where=where)
    if name not in FAMILIES:
        raise UnsupportedError(f"architecture '{name}' is not run", where=where, hint="run: " + ", ".join(FAMILIES))
    meta = _Metadata(values, name, where)
    d_model, heads = meta.size("embedding_length"), meta.size("attention.head_count")
    if heads < 1 or d_model < 1:
        raise FileFormatError(f"{heads} heads of a model {d_model} wide", where=where)
    head_dim = meta.size("attention.key_length", d_model // heads)
    experts = meta.size("expert_count", 0)
    ffn = meta.size("feed_forward_length", 0)
    config = ModelConfig(
        architecture=name,
        layers=meta.size("block_count"),
        d_model=d_model,
        heads=heads,
        kv_heads=meta.size("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=ffn,
        vocabulary=vocabulary,
        context=meta.size("context_length"),
        rms_eps=meta.number("attention.layer_norm_rms_epsilon", 1e-5),
        rope_base=meta.number("rope.freq_base", 10000.0),
        rope_scale=_rope_scale(meta),
        rotated=meta.size("rope.dimension_count", head_dim),
        family=FAMILIES[name],
        experts=experts,
        experts_used=meta.size("expert_used_count", 0) if experts else 0,
        expert_ffn=meta.size("expert_feed_forward_length", ffn) if experts else 0,
        shared_ffn=meta.size("expert_shared_feed_forward_length", 0) if experts else 0,
    )
    _check(config, meta.size("attention.value_length", head_dim), where)
    return config


def _rope_scale(meta: _Metadata) -> float:
    kind = meta.values.get(f"{meta.prefix}.rope.scaling.type", "none")
    if kind == "none":
        return 1.0
    if kind == "linear":
        return 1.0 / meta.number("rope.scaling.factor", 1.0)
    raise UnsupportedError(
        f"rotary scaling '{kind}' is not computed", where=meta.where, hint="none, linear, rope_freqs"
    )


def _check(c: ModelConfig, value_length: int, where: str) -> None:
    wrong = {
        "no layers": c.layers < 1,
        "no context": c.context < 1,
        f"{c.heads} heads for {c.kv_heads} key heads": c.kv_heads < 1 or c.heads % max(c.kv_heads, 1) != 0,
        f"rotary over {c.rotated} of {c.head_dim} elements": c.rotated % 2 != 0 or not 0 < c.rotated <= c.head_dim,
        f"{c.experts_used} of {c.experts} experts": not 0 <= c.experts_used <= c.experts
        or (c.experts > 0) != (c.experts_used > 0),
        "no feed-forward width": max(c.ffn, c.expert_ffn) < 1,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise FileFormatError(f"impossible metadata: {what}", where=where)
    if value_length != c.head_dim:
        raise UnsupportedError(f"values of {value_length} elements with keys of {c.head_dim}", where=where)
