"""Layers that diffusion transformers are made of, and what their pipelines do when nobody says.

Three kinds of layer: two streams with weights of their own that attend together (SD3, FLUX), one stream of all rows, and one of
patches that attends to the text (PixArt, Wan).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet

TIME = 256  # width of the sinusoids of a time step
_OUTSIDE = "text encoders and the autoencoder, which have files of their own"


@dataclass(frozen=True, slots=True)
class Usual:
    """What a pipeline does when nobody says: size, frames, text tokens, steps, passes of a step; and the autoencoder's strides."""

    width: int
    height: int
    text: int
    steps: int
    passes: int = 1
    frames: int = 1
    pixels: int = 8
    frame_stride: int = 1

    def grid(self, patch: int) -> Grid:
        return Grid(
            self.height,
            self.width,
            self.pixels * patch,
            text=self.text,
            frames=self.frames,
            frame_stride=self.frame_stride,
        )


USUAL: Mapping[str, Usual] = {
    "FluxTransformer2DModel": Usual(1024, 1024, text=512, steps=28),
    "ChromaTransformer2DModel": Usual(1024, 1024, text=512, steps=35, passes=2),
    "Flux2Transformer2DModel": Usual(1024, 1024, text=512, steps=50),
    "QwenImageTransformer2DModel": Usual(1024, 1024, text=256, steps=50, passes=2),
    "SD3Transformer2DModel": Usual(1024, 1024, text=77 + 256, steps=28, passes=2),
    "PixArtTransformer2DModel": Usual(1024, 1024, text=300, steps=20, passes=2),
    "HunyuanDiT2DModel": Usual(1024, 1024, text=77 + 256, steps=50, passes=2),
    "SanaTransformer2DModel": Usual(1024, 1024, text=300, steps=20, passes=2, pixels=32),
    "Transformer2DModel": Usual(1024, 1024, text=120, steps=20, passes=2),
    "WanTransformer3DModel": Usual(1280, 720, text=512, steps=50, passes=2, frames=81, frame_stride=4),
    "HunyuanVideoTransformer3DModel": Usual(1280, 720, text=256, steps=50, frames=129, frame_stride=4),
    "LTXVideoTransformer3DModel": Usual(704, 512, text=128, steps=50, passes=2, frames=161, pixels=32, frame_stride=8),
    "CogVideoXTransformer3DModel": Usual(720, 480, text=226, steps=50, passes=2, frames=49, frame_stride=4),
    "ZImageTransformer2DModel": Usual(1024, 1024, text=512, steps=9),
}


def net(stages: tuple[Stage, ...], grid: Grid, usual: Usual, steps: int = 0) -> StreamNet:
    metadata = {"not_counted": _OUTSIDE}
    return StreamNet(stages=stages, grid=grid, steps=steps or usual.steps, passes=usual.passes, metadata=metadata)


def sizes(c: ConfigReader, heads: int, head_dim: int) -> tuple[int, int, int]:
    """(width, heads, width of a head)."""
    heads, head_dim = c.size_or(heads, "num_attention_heads"), c.size_or(head_dim, "attention_head_dim")
    return heads * head_dim, heads, head_dim


def once(name: str, *widths: int, bias: bool = True) -> tuple[Matrix, ...]:
    """Matrices from one width to the next, on the one vector of a sample."""
    return tuple(Matrix(f"{name}{i}", k, n, rows="once", bias=bias) for i, (k, n) in enumerate(pairwise(widths)))


def stream(name: str, rows: str, d: int, inner: int, *, bias: bool = True, gated: bool = False) -> tuple[Matrix, ...]:
    """Projections and feed-forward part of one stream."""
    return (
        Matrix(f"{name}qkv", d, 3 * d, rows=rows, bias=bias),
        Matrix(f"{name}out", d, d, rows=rows, bias=bias, split="k"),
        Matrix(f"{name}up", d, (1 + gated) * inner, rows=rows, bias=bias),
        Matrix(f"{name}down", inner, d, rows=rows, bias=bias, split="k"),
    )


def double(count: int, d: int, head_dim: int, inner: int, *, modulated: bool = True, **kind: bool) -> Stage:
    """Two streams, each with weights and a modulation of six vectors of its own, that attend together."""
    modulation = (*once("image_mod", d, 6 * d), *once("text_mod", d, 6 * d)) if modulated else ()
    return Stage(
        "double",
        count,
        (*stream("image_", "patch", d, inner, **kind), *stream("text_", "text", d, inner, **kind), *modulation),
        (Scores(d // head_dim, head_dim, "joint", "joint"),),
        rows="joint",
        width=d,
        norms=2,
        inner=inner,
        params=4 * head_dim,
    )


def single(
    count: int, d: int, head_dim: int, inner: int, *, modulated: bool = True, bias: bool = True, gated: bool = False
) -> Stage:
    """One stream of all rows: projections beside the feed-forward part, one matrix out of both."""
    matrices = (
        Matrix("qkv_up", d, 3 * d + (1 + gated) * inner, rows="joint", bias=bias),
        Matrix("out_down", d + inner, d, rows="joint", bias=bias, split="k"),
        *(once("mod", d, 3 * d) if modulated else ()),
    )
    scores = (Scores(d // head_dim, head_dim, "joint", "joint"),)
    return Stage("single", count, matrices, scores, rows="joint", width=d, norms=1, inner=inner, params=2 * head_dim)


def ends_of(pixels: int, d: int, text: int, out: int, *extra: Matrix, bias: bool = True, params: int = 0) -> Stage:
    """Patches and text into the width of the layers, and patches out of it."""
    matrices = (
        Matrix("patches", pixels, d, bias=bias),
        *((Matrix("text", text, d, rows="text", bias=bias),) if text else ()),
        Matrix("final", d, out, bias=bias),
        *extra,
    )
    return Stage("ends", 1, matrices, width=d, norms=1, params=params)


def across(count: int, d: int, heads: int, inner: int, text: int, params: int, more: tuple[Matrix, ...] = ()) -> Stage:
    """Patches that attend to one another and then to the text."""
    cross = (
        Matrix("cross_q", d, d, bias=True),
        Matrix("cross_kv", text, 2 * d, rows="text", bias=True),
        Matrix("cross_out", d, d, bias=True, split="k"),
    )
    matrices = (*stream("", "patch", d, inner), *cross, *more)
    scores = (Scores(heads, d // heads), Scores(heads, d // heads, keys="text"))
    return Stage("layer", count, matrices, scores, width=d, norms=3, inner=inner, params=params)
