"""Encoders and encoder-decoders: BERT and its kin, ViT, Whisper, T5.

Sources: the modelling code of the named `model_type` in huggingface/transformers (v4.57).
"""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import (
    HIDDEN,
    INTERMEDIATE,
    LAYERS,
    Family,
    classes,
    heads,
    tied,
    transformer,
)
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

_T5_SOURCE_TOKENS = 512  # length of the sequences T5 was trained on (arXiv:1910.10683, section 3.1.2)
_WHISPER_KERNEL = 3  # both audio convolutions; the second halves the frames


def _bert(c: ConfigReader) -> Transformer:
    """BERT, RoBERTa, XLM-R, ELECTRA: an encoder, its pooler counted as stored only."""
    hidden, layers = c.size(*HIDDEN), c.layers(*LAYERS)
    narrow = c.size_or(hidden, "embedding_size")
    queries, width = heads(c, hidden)
    attention = Attention(queries, queries, width, causal=False, qkv_bias=True, out_bias=True)
    ffn = FeedForward(c.size(*INTERMEDIATE), gated=False, bias=True)
    return transformer(
        c,
        kind="encoder",
        hidden_size=hidden,
        blocks=(Block(count=layers, mixer=attention, ffn=ffn),),
        has_head=False,
        norm_bias=True,
        embedding_norm=True,
        embedding_size=None if narrow == hidden else narrow,
        final_norm=False,
        learned_positions=c.size("max_position_embeddings"),
        token_types=c.size_or(2, "type_vocab_size", least=0),
        extra_params=hidden * (hidden + 1) if narrow == hidden else 0,
    )


def _distilbert(c: ConfigReader) -> Transformer:
    """DistilBERT: BERT without segments and pooler, keys of its own."""
    hidden, layers = c.size("dim", "hidden_size"), c.layers("n_layers", "num_hidden_layers")
    queries, width = heads(c, hidden, "n_heads", "num_attention_heads")
    attention = Attention(queries, queries, width, causal=False, qkv_bias=True, out_bias=True)
    ffn = FeedForward(c.size("hidden_dim", "intermediate_size"), gated=False, bias=True)
    return transformer(
        c,
        kind="encoder",
        hidden_size=hidden,
        blocks=(Block(count=layers, mixer=attention, ffn=ffn),),
        has_head=False,
        norm_bias=True,
        embedding_norm=True,
        final_norm=False,
        learned_positions=c.size("max_position_embeddings"),
    )


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


def _whisper(c: ConfigReader) -> Transformer:
    """Whisper: two convolutions over mel frames, an encoder, a decoder with cross-attention."""
    hidden, bins = c.size("d_model"), c.size("num_mel_bins")
    frames, targets = c.size("max_source_positions"), c.size("max_target_positions")

    def attention(side: str, **fields: bool) -> Attention:
        number = c.size(f"{side}_attention_heads")
        return Attention(number, number, hidden // number, qkv_bias=True, key_bias=False, out_bias=True, **fields)

    def ffn(side: str) -> FeedForward:
        return FeedForward(c.size(f"{side}_ffn_dim"), gated=False, bias=True)

    encoder = Block(c.layers("encoder_layers"), attention("encoder", causal=False), ffn("encoder"))
    cross = attention("decoder", causal=False, cross=True)
    decoder = Block(c.layers("decoder_layers"), attention("decoder"), ffn("decoder"), cross=cross, norms=3)
    first, second = bins * hidden * _WHISPER_KERNEL, hidden * hidden * _WHISPER_KERNEL
    return transformer(
        c,
        kind="encoder-decoder",
        hidden_size=hidden,
        blocks=(decoder,),
        encoder=(encoder,),
        encoder_tokens=frames,
        tied_embeddings=tied(c, True),
        norm_bias=True,
        learned_positions=frames + targets,
        max_positions=targets,
        stem_params=first + second + 2 * hidden,
        stem_flops=2 * (2 * frames * first + frames * second),
    )


def _t5(c: ConfigReader) -> Transformer:
    """T5: no biases, relative positions shared by all layers; v1.1 has a gated feed-forward part and its own head."""
    hidden, number, width = c.size("d_model"), c.size("num_heads"), c.size("d_kv")
    layers = c.layers("num_layers")
    attention = Attention(number, number, width)
    ffn = FeedForward(c.size("d_ff"), gated=c.text("relu", "feed_forward_proj").startswith("gated"))
    encoder = Block(layers, replace(attention, causal=False), ffn)
    cross = replace(attention, causal=False, cross=True)
    decoder = Block(c.size_or(layers, "num_decoder_layers"), attention, ffn, cross=cross, norms=3)
    buckets = c.size_or(32, "relative_attention_num_buckets")
    source = c.size_or(_T5_SOURCE_TOKENS, "n_positions")
    return transformer(
        c,
        kind="encoder-decoder",
        hidden_size=hidden,
        blocks=(decoder,),
        encoder=(encoder,),
        tied_embeddings=tied(c, True),
        position_params=2 * buckets * number,
        encoder_tokens=source,
        metadata={"encoder_tokens": f"{source}, the training length: relative positions set no length of their own"},
    )


FAMILIES: dict[str, Family] = {
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "electra": _bert,
    "distilbert": _distilbert,
    "vit": _vit,
    "whisper": _whisper,
    "t5": _t5,
}
