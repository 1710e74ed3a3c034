"""Decoders with linear attention and other recurrences: Qwen3-Next and 3.5, OLMo Hybrid, Kimi Linear, Ling 2.5, MiniMax-01,
LFM2, RecurrentGemma, RWKV, xLSTM.

Sources: gated delta networks (arXiv:2412.06464), Kimi Linear (arXiv:2510.26692), MiniMax-01 (arXiv:2501.08313), Griffin
(arXiv:2402.19427), RWKV-4 (arXiv:2305.13048), RWKV-7 (arXiv:2503.14456), xLSTM 7B (arXiv:2503.13427) and the modelling code
of the named `model_type` in huggingface/transformers (v5.24; RWKV-7: fla-org/flash-linear-attention).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import MAX_SIZE, ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    LAYERS,
    Family,
    grouped_heads,
    heads,
    self_attention,
    stack,
    tied,
    transformer,
    windows,
)
from waferline.workloads.families.latent import latent_attention
from waferline.workloads.families.mixture import Mix, ffns, has_experts, router_bias
from waferline.workloads.spec import (
    Attention,
    Block,
    FeedForward,
    Ffn,
    LinearAttention,
    Mixer,
    MixtureOfExperts,
    Recurrent,
    Transformer,
)


def _model(
    c: ConfigReader, hidden: int, mixers: Sequence[Mixer], parts: Sequence[Ffn], *, tie: bool = False, norms: int = 2
) -> Transformer:
    blocks = (Block(count=1, mixer=m, ffn=f, norms=norms) for m, f in zip(mixers, parts, strict=True))
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, tie))


def _full(c: ConfigReader, layers: int, period: int) -> list[bool]:
    """Which layers attend to everything: `layer_types`, else every `full_attention_interval`-th."""
    kinds = c.kinds({*_FULL, "linear_attention"}, "layer_types", length=layers)
    every = c.size_or(period, "full_attention_interval", "layer_group_size")
    return [k in _FULL for k in kinds] if kinds else [(i + 1) % every == 0 for i in range(layers)]


_FULL = ("full_attention", "attention", "sliding_attention", "indexed_attention")


def _delta(c: ConfigReader, key_heads: int | None = None, key_dim: int | None = None) -> LinearAttention:
    """The gated delta rule under Qwen3-Next's keys."""
    groups = c.size("linear_num_key_heads") if key_heads is None else c.size_or(key_heads, "linear_num_key_heads")
    width = c.size("linear_key_head_dim") if key_dim is None else c.size_or(key_dim, "linear_key_head_dim")
    return LinearAttention(
        key_heads=groups,
        value_heads=c.size("linear_num_value_heads")
        if key_heads is None
        else c.size_or(groups, "linear_num_value_heads"),
        key_dim=width,
        value_dim=c.size("linear_value_head_dim") if key_dim is None else c.size_or(2 * width, "linear_value_head_dim"),
        conv_kernel=c.size_or(4, "linear_conv_kernel_dim"),
    )


def _qwen3_next(c: ConfigReader) -> Transformer:
    """Qwen3-Next and Qwen3.5: gated delta-rule layers, then a gated full attention every fourth layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    bias = c.flag(False, "attention_bias")
    attention = Attention(
        queries,
        grouped_heads(c, queries),
        width,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        output_gate=c.flag(True, "attn_output_gate"),
    )
    linear = _delta(c)
    mixers = [attention if full else linear for full in _full(c, layers, 4)]
    return _model(c, hidden, mixers, ffns(c, layers, Mix(shared_gate=True)))


def _olmo_hybrid(c: ConfigReader) -> Transformer:
    """OLMo Hybrid: delta-rule layers of twice as wide values, OLMo 2's attention every fourth layer."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    bias = c.flag(False, "attention_bias")
    attention = self_attention(c, hidden, qkv_bias=bias, out_bias=bias, qk_norm_full=True)
    linear = _delta(c, attention.heads, int(0.75 * hidden / attention.heads))
    mixers = [attention if full else linear for full in _full(c, layers, 4)]
    return _model(c, hidden, mixers, [FeedForward(c.size("intermediate_size"))] * layers)


