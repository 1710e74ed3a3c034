"""Dense decoders of the Llama kind: grouped-query attention, then a gated feed-forward part.

Each family is a row of `TRAITS`: what sets it apart from Llama. Sources: the modelling code of the `model_type` in
huggingface/transformers (v4.57) and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    Family,
    everywhere,
    grouped_heads,
    heads,
    stack,
    tied,
    transformer,
    windows,
)
from waferline.workloads.spec import Attention, Block, FeedForward, Ffn, Transformer


@dataclass(frozen=True, slots=True)
class Traits:
    """How a family differs from Llama. A bias is a fixed truth or the key that tells, with its default."""

    qkv_bias: bool | tuple[str, bool] = False
    out_bias: bool | tuple[str, bool] = False
    mlp_bias: bool | tuple[str, bool] = False
    head_bias: bool | tuple[str, bool] = False
    gated: bool = True
    norm_bias: bool = False
    norm_weight: bool = True
    norms: int = 2
    parallel: bool = False
    qk_norm: bool | tuple[str, bool] = False
    qk_norm_full: bool = False
    inner_norm: bool = False
    sinks: bool = False
    tied: bool = False
    sliding: Callable[[int], bool] | None = everywhere  # which layers use `sliding_window` without `layer_types`
    kv_heads: tuple[str, ...] = ()


def told(c: ConfigReader, bias: bool | tuple[str, bool]) -> bool:
    return bias if isinstance(bias, bool) else c.flag(bias[1], bias[0])


def base_attention(c: ConfigReader, t: Traits, hidden: int) -> Attention:
    """The attention of a layer before any window is set."""
    queries, width = heads(c, hidden)
    return Attention(
        heads=queries,
        kv_heads=grouped_heads(c, queries, *t.kv_heads),
        head_dim=width,
        qkv_bias=told(c, t.qkv_bias),
        out_bias=told(c, t.out_bias),
        qk_norm=told(c, t.qk_norm),
        qk_norm_full=t.qk_norm_full,
        inner_norm=t.inner_norm,
        sinks=t.sinks,
    )


def assemble(c: ConfigReader, t: Traits, ffns: list[Ffn], hidden: int, extra_params: int = 0) -> Transformer:
    """A decoder of one feed-forward part per entry of `ffns`, with the attention of `t`."""
    attention = base_attention(c, t, hidden)
    spans = windows(c, len(ffns), t.sliding) if t.sliding else [None] * len(ffns)
    layers = (
        Block(count=1, mixer=replace(attention, window=span), ffn=ffn, norms=t.norms, parallel=t.parallel)
        for span, ffn in zip(spans, ffns, strict=True)
    )
    return transformer(
        c,
        hidden_size=hidden,
        blocks=stack(layers),
        tied_embeddings=tied(c, t.tied),
        norm_bias=t.norm_bias,
        norm_weight=t.norm_weight,
        head_bias=told(c, t.head_bias),
        extra_params=extra_params,
    )


def dense(c: ConfigReader, t: Traits) -> Transformer:
    """A decoder whose layers all have the same dense feed-forward part."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    ffn = FeedForward(
        intermediate=c.size(*INTERMEDIATE), gated=t.gated, bias=told(c, t.mlp_bias), inner_norm=t.inner_norm
    )
    return assemble(c, t, [ffn] * layers, hidden)


def _qwen2(c: ConfigReader, t: Traits) -> Transformer:
    """Qwen2 ships a `sliding_window` that is off unless `use_sliding_window` says otherwise."""
    if not c.flag(False, "use_sliding_window"):
        t = replace(t, sliding=None)
    else:
        first = c.size_or(0, "max_window_layers", least=0)
        t = replace(t, sliding=lambda layer: layer >= first)
    return dense(c, t)


def _gemma3(c: ConfigReader, t: Traits) -> Transformer:
    """Five local layers, then a global one (Gemma 3 report, section 2)."""
    pattern = c.size_or(6, "sliding_window_pattern")
    return dense(c, replace(t, sliding=lambda layer: (layer + 1) % pattern != 0))


