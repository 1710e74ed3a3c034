"""Decoders before Llama: GPT-2, GPT-J, GPT-NeoX, OPT, Falcon, BLOOM, MPT. LayerNorm, plain feed-forward parts, biases.

Sources: the modelling code of the named `model_type` in huggingface/transformers (v4.57).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import MAX_SIZE, ConfigReader
from waferline.workloads.context import POSITIONS
from waferline.workloads.families.common import (
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    WINDOW,
    Family,
    check_groups,
    heads,
    stack,
    tied,
    transformer,
)
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

_OPT_POSITION_OFFSET = 2  # rows of OPT's position table before position 0


def _width_of(c: ConfigReader, hidden: int) -> int:
    return c.size_or(4 * hidden, *INTERMEDIATE)


def _decoder(
    c: ConfigReader,
    hidden: int,
    attention: Attention,
    inner: int,
    *,
    biased: bool = True,
    tie: bool = True,
    norms: int = 2,
    parallel: bool = False,
    **ends: Any,
) -> Transformer:
    """Layers that are all alike, with LayerNorms. ends: what stands around them, as `transformer` takes it."""  # fmt: skip
    ffn = FeedForward(inner, gated=False, bias=biased)
    block = Block(count=c.layers(*LAYERS), mixer=attention, ffn=ffn, norms=norms, parallel=parallel)
    ends = {"norm_bias": True, "hidden_size": hidden} | ends
    return transformer(c, blocks=(block,), tied_embeddings=tied(c, tie), **ends)


def _everywhere(c: ConfigReader, groups: int | None = None) -> Attention:
    """Attention with biases on all projections, of as many key/value heads as queries unless `groups` says how many."""
    queries, width = heads(c, c.size(*HIDDEN))
    return Attention(queries, groups or queries, width, qkv_bias=True, out_bias=True)


def _gpt2(c: ConfigReader) -> Transformer:
    """GPT-2 and GPT-3: learned positions, biases everywhere, tied embeddings."""
    hidden = c.size(*HIDDEN)
    return _decoder(c, hidden, _everywhere(c), _width_of(c, hidden), learned_positions=c.size(*POSITIONS))


def _gpt_bigcode(c: ConfigReader) -> Transformer:
    """StarCoder: GPT-2 with one key/value head."""
    hidden, groups = c.size(*HIDDEN), 1 if c.flag(True, "multi_query") else None
    return _decoder(c, hidden, _everywhere(c, groups), _width_of(c, hidden), learned_positions=c.size(*POSITIONS))


def _gptj(c: ConfigReader) -> Transformer:
    """GPT-J: rotary positions, one norm for attention and feed-forward side by side, a biased head."""
    hidden = c.size(*HIDDEN)
    queries, width = heads(c, hidden)
    attention = Attention(queries, queries, width)
    return _decoder(c, hidden, attention, _width_of(c, hidden), tie=False, norms=1, parallel=True, head_bias=True)


def _gpt_neox(c: ConfigReader) -> Transformer:
    hidden = c.size(*HIDDEN)
    queries, width = heads(c, hidden)
    bias, parallel = c.flag(True, "attention_bias"), c.flag(True, "use_parallel_residual")
    attention = Attention(queries, queries, width, qkv_bias=bias, out_bias=bias)
    return _decoder(c, hidden, attention, c.size(*INTERMEDIATE), tie=False, parallel=parallel)


def _opt(c: ConfigReader) -> Transformer:
    """OPT; the 350M one has a narrow embedding and its norms behind the parts."""
    hidden = c.size(*HIDDEN)
    queries, width = heads(c, hidden)
    bias, narrow = c.flag(True, "enable_bias"), c.size_or(hidden, "word_embed_proj_dim")
    return _decoder(
        c,
        hidden,
        Attention(queries, queries, width, qkv_bias=bias, out_bias=bias),
        c.size("ffn_dim"),
        biased=bias,
        final_norm=c.flag(True, "do_layer_norm_before"),
        embedding_size=None if narrow == hidden else narrow,
        learned_positions=c.size("max_position_embeddings") + _OPT_POSITION_OFFSET,
    )


def _falcon(c: ConfigReader) -> Transformer:
    """Falcon: multi-query (7B) or grouped (40B, 180B) attention, in parallel with the feed-forward part."""
    hidden = c.size(*HIDDEN)
    queries, width = heads(c, hidden, *HEADS)
    new = c.flag(False, "new_decoder_architecture")
    if new:
        groups = c.size_or(queries, "num_kv_heads", "n_head_kv")
    else:
        groups = 1 if c.flag(True, "multi_query") else queries
    bias = c.flag(False, "bias")
    parallel = new or c.flag(True, "parallel_attn")
    norms = c.size_or(2, "num_ln_in_parallel_attn") if new else (1 if parallel else 2)
    attention = Attention(queries, check_groups(c, queries, groups), width, qkv_bias=bias, out_bias=bias)
    inner = c.size_or(4 * hidden, "ffn_hidden_size")
    return _decoder(c, hidden, attention, inner, biased=bias, norms=norms, parallel=parallel)


def _bloom(c: ConfigReader) -> Transformer:
    """BLOOM: ALiBi instead of positions, a norm behind the embedding."""
    hidden = c.size("hidden_size", "n_embed", "n_embd")
    queries, width = heads(c, hidden)
    attention = Attention(queries, queries, width, qkv_bias=True, out_bias=True)
    return _decoder(c, hidden, attention, 4 * hidden, embedding_norm=True)


def _mpt(c: ConfigReader) -> Transformer:
    """MPT: no biases; learned positions (of `max_seq_len` rows) unless ALiBi is on."""
    hidden = c.size("d_model")
    queries, width = heads(c, hidden, "n_heads")
    section = c.section("attn_config")
    attn = section if section is not None else ConfigReader({}, c.where)
    groups = check_groups(c, queries, attn.size_or(queries, "kv_n_heads"))
    if not attn.said("alibi"):
        c.assume("attn_config.alibi", True)
    learned = c.flag(True, "learned_pos_emb") and not attn.flag(True, "alibi")
    ratio = c.number(4, "expansion_ratio")
    inner = ratio * hidden
    if not 0 < inner <= MAX_SIZE or inner != int(inner):
        raise InvalidInputError(f"expansion_ratio {ratio} gives no whole feed-forward width", where=c.where)
    bias = not c.flag(True, "no_bias")
    attention = Attention(queries, groups, width, qkv_bias=bias, out_bias=bias)
    positions = c.size("max_seq_len") if learned else 0
    return _decoder(c, hidden, attention, int(inner), biased=bias, norm_bias=bias, learned_positions=positions)


def _gpt_neo(c: ConfigReader) -> Transformer:
    """GPT-Neo: GPT-2 with every other layer's attention over a window, and biases on the output alone."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    attention = Attention(queries, queries, width, out_bias=True)
    ffn = FeedForward(c.size_or(4 * hidden, *INTERMEDIATE), gated=False, bias=True)
    kinds = c.items("attention_layers", length=layers) or [("global", "local")[i % 2] for i in range(layers)]
    window = c.optional(*WINDOW)
    blocks = (
        Block(count=1, mixer=replace(attention, window=window if kind == "local" else None), ffn=ffn) for kind in kinds
    )
    return transformer(
        c,
        hidden_size=hidden,
        blocks=stack(blocks),
        tied_embeddings=tied(c, True),
        norm_bias=True,
        learned_positions=c.size(*POSITIONS),
    )


def _biased(
    c: ConfigReader, positions: int | None = None, final_norm: bool = True, head_bias: bool = False
) -> Transformer:
    """Decoders with biases everywhere and LayerNorms: XGLM and CTRL (sinusoidal positions), BioGPT and GPT-1 (learned)."""
    hidden = c.size(*HIDDEN)
    around: dict[str, Any] = {"final_norm": final_norm, "head_bias": head_bias}
    around["learned_positions"] = 0 if positions is None else c.size(*POSITIONS) + positions
    return _decoder(c, hidden, _everywhere(c), c.size_or(4 * hidden, *INTERMEDIATE, "dff"), **around)


FAMILIES: dict[str, Family] = {
    "gpt_neo": _gpt_neo,
    "xglm": _biased,
    "ctrl": partial(_biased, head_bias=True),
    "biogpt": partial(_biased, positions=_OPT_POSITION_OFFSET),
    "openai-gpt": partial(_biased, positions=0, final_norm=False),
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt_bigcode,
    "gptj": _gptj,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "falcon": _falcon,
    "RefinedWebModel": _falcon,
    "RefinedWeb": _falcon,
    "bloom": _bloom,
    "mpt": _mpt,
}
