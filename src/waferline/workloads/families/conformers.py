"""Conformer audio encoders: of Gemma 3n, Gemma 4 and Phi-4 multimodal, with their projectors.

A convolution in front thins the frames of 10 ms; every layer has two half feed-forward parts, local attention and a small
convolution. Source: the modelling code of the `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet, Tower

_FRAMES = 3000  # of a clip of 30 seconds
_SPOTS = 9  # of a square convolution of 3
_GEMMA_THIN, _PHI_THIN = 4, 8  # frames that the front makes one of


@dataclass(frozen=True, slots=True)
class Conformer:
    """How one is built, and its rule of tokens in words."""

    build: Callable[[ConfigReader, Transformer], tuple[tuple[Stage, ...], Grid]]
    assumes: str


def conformer_tower(row: Conformer, c: ConfigReader, spec: Transformer, top: str) -> Tower:
    """The encoder that an audio section describes, and its projector into the decoder `spec`."""
    stages, grid = row.build(c, spec)
    return Tower(
        kind="clip", net=StreamNet(name=f"the audio tower of {top}", stages=stages, grid=grid), rule=row.assumes
    )


def _gemma_layers(c: ConfigReader, prefix: str) -> tuple[Stage, Stage, int]:
    """(front, layers, width) that Gemma 3n and Gemma 4 share, under keys that begin with `prefix`."""
    d, layers = c.size("hidden_size"), c.layers(f"{prefix}num_hidden_layers")
    heads, kernel = c.size(f"{prefix}num_attention_heads"), c.size_or(5, f"{prefix}conv_kernel_size")
    first, second = c.items("sscp_conv_channel_size", "subsampling_conv_channels", length=2) or (128, 32)
    sizes = ConfigReader({"first": first, "second": second}, c.where)
    first, second = sizes.size("first"), sizes.size("second")
    bins = c.size_or(128, "input_feat_size")
    weights = _SPOTS * first * (1 + second)
    # The first convolution runs at half the frames and bins, the second at a quarter.
    macs = _FRAMES * bins * first * _SPOTS // 4 + _FRAMES * bins * first * second * _SPOTS // 16
    front = Stage(
        "embed",
        1,
        (Matrix("front", second * bins // 4, d),),
        width=d,
        params=first + second,
        conv_flops=2 * macs,
        conv_params=weights,
    )
    matrices = (
        Matrix("up", d, 4 * d, count=2),
        Matrix("down", 4 * d, d, count=2, split="k"),
        Matrix("qkv", d, 3 * d),
        Matrix("relative", d, d, rows="once"),
        Matrix("out", d, d, split="k"),
        Matrix("conv_in", d, 2 * d),
        Matrix("conv_out", d, d, split="k"),
    )
    seen = c.size_or(12, f"{prefix}attention_chunk_size") + c.size_or(13, f"{prefix}attention_context_left")
    layer = Stage(
        "layer",
        layers,
        matrices,
        (Scores(heads, max(d // heads, 1), window=seen),),
        width=d,
        norms=9,
        inner=9 * d,
        params=9 * d + kernel * d + d // heads,
    )
    return front, layer, d


def _gemma3n(c: ConfigReader, spec: Transformer) -> tuple[tuple[Stage, ...], Grid]:
    front, layer, d = _gemma_layers(c, "conf_")
    thin = c.size_or(4, "conf_reduction_factor")
    project = Stage(
        "project",
        1,
        (Matrix("1", d, spec.hidden_size, rows="token"),),
        params=c.size_or(128, "vocab_size") * d + 2 * d,
    )
    rows = _FRAMES // _GEMMA_THIN
    return (front, layer, project), Grid(rows, 1, 1, pooled=-(-rows // thin), fixed=True)


def _gemma4(c: ConfigReader, spec: Transformer) -> tuple[tuple[Stage, ...], Grid]:
    front, layer, d = _gemma_layers(c, "")
    out = c.size_or(1536, "output_proj_dims")
    project = Stage("project", 1, (Matrix("1", d, out, bias=True), Matrix("2", out, spec.hidden_size, rows="token")))
    rows = _FRAMES // _GEMMA_THIN
    return (front, layer, project), Grid(rows, 1, 1, pooled=rows, fixed=True)


def _phi4(c: ConfigReader, spec: Transformer) -> tuple[tuple[Stage, ...], Grid]:
    d, heads, inner = c.size("hidden_size"), c.size("num_attention_heads"), c.size("intermediate_size")
    channels, last = c.size_or(1024, "nemo_conv_channels"), c.size_or(10, "nemo_final_size")
    wide, kernel = c.size_or(1024, "ext_pw_out_channel"), c.size_or(3, "kernel_size")
    rows, hidden = _FRAMES // _PHI_THIN, spec.hidden_size
    # One full convolution of the spectrogram, then twice a convolution of each channel and one across channels.
    across = 2 * channels**2
    front = Stage(
        "embed",
        1,
        (Matrix("front", channels * last, d, bias=True),),
        width=channels,
        params=5 * channels + 2 * c.size_or(1000, "bias_max_distance") * heads,
        conv_flops=2 * rows * last * (4 + 1) * channels**2,
        conv_params=3 * _SPOTS * channels + across,
    )
    layer = Stage(
        "layer",
        c.layers("num_blocks", "num_hidden_layers"),
        (
            Matrix("up", d, 2 * inner, bias=True, count=2),
            Matrix("down", inner, d, bias=True, count=2, split="k"),
            Matrix("qkv", d, 3 * d, bias=True),
            Matrix("out", d, d, bias=True, split="k"),
            Matrix("conv_in", d, 2 * wide, bias=True),
            Matrix("conv_across", wide, wide, bias=True),
            Matrix("conv_out", wide, d, bias=True, split="k"),
        ),
        (Scores(heads, max(d // heads, 1)),),
        width=d,
        norms=5,
        inner=2 * inner + wide,
        params=5 * 2 * d + 2 * wide + wide * (kernel + 1),
    )
    project = Stage(
        "project",
        1,
        (Matrix("1", d, hidden, bias=True), Matrix("2", hidden, hidden, bias=True, split="k")),
        params=hidden * (d + 1) + hidden * (hidden + 1),  # a second pair, for speech beside an image
    )
    return (front, layer, project), Grid(rows, 1, 1, fixed=True)


CONFORMERS: Mapping[str, Conformer] = {
    "gemma3n_audio": Conformer(_gemma3n, "a clip is 30 seconds, 188 tokens"),
    "gemma4_audio": Conformer(_gemma4, "a clip is 30 seconds, 750 tokens"),
    "phi4_multimodal_audio": Conformer(_phi4, "a clip is 30 seconds, 375 tokens"),
}
