"""Dense decoders of the Llama kind: grouped-query attention, then a gated feed-forward part.

Each family is a row of `TRAITS`: what sets it apart from Llama. Sources: the modelling code of the `model_type` in
huggingface/transformers (v5.24) and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.context import trained_context
from waferline.workloads.counts import multi_token_prediction
from waferline.workloads.families.common import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    Family,
    every,
    everywhere,
    grouped_heads,
    heads,
    stack,
    tied,
    transformer,
    windows,
)
from waferline.workloads.spec import Attention, Block, FeedForward, Ffn, Transformer

Told = (
    bool | tuple[Any, ...] | Callable[[ConfigReader], bool]
)  # a truth, keys that tell with their default last, or a rule


@dataclass(frozen=True, slots=True)
class Traits:
    """How a family differs from Llama."""

    qkv_bias: Told = False
    out_bias: Told = False
    mlp_bias: Told = False
    head_bias: Told = False
    gated: bool = True
    norm_bias: bool = False
    norm_weight: bool = True
    norms: int = 2
    final_norm: bool = True
    parallel: bool = False
    qk_norm: Told = False
    qk_norm_full: Told = False
    inner_norm: bool = False
    output_gate: Told = False
    head_gate: Told = False
    sinks: bool = False
    tied: bool = False
    sliding: Callable[[int], bool] | None = everywhere  # which layers use `sliding_window` where the file does not say
    side: Callable[[Attention, int], int] | None = None  # further parameters of a layer, from its attention and width
    more: int = 0  # further parameters of the model, in widths of it


def told(c: ConfigReader, bias: Told) -> bool:
    if callable(bias):
        return bias(c)
    return bias if isinstance(bias, bool) else c.flag(bias[-1], *bias[:-1])


def base_attention(c: ConfigReader, t: Traits, hidden: int) -> Attention:
    """The attention of a layer before any window is set."""
    queries, width = heads(c, hidden)
    return Attention(
        heads=queries,
        kv_heads=grouped_heads(c, queries),
        head_dim=width,
        qkv_bias=told(c, t.qkv_bias),
        out_bias=told(c, t.out_bias),
        qk_norm=told(c, t.qk_norm),
        qk_norm_full=told(c, t.qk_norm_full),
        inner_norm=t.inner_norm,
        output_gate=told(c, t.output_gate),
        head_gate=told(c, t.head_gate),
        sinks=t.sinks,
    )


def attentions(c: ConfigReader, t: Traits, hidden: int, count: int) -> list[Attention]:
    """The attention of each layer, with its window."""
    attention = base_attention(c, t, hidden)
    spans = windows(c, count, t.sliding) if t.sliding else [None] * count
    return [replace(attention, window=span) for span in spans]


def assemble(
    c: ConfigReader,
    t: Traits,
    ffns: Sequence[Ffn | None],
    hidden: int,
    mixers: Sequence[Attention] | None = None,
    **fields: Any,
) -> Transformer:
    """A decoder of one feed-forward part per entry of `ffns`, with the attention of `t` (or those given)."""
    mixers = attentions(c, t, hidden, len(ffns)) if mixers is None else mixers
    layers = (
        Block(
            count=1,
            mixer=mixer,
            ffn=ffn,
            norms=t.norms,
            parallel=t.parallel,
            side=t.side(mixer, hidden) if t.side else 0,
        )
        for mixer, ffn in zip(mixers, ffns, strict=True)
    )
    usual: dict[str, Any] = {
        "tied_embeddings": tied(c, t.tied),
        "norm_bias": t.norm_bias,
        "norm_weight": t.norm_weight,
        "final_norm": t.final_norm,
        "head_bias": told(c, t.head_bias),
        "position_params": t.more * hidden,
    }
    return transformer(c, hidden_size=hidden, blocks=stack(layers), **(usual | fields))


def dense(c: ConfigReader, t: Traits) -> Transformer:
    """A decoder whose layers all have the same dense feed-forward part."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    ffn = FeedForward(
        intermediate=c.size(*INTERMEDIATE), gated=t.gated, bias=told(c, t.mlp_bias), inner_norm=t.inner_norm
    )
    return assemble(c, t, [ffn] * layers, hidden)


def _gemma3(c: ConfigReader, t: Traits) -> Transformer:
    """Five local layers, then a global one (Gemma 3 report, section 2); the positions hold the scaling's factor."""
    positions, rule = trained_context(c, stretched=True)
    return replace(dense(c, t), max_positions=positions, context_rule=rule)


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
    if c.said("multi_query_group_num"):
        c.assume("multi_query_attention", "off")
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


def _hyperclova(c: ConfigReader) -> Transformer:
    """HyperCLOVA X: Granite's multipliers, and two more norms a layer unless `use_post_norm` is off."""
    return dense(c, replace(_LLAMA, norms=4 if c.flag(True, "use_post_norm") else 2))


def _doge(c: ConfigReader) -> Transformer:
    """Doge: a dynamic mask from the values, learned scales on the residuals; its mixtures are looked up by product keys."""
    if c.flag(False, "is_moe"):
        raise UnsupportedError("Doge's cross-domain mixture of experts is not supported", where=c.where)
    side = lambda a, hidden: 2 * hidden + a.kv_heads * (1 + a.kv_heads * a.head_dim)  # noqa: E731
    return dense(c, replace(_LLAMA, qk_norm=True, side=side))


def _mimo(c: ConfigReader) -> Transformer:
    """MiMo-7B: Qwen2 with modules that predict further tokens, not used in a plain forward pass."""
    model = dense(c, Traits(qkv_bias=("attention_bias", True)))
    modules = c.size_or(0, "num_nextn_predict_layers", least=0)
    return replace(model, extra_params=modules * multi_token_prediction(model.blocks[-1], model.hidden_size))


