"""What kind of model a GGUF file holds, from its metadata alone: the sizes, and what an architecture's name implies beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from waferline.errors import FileFormatError, UnsupportedError
from waferline.kernels.cpu.elementwise import Rope

NORMS = ("attn", "attn_out", "ffn", "ffn_out")  # of a layer: before and after attention, before and after its network


@dataclass(frozen=True, slots=True)
class Family:
    """What an architecture name implies beyond its metadata (llama.cpp, src/models and `llama_model_rope_type`).

    norms: the tensor of each of `NORMS`, empty for none. period: of so many layers the last sees everything and the others a
    window; 0: all see everything. local_base: rotary base of layers with a window, None for that of the others.
    """

    halves: bool  # rotary pairs are (i, i + d/2), not (2i, 2i + 1)
    norms: tuple[str, str, str, str] = ("attn_norm", "", "ffn_norm", "")
    qk_norms: bool = (
        False  # RMSNorm on queries and keys: of each head, or of all together where the vectors are that long
    )
    renormalise: bool = True  # the weights of the chosen experts are made to sum to one
    activation: str = "silu"
    period: int = 0
    local_base: float | None = None
    local_scaled: bool = True  # rotary scaling holds for layers with a window, too
    root_embedding: bool = False  # embeddings are multiplied by the root of their width
    wide_scale: int = 0  # the model of so many layers scales queries by its width, not by that of its heads
    caps: tuple[float, float] = (0.0, 0.0)  # of scores and of logits where the file does not say
    window: int = 0  # likewise


_SANDWICH = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
_GEMMA = Family(halves=True, activation="gelu", root_embedding=True)
FAMILIES: dict[str, Family] = {
    "llama": Family(halves=False),  # Llama, Mistral, Mixtral, TinyLlama, SmolLM, ...
    "qwen2": Family(halves=True),
    "qwen3": Family(halves=True, qk_norms=True),
    "qwen2moe": Family(halves=True, renormalise=False),
    "qwen3moe": Family(halves=True, qk_norms=True),
    "olmo2": Family(  # OLMo 3, too
        halves=True, norms=("", "post_attention_norm", "", "post_ffw_norm"), qk_norms=True, period=4, local_scaled=False
    ),
    "olmoe": Family(halves=True, qk_norms=True, renormalise=False),
    "granite": Family(halves=False),
    "granitemoe": Family(halves=False),
    "phi3": Family(halves=True),  # its window is not used, as llama.cpp does not: the files do not say in which layers
    "seed_oss": Family(halves=True, norms=("attn_norm", "", "post_attention_norm", "")),
    "gpt-oss": Family(
        halves=True, norms=("attn_norm", "", "post_attention_norm", ""), activation="clamped", period=2, window=128
    ),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=_SANDWICH, period=2, wide_scale=46, caps=(50.0, 30.0), window=4096),
    "gemma3": replace(
        _GEMMA, norms=_SANDWICH, qk_norms=True, period=6, local_base=1e4, local_scaled=False, wide_scale=62
    ),
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
    ropes: tuple[Rope, Rope]  # of layers that see everything, of layers with a window
    windows: tuple[int, ...]  # tokens that a layer sees, 0 for all
    score_scale: float
    family: Family
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    score_cap: float = 0.0
    logit_cap: float = 0.0

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def rotated(self) -> int:
        return self.ropes[0].rotated


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
        """A number above zero; the default may be 0, for none."""
        value = self.values.get(f"{self.prefix}.{key}")
        if value is None:
            return default
        if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise FileFormatError(f"{self.prefix}.{key} is {value!r}", where=self.where)
        return float(value)

    def windows(self, family: Family, layers: int) -> tuple[int, ...]:
        """What each layer sees: the file's pattern, as a period or as a flag a layer, or the family's."""
        window = self.size("attention.sliding_window", family.window) if family.period else 0
        pattern = self.values.get(f"{self.prefix}.attention.sliding_window_pattern", family.period)
        if isinstance(pattern, list):
            if len(pattern) != layers or not all(isinstance(local, bool) for local in pattern):
                raise FileFormatError(f"a pattern of windows for {layers} layers is {pattern!r}", where=self.where)
            return tuple(window if local else 0 for local in pattern)
        if not isinstance(pattern, int) or not 0 <= pattern <= layers + 64:
            raise FileFormatError(f"a pattern of windows is {pattern!r}", where=self.where)
        return tuple(window if pattern and i % pattern < pattern - 1 else 0 for i in range(layers))

    def ropes(self, family: Family, rotated: int, context: int) -> tuple[Rope, Rope]:
        """Rotary positions of layers that see everything, and of those with a window."""
        base = self.number("rope.freq_base", 10000.0)
        kind = self.values.get(f"{self.prefix}.rope.scaling.type", "none")
        plain = Rope(rotated, base)
        far = plain
        if kind == "linear":
            far = Rope(rotated, base, scale=1.0 / self.number("rope.scaling.factor", 1.0))
        elif kind == "yarn":
            far = Rope(
                rotated,
                base,
                scale=1.0 / self.number("rope.scaling.factor", 1.0),
                trained=self.size("rope.scaling.original_context_length", context),
                magnitude=self.number("rope.scaling.attn_factor", 1.0),
                fast=self.number("rope.scaling.yarn_beta_fast", 32.0),
                slow=self.number("rope.scaling.yarn_beta_slow", 1.0),
            )
        elif kind == "longrope":  # factors come as tensors
            far = Rope(
                rotated,
                base,
                trained=self.size("rope.scaling.original_context_length", context),
                magnitude=self.number("rope.scaling.attn_factor", 1.0),
                by_length=True,
            )
        elif kind != "none":
            raise UnsupportedError(
                f"rotary scaling '{kind}' is not computed", where=self.where, hint="none, linear, yarn, longrope"
            )
        near = far if family.local_scaled else plain
        local = self.number("rope.freq_base_swa", family.local_base or near.base)
        return far, near.with_base(local)


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
    meta, family = _Metadata(values, name, where), FAMILIES[name]
    d_model, heads, layers = (meta.size(k) for k in ("embedding_length", "attention.head_count", "block_count"))
    if heads < 1 or d_model < 1:
        raise FileFormatError(f"{heads} heads of a model {d_model} wide", where=where)
    head_dim = meta.size("attention.key_length", d_model // heads)
    experts, ffn, context = (
        meta.size("expert_count", 0),
        meta.size("feed_forward_length", 0),
        meta.size("context_length"),
    )
    scaled = d_model // heads if family.wide_scale == layers else head_dim
    config = ModelConfig(
        architecture=name,
        layers=layers,
        d_model=d_model,
        heads=heads,
        kv_heads=meta.size("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=ffn,
        vocabulary=vocabulary,
        context=context,
        rms_eps=meta.number("attention.layer_norm_rms_epsilon", 1e-5),
        ropes=meta.ropes(family, meta.size("rope.dimension_count", head_dim), context),
        windows=meta.windows(family, layers),
        score_scale=meta.number("attention.scale", max(scaled, 1) ** -0.5),
        family=family,
        experts=experts,
        experts_used=meta.size("expert_used_count", 0) if experts else 0,
        expert_ffn=meta.size("expert_feed_forward_length", ffn) if experts else 0,
        shared_ffn=meta.size("expert_shared_feed_forward_length", 0) if experts else 0,
        embedding_scale=meta.number("embedding_scale", d_model**0.5 if family.root_embedding else 1.0),
        residual_scale=meta.number("residual_scale", 1.0),
        logit_scale=1.0 / meta.number("logit_scale", 1.0),
        score_cap=meta.number("attn_logit_softcapping", family.caps[0]),
        logit_cap=meta.number("final_logit_softcapping", family.caps[1]),
    )
    _check(config, meta.size("attention.value_length", head_dim), where)
    return config


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