def _kimi_delta(number: int, width: int, kernel: int, hidden: int, full: int) -> Recurrent:
    """Kimi Delta Attention (arXiv:2510.26692, section 3): a decay and a gate for each channel.

    full: how many of the two come of a full matrix (K3: the gate, Ling 2.5: both), not through a bottleneck.
    """
    inner, low = number * width, 2 - full
    return Recurrent(
        inputs=(3 + full) * inner + number + low * width,
        outputs=inner,
        state=inner * width,
        conv_channels=3 * inner,
        conv_kernel=kernel,
        low_rank=low * width * inner,
        small=inner + number + width,
    )


def _kimi_linear(c: ConfigReader) -> Transformer:
    """Kimi Linear: three KDA layers to one of latent attention, DeepSeek's experts.

    K3 has gates, experts in a narrower space with a norm, and residuals that attend to earlier blocks: a norm and a score
    before each part.
    """
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    section = c.section("linear_attn_config")
    linear = section if section is not None else ConfigReader({}, f"{c.where}: linear_attn_config")
    number = linear.optional("num_heads") or c.size("linear_num_heads")
    width = linear.optional("head_dim") or c.size("linear_head_dim")
    kernel = linear.optional("short_conv_kernel_size") or c.size_or(4, "linear_conv_kernel_dim")
    delta = _kimi_delta(number, width, kernel, hidden, int(linear.flag(False, "use_full_rank_gate")))
    listed = linear.items("full_attn_layers")
    if listed is None and not c.said("layer_types"):
        raise InvalidInputError("'linear_attn_config' with 'full_attn_layers' is missing", where=c.where)
    full = _full(c, layers, 4) if listed is None else [i + 1 in listed for i in range(layers)]
    latent = replace(latent_attention(c), full_gate=c.flag(False, "mla_use_output_gate"))
    balanced = router_bias(c) or c.text("", "moe_router_activation_func") == "sigmoid"
    parts = ffns(c, layers, Mix(first=1, router_bias=balanced))
    scores = 4 * hidden if c.optional("attn_res_block_size") else 0
    normed = c.flag(False, "latent_moe_use_norm")
    sides = [scores + normed * ((isinstance(f, MixtureOfExperts) and f.latent) or 0) for f in parts]
    blocks = (
        Block(count=1, mixer=latent if attends else delta, ffn=ffn, side=side)
        for attends, ffn, side in zip(full, parts, sides, strict=True)
    )
    return transformer(c, hidden_size=hidden, blocks=stack(blocks), tied_embeddings=tied(c, False))


def _bailing_hybrid(c: ConfigReader) -> Transformer:
    """Ling and Ring 2.5: KDA with full gates, and a gated latent attention every few layers."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    number, width = c.size("num_attention_heads"), c.size("head_dim")
    delta = _kimi_delta(number, width, c.size_or(4, "short_conv_kernel_size"), hidden, full=2)
    latent = replace(latent_attention(c), head_gate=True)
    full = _full(c, layers, 6)
    return _model(c, hidden, [latent if f else delta for f in full], ffns(c, layers, Mix(first=2)))


def _minimax(c: ConfigReader) -> Transformer:
    """MiniMax-Text-01 and M1: lightning attention, softmax attention every eighth layer; M2 has softmax attention alone.

    M2 calls itself `minimax` in early files: no list of kinds, and norms over all heads of queries and keys.
    """
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    kinds = c.kinds({*_FULL, "linear_attention"}, "layer_types", length=layers)
    flags = c.items("attn_type_list", length=layers)
    full = [kind != "linear_attention" for kind in kinds] if kinds else [bool(flag) for flag in flags or [1] * layers]
    if kinds is None and flags is None and c.get("use_qk_norm") is None:
        c.assume("layer_types", "full_attention and linear_attention in turn")
        full = [(i + 1) % 2 != 0 for i in range(layers)]
    attention = self_attention(c, hidden, qk_norm_full=c.flag(False, "use_qk_norm") and all(full))
    inner = attention.heads * attention.head_dim
    lightning = Recurrent(inputs=4 * inner, outputs=inner, state=inner * attention.head_dim, small=inner)
    return _model(c, hidden, [attention if f else lightning for f in full], ffns(c, layers, Mix(router_bias=all(full))))


def _lfm2(c: ConfigReader) -> Transformer:
    """LFM2: gated short convolutions, and grouped-query attention in some layers."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    numbers = c.indices("full_attn_idxs", layers)
    kinds = c.kinds({*_FULL, "conv"}, "layer_types", length=layers)
    if kinds is not None:
        full = [kind in _FULL for kind in kinds]
    else:
        full = [numbers is None or i in numbers for i in range(layers)]
    if kinds is None and numbers is None:
        c.assume("layer_types", "full_attention alone")
    attention, conv = self_attention(c, hidden, qk_norm=True), _short_conv(c, hidden)
    parts = (
        ffns(c, layers, Mix(router_bias=("use_expert_bias", True), first=2))
        if has_experts(c)
        else [_lfm2_ffn(c)] * layers
    )
    spec = _model(c, hidden, [attention if f else conv for f in full], parts, tie=True)
    return replace(spec, tied_embeddings=c.flag(spec.tied_embeddings, "tie_embedding"))