_BIAS = ("attention_bias", False)
_MLP_BIAS = ("mlp_bias", False)
_LLAMA = Traits(qkv_bias=_BIAS, out_bias=_BIAS, mlp_bias=_MLP_BIAS, sliding=None)
_PLAIN = Traits()
_GEMMA = Traits(qkv_bias=_BIAS, out_bias=_BIAS, tied=True, sliding=None)
_PHI = Traits(
    qkv_bias=True, out_bias=True, mlp_bias=True, head_bias=True, gated=False, norm_bias=True, norms=1, parallel=True
)
_COHERE = Traits(
    qkv_bias=_BIAS, out_bias=_BIAS, qk_norm_full=("use_qk_norm", False), norms=1, parallel=True, tied=True, sliding=None
)
_STARCODER = ("use_bias", True)
_FIRST_OF_FOUR: Callable[[int], bool] = lambda layer: layer % 4 != 0  # noqa: E731
_ACTIVATION: Callable[[Attention, int], int] = lambda a, hidden: 2  # noqa: E731  xIELU's two scalars

TRAITS: dict[str, Traits] = {
    "llama": _LLAMA,
    "apertus": Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True, gated=False, sliding=None, side=_ACTIVATION),
    "apertus1p5_text": Traits(
        qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True, gated=False, sliding=None, side=_ACTIVATION
    ),
    "aquila": _LLAMA,
    "arcee": replace(_LLAMA, gated=False),
    "baichuan": _PLAIN,
    "bitnet": replace(_LLAMA, inner_norm=True, tied=True),
    "cohere": _COHERE,
    "cohere2": replace(_COHERE, qk_norm_full=False, sliding=every(4)),
    "cwm": Traits(mlp_bias=_MLP_BIAS, sliding=_FIRST_OF_FOUR),
    "diffllama": replace(_LLAMA, side=lambda a, hidden: 4 * a.head_dim),
    "ernie4_5": Traits(
        qkv_bias=("use_bias", False),
        out_bias=("use_bias", False),
        mlp_bias=("use_bias", False),
        tied=True,
        sliding=None,
    ),
    "exaone": _LLAMA,
    "exaone4": Traits(qk_norm=True, sliding=every(4)),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, sliding=lambda layer: layer % 2 == 0),
    "vaultgemma": replace(_GEMMA, sliding=lambda layer: layer % 2 == 0),
    "glm": replace(_PLAIN, qkv_bias=_BIAS),
    "glm4": replace(_PLAIN, qkv_bias=_BIAS, norms=4),
    "granite": _LLAMA,
    "granite_swa": replace(_LLAMA, sinks=True, sliding=_FIRST_OF_FOUR),
    "helium": _LLAMA,
    "hunyuan_v1_dense": replace(_LLAMA, qk_norm=("use_qk_norm", True)),
    "internlm": Traits(qkv_bias=("bias", True), out_bias=("bias", True), sliding=None),
    "internlm2": Traits(qkv_bias=("bias", False), out_bias=("bias", False), sliding=None),
    "internlm3": Traits(
        qkv_bias=("qkv_bias", "attention_bias", False),
        out_bias=("bias", "mlp_bias", False),
        mlp_bias=("bias", "mlp_bias", False),
        sliding=None,
    ),
    "iquestcoder": _LLAMA,
    "jais2": Traits(
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        mlp_bias=("mlp_bias", True),
        gated=False,
        norm_bias=True,
        sliding=None,
    ),
    "minicpm": replace(_LLAMA, tied=True),
    "mistral": _PLAIN,
    "ministral": _PLAIN,
    "ministral3": replace(_PLAIN, sliding=None),
    "nanochat": Traits(qkv_bias=_BIAS, out_bias=_BIAS, gated=False, norm_weight=False, sliding=None),
    "nemotron": replace(_LLAMA, gated=False, norm_bias=True),
    "olmo": replace(_LLAMA, norm_weight=False),
    "olmo2": replace(_LLAMA, qk_norm_full=True),
    "olmo3": Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm_full=True, sliding=every(4)),
    "orion": replace(_LLAMA, norm_bias=True),
    "persimmon": Traits(
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated=False,
        norm_bias=True,
        sliding=None,
        side=lambda a, hidden: 4 * a.head_dim,  # LayerNorm of queries and keys
    ),
    "phi": replace(_PHI, sliding=None),
    "phi3": _PLAIN,
    "qwen2": Traits(qkv_bias=True),
    "qwen3": Traits(qkv_bias=_BIAS, out_bias=_BIAS, qk_norm=True),
    "seed_oss": Traits(qkv_bias=("attention_bias", True), out_bias=("attention_out_bias", False), mlp_bias=_MLP_BIAS),
    "smollm3": replace(_LLAMA, tied=True),
    "stablelm": Traits(qkv_bias=("use_qkv_bias", False), norm_bias=True, sliding=None),
    "starcoder2": Traits(
        qkv_bias=_STARCODER, out_bias=_STARCODER, mlp_bias=_STARCODER, gated=False, norm_bias=True, tied=True
    ),
    "xverse": _LLAMA,
}

FAMILIES: dict[str, Family] = {
    **{name: partial(dense, t=traits) for name, traits in TRAITS.items()},
    "gemma3_text": partial(_gemma3, t=replace(_GEMMA, norms=4, qk_norm=True, sliding=every(6))),
    "hyperclovax": _hyperclova,
    "doge": _doge,
    "mimo": _mimo,
    "qwen": _qwen1,
    "chatglm": _chatglm,
}