def _qwen1(c: ConfigReader) -> Transformer:
    """Qwen (first generation) writes twice the width of each gated projection."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    ffn = FeedForward(intermediate=c.size("intermediate_size") // 2)
    return assemble(c, Traits(qkv_bias=True), [ffn] * layers, hidden)


def _chatglm(c: ConfigReader) -> Transformer:
    """ChatGLM2/3 and GLM-4: grouped queries under names of their own."""
    hidden, layers = c.size("hidden_size"), c.layers("num_layers", "num_hidden_layers")
    queries = c.size("num_attention_heads")
    shared = c.flag(False, "multi_query_attention")
    attention = Attention(
        heads=queries,
        kv_heads=c.size("multi_query_group_num") if shared else queries,
        head_dim=c.size_or(hidden // queries, "kv_channels"),
        qkv_bias=c.flag(False, "add_bias_linear") or c.flag(False, "add_qkv_bias"),
    )
    ffn = FeedForward(intermediate=c.size("ffn_hidden_size"), bias=c.flag(False, "add_bias_linear"))
    return transformer(
        c,
        hidden_size=hidden,
        blocks=(Block(count=layers, mixer=attention, ffn=ffn),),
        vocab_size=c.size("padded_vocab_size", "vocab_size"),
        tied_embeddings=tied(c, False),
    )


def _deci(c: ConfigReader) -> Transformer:
    """DeciLM: Llama with a number of key/value heads for each layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    per_layer = c.items("num_key_value_heads_per_layer", length=layers)
    if per_layer is None:
        return dense(c, TRAITS["llama"])
    ffn = FeedForward(intermediate=c.size(*INTERMEDIATE))
    groups = [ConfigReader({"num_key_value_heads": n}, c.where) for n in per_layer]
    blocks = (Block(count=1, mixer=Attention(queries, grouped_heads(g, queries), width), ffn=ffn) for g in groups)
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


_ALL = ("attention_bias", False)
_LLAMA = Traits(qkv_bias=_ALL, out_bias=_ALL, mlp_bias=("mlp_bias", False), sliding=None)
_PLAIN = Traits()
_GEMMA = Traits(qkv_bias=_ALL, out_bias=_ALL, tied=True, sliding=None)
_PHI = Traits(
    qkv_bias=True, out_bias=True, mlp_bias=True, head_bias=True, gated=False, norm_bias=True, norms=1, parallel=True
)

TRAITS: dict[str, Traits] = {
    "llama": _LLAMA,
    "aquila": _LLAMA,
    "baichuan": _PLAIN,
    "bitnet": replace(_LLAMA, inner_norm=True, tied=True),
    "cohere": Traits(qkv_bias=_ALL, out_bias=_ALL, norms=1, parallel=True, tied=True, sliding=None),
    "exaone4": Traits(qk_norm=True, sliding=lambda layer: (layer + 1) % 4 != 0),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, sliding=lambda layer: layer % 2 == 0),
    "glm": replace(_PLAIN, qkv_bias=("attention_bias", False)),
    "glm4": replace(_PLAIN, qkv_bias=("attention_bias", False), norms=4),
    "granite": _LLAMA,
    "internlm": Traits(qkv_bias=("bias", True), out_bias=("bias", True), sliding=None),
    "internlm2": Traits(qkv_bias=("bias", False), out_bias=("bias", False), sliding=None),
    "mistral": _PLAIN,
    "mistral3_text": _PLAIN,
    "ministral": _PLAIN,
    "nemotron": replace(_LLAMA, gated=False, norm_bias=True),
    "olmo": replace(_LLAMA, norm_weight=False),
    "olmo2": replace(_LLAMA, qk_norm_full=True),
    "olmo3": Traits(qkv_bias=_ALL, out_bias=_ALL, qk_norm_full=True, sliding=lambda layer: (layer + 1) % 4 != 0),
    "phi": replace(_PHI, sliding=None),
    "phi3": _PLAIN,
    "qwen3": Traits(qkv_bias=_ALL, out_bias=_ALL, qk_norm=True, sliding=None),
    "seed_oss": Traits(
        qkv_bias=("attention_bias", True), out_bias=("attention_out_bias", False), mlp_bias=("mlp_bias", False)
    ),
    "smollm3": replace(_LLAMA, tied=True),
    "stablelm": Traits(qkv_bias=("use_qkv_bias", False), norm_bias=True, sliding=None),
    "starcoder2": Traits(
        qkv_bias=("use_bias", True),
        out_bias=("use_bias", True),
        mlp_bias=("use_bias", True),
        gated=False,
        norm_bias=True,
        tied=True,
    ),
}

FAMILIES: dict[str, Family] = {
    **{name: partial(dense, t=traits) for name, traits in TRAITS.items()},
    "qwen2": partial(_qwen2, t=Traits(qkv_bias=True, tied=False)),
    "gemma3_text": partial(_gemma3, t=replace(_GEMMA, norms=4, qk_norm=True)),
    "qwen": _qwen1,
    "chatglm": _chatglm,
    "deci": _deci,
}