def _short_conv(c: ConfigReader, hidden: int) -> Recurrent:
    kernel = c.size_or(3, "conv_L_cache")
    biases = c.flag(False, "conv_bias") * 5 * hidden
    return Recurrent(inputs=3 * hidden, outputs=hidden, conv_channels=hidden, conv_kernel=kernel, small=biases)


def _lfm2_ffn(c: ConfigReader) -> FeedForward:
    """LFM2 writes a width that is cut to two thirds, stretched and rounded up (`block_auto_adjust_ff_dim`)."""
    inner = c.size("block_ff_dim", "intermediate_size")
    if c.flag(True, "block_auto_adjust_ff_dim"):
        stretched = int(2 * inner / 3) * c.number(1.0, "block_ffn_dim_multiplier")
        multiple = c.size_or(256, "block_multiple_of")
        if not 1 <= stretched <= MAX_SIZE:
            raise InvalidInputError(f"the feed-forward width comes out as {stretched:g}", where=c.where)
        inner = multiple * math.ceil(int(stretched) / multiple)
    return FeedForward(inner)


def _lfm3(c: ConfigReader) -> Transformer:
    """LFM3: LFM2 with windows in some attention layers, gated heads and norms around each part."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    kinds = c.kinds({"full_attention", "sliding_attention", "conv"}, "layer_types", length=layers) or [
        "full_attention" if i % 4 == 2 else "sliding_attention" if i % 4 == 0 and i > 0 else "conv"
        for i in range(layers)
    ]
    attention = self_attention(c, hidden, qk_norm=True, head_gate=c.flag(True, "use_attention_gate"))
    local, conv = replace(attention, window=c.optional("sliding_window")), _short_conv(c, hidden)
    mixers: list[Mixer] = [{"full_attention": attention, "sliding_attention": local}.get(str(k), conv) for k in kinds]
    norms = 4 if c.flag(True, "use_sandwich_norm") else 2
    return _model(c, hidden, mixers, [FeedForward(c.size("intermediate_size"))] * layers, tie=True, norms=norms)


def _recurrent_gemma(c: ConfigReader) -> Transformer:
    """RecurrentGemma (Griffin): two gated linear recurrences to one attention over a window."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    span = windows(c, 1, lambda layer: True)[0]
    bias = c.flag(False, "attention_bias")
    attention = Attention(queries, grouped_heads(c, queries), width, window=span, qkv_bias=bias, out_bias=True)
    lru = c.size_or(hidden, "lru_width")
    recurrence = Recurrent(
        inputs=2 * lru,
        outputs=lru,
        state=lru,
        conv_channels=lru,
        conv_kernel=c.size_or(4, "conv1d_width"),
        low_rank=2 * lru * lru // queries,  # block-diagonal gates, a block a head
        small=6 * lru + hidden,
    )
    pattern = c.kinds({"recurrent", "attention"}, "block_types", "_block_types") or [
        "recurrent",
        "recurrent",
        "attention",
    ]
    mixers: list[Mixer] = [attention if pattern[i % len(pattern)] == "attention" else recurrence for i in range(layers)]
    return _model(c, hidden, mixers, [FeedForward(c.size("intermediate_size") // 2, bias=True)] * layers, tie=True)


def _rwkv4(c: ConfigReader) -> Transformer:
    """RWKV-4: a recurrence of one number a channel, and a gated channel mix."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    inner = c.size_or(hidden, "attention_hidden_size")
    mixer = Recurrent(inputs=3 * inner, outputs=inner, state=5 * inner, small=2 * inner + 3 * hidden)
    ffn = FeedForward(c.size_or(4 * hidden, "intermediate_size"), gated=False)
    block = Block(count=layers, mixer=mixer, ffn=ffn, side=hidden * hidden + 2 * hidden)  # receptance and token shift
    return transformer(
        c, hidden_size=hidden, blocks=(block,), tied_embeddings=tied(c, False), norm_bias=True, embedding_norm=True
    )


def _rwkv7(c: ConfigReader) -> Transformer:
    """RWKV-7 (arXiv:2503.14456, section 4): a matrix state for each head, decays and gates through bottlenecks."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    width = c.size_or(64, "head_dim")
    inner, values = c.size_or(hidden, "key_dim"), c.size_or(hidden, "value_dim")
    ranks = (
        ("decay_low_rank_dim", inner),
        ("a_low_rank_dim", inner),
        ("gate_low_rank_dim", values),
        ("v_low_rank_dim", values),
    )
    low = sum(c.size(key) * (hidden + out) for key, out in ranks)
    mixer = Recurrent(
        inputs=2 * inner + values,
        outputs=values,
        state=values * width,
        low_rank=low,
        small=6 * hidden + 5 * inner + 4 * values,
    )
    ratio = c.number(4.0, "hidden_ratio")
    wide = c.optional("intermediate_size") or round(ratio * hidden)
    if not 0 < wide <= MAX_SIZE:
        raise InvalidInputError(f"'hidden_ratio' gives a feed-forward width of {wide}", where=c.where)
    block = Block(count=layers, mixer=mixer, ffn=FeedForward(wide, gated=False), side=hidden)
    return transformer(
        c, hidden_size=hidden, blocks=(block,), tied_embeddings=tied(c, False), norm_bias=True, embedding_norm=True
    )


def _xlstm(c: ConfigReader) -> Transformer:
    """xLSTM 7B: matrix-memory LSTM layers and gated feed-forward parts."""
    hidden, layers = c.size("hidden_size", "embedding_dim"), c.layers("num_hidden_layers", "num_blocks")
    number = c.size("num_heads")
    keys = _scaled(c, hidden, 0.5, "qk_dim_factor", "qk_round_up_to_multiple_of", 1)
    values = _scaled(c, hidden, 1.0, "v_dim_factor", "v_round_up_to_multiple_of", 1)
    mixer = Recurrent(
        inputs=2 * keys + 2 * values + 2 * number,
        outputs=values,
        state=keys * values // number + keys + number,
        small=2 * number + values,
    )
    ffn = FeedForward(_scaled(c, hidden, 2.667, "ffn_proj_factor", "ffn_round_up_to_multiple_of", 64))
    block = Block(count=layers, mixer=mixer, ffn=ffn)
    return transformer(
        c,
        hidden_size=hidden,
        blocks=(block,),
        tied_embeddings=tied(c, False),
        final_norm=c.flag(True, "add_out_norm"),
    )


def _scaled(c: ConfigReader, hidden: int, usual: float, key: str, round_to: str, multiple: int) -> int:
    """`hidden` times a factor of the file, rounded up to a multiple."""
    wanted, multiple = hidden * c.number(usual, key), c.size_or(multiple, round_to)
    if not 1 <= wanted <= MAX_SIZE:
        raise InvalidInputError(f"'{key}' gives a width of {wanted:g}", where=c.where)
    return multiple * math.ceil(int(wanted) / multiple)


FAMILIES: dict[str, Family] = {
    "qwen3_next": _qwen3_next,
    "qwen3_5_text": _qwen3_next,
    "qwen3_5_moe_text": _qwen3_next,
    "olmo_hybrid": _olmo_hybrid,
    "kimi_linear": _kimi_linear,
    "bailing_hybrid": _bailing_hybrid,
    "minimax": _minimax,
    "lfm2": _lfm2,
    "lfm2_moe": _lfm2,
    "lfm3": _lfm3,
    "recurrent_gemma": _recurrent_gemma,
    "rwkv": _rwkv4,
    "rwkv7": _rwkv7,
    "xlstm": _xlstm,
}
