"""Audio encoders of multimodal models: Whisper's encoder over a window of 30 seconds, and a projector.

Sources: the modelling code of the `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families import projectors as to
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet, Tower

_KERNEL = 3  # of both convolutions; the second halves the frames


@dataclass(frozen=True, slots=True)
class Hearing:
    """How an audio encoder joins a decoder: frames that become one token, its projector, and the rule in words."""

    frames: int
    project: to.Projector
    assumes: str
    table: bool = True  # the position table is a parameter, not a buffer
    params: int = 0  # vectors of the decoder's width beside


AUDIO_ENCODERS: Mapping[str, Hearing] = {
    "qwen2_audio_encoder": Hearing(2, to.biased, "a clip is 30 seconds, 750 tokens"),
    "voxtral_encoder": Hearing(4, to.stacked, "a clip is 30 seconds, 375 tokens"),
    "audioflamingo3_encoder": Hearing(2, to.two, "a clip is 30 seconds, 750 tokens"),
    "qwen2_5_omni_audio_encoder": Hearing(2, to.biased, "a clip is 30 seconds, 750 tokens", table=False, params=2),
}


def audio_tower(row: Hearing, c: ConfigReader, whole: ConfigReader, spec: Transformer, top: str) -> Tower:
    """Whisper's encoder as `c` describes it, with the projector of `row` into the decoder `spec`."""
    width, bins = c.size("d_model", "hidden_size"), c.size("num_mel_bins")
    layers = c.layers("encoder_layers", "num_hidden_layers")
    heads, inner = (
        c.size("encoder_attention_heads", "num_attention_heads"),
        c.size("encoder_ffn_dim", "intermediate_size"),
    )
    frames = c.size_or(1500, "max_source_positions")
    first = (
        Matrix("mel", bins * _KERNEL, width, rows="frame", bias=True),
        Matrix("halve", width * _KERNEL, width, bias=True),
    )
    layer = Stage(
        "layer",
        layers,
        (
            Matrix("qkv", width, 3 * width),
            Matrix("out", width, width, bias=True, split="k"),
            Matrix("up", width, inner, bias=True),
            Matrix("down", inner, width, bias=True, split="k"),
        ),
        (Scores(heads, width // heads),),
        width=width,
        norms=2,
        inner=inner,
        params=4 * width + 2 * width,  # two norms; biases of queries and values
    )
    join = to.Join(whole, c, width, width * row.frames, c.size_or(spec.hidden_size, "output_dim"))
    stem = Stage("embed", 1, first, params=(frames * row.table + 2) * width + row.params * join.hidden)
    net = StreamNet(
        name=f"the audio tower of {top}",
        stages=(stem, layer, *row.project(join)),
        grid=Grid(frames, 1, 1, pooled=frames // row.frames, fixed=True),
    )
    return Tower(kind="clip", net=net, rule=row.assumes)
