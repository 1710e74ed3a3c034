"""Text encoders, embedders and rerankers: BERT and its kin; and ViT.

Sources: the modelling code of the named `model_type` in huggingface/transformers (v5.24); of `new` in
Alibaba-NLP/new-impl, of ALiBi and gated layers under `bert` in jinaai/jina-bert-implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    Family,
    classes,
    heads,
    stack,
    transformer,
)
from waferline.workloads.families.dense import TRAITS, dense
from waferline.workloads.spec import Attention, Block, FeedForward, Ffn, MixtureOfExperts, Transformer

_GATED = ("geglu", "reglu", "swiglu", "glu")


def _sizes(c: ConfigReader, *, bias: bool = True) -> tuple[int, int, Attention]:
    """Hidden size, layers, and attention that sees both ways."""
    hidden = c.size(*HIDDEN)
    queries, width = heads(c, hidden)
    return hidden, c.layers(*LAYERS), Attention(queries, queries, width, causal=False, qkv_bias=bias, out_bias=bias)


def _encoder(c: ConfigReader, hidden: int, blocks: tuple[Block, ...], **fields: Any) -> Transformer:
    """An encoder with norms behind its layers and one behind the embedding, as BERT has them."""
    usual: dict[str, Any] = {"embedding_norm": True, "norm_bias": True, "final_norm": False}
    return transformer(c, kind="encoder", hidden_size=hidden, blocks=blocks, has_head=False, **(usual | fields))


def _bert(c: ConfigReader, *, segments: int = 2, pre_norm: bool = False) -> Transformer:
    """BERT, RoBERTa, XLM-R, ELECTRA: an encoder, its pooler counted as stored only. `pre_norm`: a norm at the end instead."""
    hidden, layers, attention = _sizes(c)
    narrow = c.size_or(hidden, "embedding_size")
    gated = c.text("original", "feed_forward_type") in _GATED
    ffn = FeedForward(c.size(*INTERMEDIATE), gated=gated, bias=not gated)
    table = c.text("absolute", "position_embedding_type") == "absolute"
    return _encoder(
        c,
        hidden,
        (Block(layers, attention, ffn),),
        embedding_norm=not pre_norm,
        final_norm=pre_norm,
        embedding_size=None if narrow == hidden else narrow,
        learned_positions=c.size("max_position_embeddings") if table else 0,
        token_types=c.size_or(segments, "type_vocab_size", least=0) if segments else 0,
        extra_params=hidden * (hidden + 1) if narrow == hidden else 0,
    )


def _distilbert(c: ConfigReader) -> Transformer:
    """DistilBERT: BERT without segments and pooler, keys of its own."""
    hidden, layers = c.size("dim", "hidden_size"), c.layers("n_layers", "num_hidden_layers")
    queries, width = heads(c, hidden, "n_heads", "num_attention_heads")
    attention = Attention(queries, queries, width, causal=False, qkv_bias=True, out_bias=True)
    ffn = FeedForward(c.size("hidden_dim", "intermediate_size"), gated=False, bias=True)
    return _encoder(c, hidden, (Block(layers, attention, ffn),), learned_positions=c.size("max_position_embeddings"))


def _albert(c: ConfigReader) -> Transformer:
    """ALBERT: layers that share the weights of a few groups, a narrow embedding (arXiv:1909.11942, section 3)."""
    hidden, layers, attention = _sizes(c)
    ffn = FeedForward(c.size(*INTERMEDIATE), gated=False, bias=True)
    distinct = c.size_or(1, "num_hidden_groups") * c.size_or(1, "inner_group_num")
    return _encoder(
        c,
        hidden,
        (Block(layers * c.size_or(1, "inner_group_num"), attention, ffn, distinct=distinct),),
        embedding_size=c.size_or(128, "embedding_size"),
        learned_positions=c.size("max_position_embeddings"),
        token_types=c.size_or(2, "type_vocab_size", least=0),
        extra_params=hidden * (hidden + 1),
    )


def _mpnet(c: ConfigReader) -> Transformer:
    """MPNet: BERT without segments, with relative positions shared by all layers."""
    spec = _bert(c, segments=0)
    return replace(
        spec, position_params=c.size_or(32, "relative_attention_num_buckets") * c.size("num_attention_heads")
    )


def _deberta(c: ConfigReader) -> Transformer:
    """DeBERTa v2 and v3: relative positions shared by all layers, a convolution beside the first layer where asked.

    The scores of content with positions (arXiv:2006.03654, equation 4) are counted as one attention: a third of them.
    """
    hidden, layers, attention = _sizes(c)
    ffn = FeedForward(c.size(*INTERMEDIATE), gated=False, bias=True)
    positions = c.size("max_position_embeddings")
    other = 0
    if c.flag(False, "relative_attention"):
        buckets = int(c.number(-1, "position_buckets"))
        other += 2 * (buckets if buckets > 0 else positions) * hidden
        other += 2 * hidden * ("layer_norm" in c.text("none", "norm_rel_ebd"))
        if not c.flag(False, "share_att_key"):
            kinds = c.items("pos_att_type") or str(c.get("pos_att_type") or "").split("|")
            other += layers * sum(hidden * (hidden + 1) for kind in kinds if kind in ("c2p", "p2c"))
    kernel = c.size_or(0, "conv_kernel_size", least=0)
    other += hidden * (hidden * kernel + 3) if kernel else 0
    return _encoder(
        c,
        hidden,
        (Block(layers, attention, ffn),),
        learned_positions=positions if c.flag(True, "position_biased_input") else 0,
        token_types=c.size_or(0, "type_vocab_size", least=0),
        position_params=other,
    )


def _modernbert(c: ConfigReader) -> Transformer:
    """ModernBERT: a gated part, local attention but in every third layer; the first layer has one norm less."""
    bias = c.flag(False, "attention_bias")
    hidden, layers, attention = _sizes(c, bias=bias)
    ffn = FeedForward(c.size(*INTERMEDIATE), bias=c.flag(False, "mlp_bias"))
    window, every = c.size_or(128, "local_attention"), c.size_or(3, "global_attn_every_n_layers")
    local = [i % every != 0 for i in range(layers)]
    blocks = (
        Block(1, replace(attention, window=window if near else None), ffn, norms=1 if i == 0 else 2)
        for i, near in enumerate(local)
    )
    return _encoder(c, hidden, stack(blocks), norm_bias=c.flag(False, "norm_bias"), final_norm=True)


def _nomic(c: ConfigReader) -> Transformer:
    """Nomic BERT: rotary positions, a gated part without biases; v2 has experts in every second layer and biases."""
    remote = c.get("n_embd") is not None  # the keys of its own code, whose defaults have biases
    hidden, layers, attention = _sizes(c, bias=c.flag(remote, "qkv_proj_bias"))
    gated = not remote or c.text("gelu", "activation_function") in _GATED
    inner, bias = c.size_or(4 * hidden, *INTERMEDIATE), c.flag(remote, "mlp_fc1_bias")
    experts = c.size_or(0, "num_experts", least=0) if remote else 0
    every = c.size_or(0, "moe_every_n_layers", least=0)
    dense_part: Ffn = FeedForward(inner, gated=gated, bias=bias)
    routed = MixtureOfExperts(max(experts, 1), min(c.size_or(1, "moe_top_k"), max(experts, 1)), inner, gated=gated)
    ffns = [routed if experts and every and i % every == 1 else dense_part for i in range(layers)]
    return _encoder(
        c,
        hidden,
        stack(Block(1, attention, ffn) for ffn in ffns),
        token_types=c.size_or(2, "type_vocab_size", least=0),
    )


def _gte(c: ConfigReader) -> Transformer:
    """GTE v1.5 and Snowflake Arctic v2 (`new`): BERT with rotary positions and a gated part."""
    hidden, layers, attention = _sizes(c)
    ffn = FeedForward(c.size(*INTERMEDIATE))
    table = c.text("rope", "position_embedding_type") == "absolute"
    return _encoder(
        c,
        hidden,
        (Block(layers, attention, ffn),),
        learned_positions=c.size("max_position_embeddings") if table else 0,
        token_types=c.size_or(0, "type_vocab_size", least=0),
    )


def _eurobert(c: ConfigReader) -> Transformer:
    """EuroBERT: a Llama that sees both ways and has no head."""
    spec = dense(c, TRAITS["llama"])
    blocks = (replace(b, mixer=replace(b.mixer, causal=False)) for b in spec.blocks if isinstance(b.mixer, Attention))
    return replace(spec, kind="encoder", has_head=False, blocks=tuple(blocks))


def _vit(c: ConfigReader) -> Transformer:
    """ViT: patches and a class token through an encoder, a linear head of its classes."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    queries, width = heads(c, hidden)
    bias = c.flag(True, "qkv_bias")
    attention = Attention(queries, queries, width, causal=False, qkv_bias=bias, out_bias=True)
    ffn = FeedForward(c.size(*INTERMEDIATE), gated=False, bias=True)
    side, patch = c.size("image_size"), c.size("patch_size")
    if side % patch:
        raise InvalidInputError(f"an image of {side} is not a whole number of patches of {patch}", where=c.where)
    patches, pixels = (side // patch) ** 2, c.size_or(3, "num_channels") * patch * patch
    return transformer(
        c,
        kind="encoder",
        vocab_size=0,
        hidden_size=hidden,
        blocks=(Block(count=layers, mixer=attention, ffn=ffn),),
        has_head=False,
        head_classes=classes(c),
        norm_bias=True,
        learned_positions=patches + 1,
        fixed_tokens=patches + 1,
        stem_params=hidden * (pixels + 1) + hidden,  # the patch convolution and the class token
        stem_flops=2 * patches * pixels * hidden,
    )


FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra", "camembert", "ernie", "data2vec-text"), _bert),
    **dict.fromkeys(("megatron-bert", "xlm-roberta-xl"), partial(_bert, pre_norm=True)),
    "distilbert": _distilbert,
    "albert": _albert,
    "mpnet": _mpnet,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
    "nomic_bert": _nomic,
    "new": _gte,
    "eurobert": _eurobert,
    "vit": _vit,
}

# What a family assumes that its file does not say.
ASSUMES: Mapping[str, str] = {
    "deberta-v2": "scores of content with positions are not timed",
    "new": "rotary positions, gated layers (Alibaba-NLP/new-impl)",
    "nomic_bert": "experts, where there are some, in every second layer",
    "modernbert": "local attention in two of three layers",
}
