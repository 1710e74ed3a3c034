"""Encoder-decoders: T5 and its kin, BART and its kin, Whisper.

The encoder reads the prompt (Whisper: a window of audio) once; its states become keys and values of every decoder layer
once and are kept. Sources: the modelling code of the named `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import Family, tied, transformer
from waferline.workloads.spec import Attention, Block, FeedForward, Transformer

_WHISPER_KERNEL = 3  # both audio convolutions; the second halves the frames
_PROMPT_OF_WHISPER = 4  # start, language, task, no timestamps (arXiv:2212.04356, figure 1)


@dataclass(frozen=True, slots=True)
class BartTraits:
    """How a family differs from BART: its position tables and the norms around its stacks."""

    positions: bool = True  # a table on each side, learned or of sinusoids that the checkpoint holds
    spare_positions: int = 2  # rows before the first position
    embedding_norm: bool = True
    final_norm: bool = False
    own_tables: str | None = None  # key that says, if false, that encoder and decoder have tables of their own


TRAITS: Mapping[str, BartTraits] = {
    "bart": BartTraits(),
    "plbart": BartTraits(),
    "mvp": BartTraits(),
    "mbart": BartTraits(final_norm=True),
    "pegasus": BartTraits(spare_positions=0, embedding_norm=False, final_norm=True),
    "marian": BartTraits(spare_positions=0, embedding_norm=False, own_tables="share_encoder_decoder_embeddings"),
    "m2m_100": BartTraits(positions=False, embedding_norm=False, final_norm=True),  # NLLB, too
    "blenderbot": BartTraits(spare_positions=0, embedding_norm=False, final_norm=True),
    "blenderbot-small": BartTraits(spare_positions=0),
}


def _side(c: ConfigReader, side: str, hidden: int, **fields: bool) -> tuple[int, Attention, FeedForward]:
    """Layers of one side with their attention and feed-forward part, under BART's keys."""
    number = c.size(f"{side}_attention_heads")
    attention = Attention(number, number, hidden // number, qkv_bias=True, out_bias=True, **fields)
    return c.layers(f"{side}_layers"), attention, FeedForward(c.size(f"{side}_ffn_dim"), gated=False, bias=True)


def _stacks(c: ConfigReader, hidden: int, **fields: bool) -> tuple[Block, Block]:
    """The encoder's block and the decoder's, with cross-attention."""
    layers, attention, ffn = _side(c, "encoder", hidden, **fields)
    encoder = Block(layers, replace(attention, causal=False), ffn)
    layers, attention, ffn = _side(c, "decoder", hidden, **fields)
    return encoder, Block(layers, attention, ffn, cross=replace(attention, causal=False, cross=True), norms=3)


def _bart(c: ConfigReader, t: BartTraits) -> Transformer:
    hidden, positions = c.size("d_model"), c.size("max_position_embeddings")
    encoder, decoder = _stacks(c, hidden)
    apart = t.own_tables is not None and not c.flag(True, t.own_tables)
    return transformer(
        c,
        kind="encoder-decoder",
        hidden_size=hidden,
        encoder=(encoder,),
        blocks=(decoder,),
        tied_embeddings=tied(c, True),
        norm_bias=True,
        embedding_norm=t.embedding_norm,
        final_norm=t.final_norm,
        learned_positions=2 * (positions + t.spare_positions) if t.positions else 0,
        position_params=c.size("vocab_size") * hidden if apart else 0,
    )


def _whisper(c: ConfigReader) -> Transformer:
    """Whisper: two convolutions over mel frames, an encoder of a fixed window, a decoder."""
    hidden, bins = c.size("d_model"), c.size("num_mel_bins")
    frames, targets = c.size("max_source_positions"), c.size("max_target_positions")
    encoder, decoder = _stacks(c, hidden, key_bias=False)
    first, second = bins * hidden * _WHISPER_KERNEL, hidden * hidden * _WHISPER_KERNEL
    return transformer(
        c,
        kind="encoder-decoder",
        hidden_size=hidden,
        blocks=(decoder,),
        encoder=(encoder,),
        encoder_tokens=frames,
        usual_prompt=_PROMPT_OF_WHISPER,
        tied_embeddings=tied(c, True),
        norm_bias=True,
        learned_positions=frames + targets,
        max_positions=targets,
        stem_params=first + second + 2 * hidden,
        stem_flops=2 * (2 * frames * first + frames * second),
    )


def _t5(c: ConfigReader, *, tables: bool = False) -> Transformer:
    """T5: no biases, relative positions shared by all layers (UMT5: `tables` of every layer's own); v1.1 is gated.

    A checkpoint of the encoder alone (`T5EncoderModel`, the text encoder of diffusion models) says so in `architectures`.
    """
    hidden, number, width = c.size("d_model"), c.size("num_heads"), c.size("d_kv")
    layers = c.layers("num_layers")
    attention = Attention(number, number, width)
    ffn = FeedForward(c.size("d_ff"), gated=c.text("relu", "feed_forward_proj").startswith("gated"))
    encoder = Block(layers, replace(attention, causal=False), ffn)
    below = c.size_or(layers, "num_decoder_layers")
    decoder = Block(below, attention, ffn, cross=replace(attention, causal=False, cross=True), norms=3)
    table = c.size_or(32, "relative_attention_num_buckets") * number
    if any("EncoderModel" in str(name) for name in c.items("architectures") or ()):
        own = layers if tables else 1
        return transformer(
            c, kind="encoder", hidden_size=hidden, blocks=(encoder,), has_head=False, position_params=own * table
        )
    return transformer(
        c,
        kind="encoder-decoder",
        hidden_size=hidden,
        blocks=(decoder,),
        encoder=(encoder,),
        tied_embeddings=tied(c, True),
        position_params=(layers + below if tables else 2) * table,
    )


FAMILIES: dict[str, Family] = {
    **{name: partial(_bart, t=traits) for name, traits in TRAITS.items()},
    "whisper": _whisper,
    "t5": _t5,
    "mt5": _t5,
    "longt5": _t5,
    "umt5": partial(_t5, tables=True),
}
