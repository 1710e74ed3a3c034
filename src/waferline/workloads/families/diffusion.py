"""Diffusion transformers: each `_class_name` of a diffusers `transformer/config.json` becomes layers over streams of rows.

Three kinds of layer: two streams with weights of their own that attend together (SD3, FLUX), one stream of all rows, and one of
patches that attends to the text (PixArt, Wan). Sources: the class of that name in huggingface/diffusers (v0.42), and its
pipeline for usual steps, sizes, text lengths and classifier-free guidance. What a file leaves out is the class's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families.common import Family
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet

_TIME = 256  # width of the sinusoids of a time step
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
    "Transformer2DModel": Usual(1024, 1024, text=120, steps=20, passes=2),
    "WanTransformer3DModel": Usual(1280, 720, text=512, steps=50, passes=2, frames=81, frame_stride=4),
    "HunyuanVideoTransformer3DModel": Usual(1280, 720, text=256, steps=50, frames=129, frame_stride=4),
    "LTXVideoTransformer3DModel": Usual(704, 512, text=128, steps=50, passes=2, frames=161, pixels=32, frame_stride=8),
    "CogVideoXTransformer3DModel": Usual(720, 480, text=226, steps=50, passes=2, frames=49, frame_stride=4),
    "ZImageTransformer2DModel": Usual(1024, 1024, text=512, steps=9),
}


def _net(stages: tuple[Stage, ...], grid: Grid, usual: Usual, steps: int = 0) -> StreamNet:
    metadata = {"not_counted": _OUTSIDE}
    return StreamNet(stages=stages, grid=grid, steps=steps or usual.steps, passes=usual.passes, metadata=metadata)


def _sizes(c: ConfigReader, heads: int, head_dim: int) -> tuple[int, int, int]:
    """(width, heads, width of a head)."""
    heads, head_dim = c.size_or(heads, "num_attention_heads"), c.size_or(head_dim, "attention_head_dim")
    return heads * head_dim, heads, head_dim


def _once(name: str, *widths: int, bias: bool = True) -> tuple[Matrix, ...]:
    """Matrices from one width to the next, on the one vector of a sample."""
    return tuple(Matrix(f"{name}{i}", k, n, rows="once", bias=bias) for i, (k, n) in enumerate(pairwise(widths)))


def _self(name: str, rows: str, d: int, inner: int, *, bias: bool = True, gated: bool = False) -> tuple[Matrix, ...]:
    """Projections and feed-forward part of one stream."""
    return (
        Matrix(f"{name}qkv", d, 3 * d, rows=rows, bias=bias),
        Matrix(f"{name}out", d, d, rows=rows, bias=bias, split="k"),
        Matrix(f"{name}up", d, (1 + gated) * inner, rows=rows, bias=bias),
        Matrix(f"{name}down", inner, d, rows=rows, bias=bias, split="k"),
    )


def _double(count: int, d: int, head_dim: int, inner: int, *, modulated: bool = True, **kind: bool) -> Stage:
    """Two streams, each with weights and a modulation of six vectors of its own, that attend together."""
    modulation = (*_once("image_mod", d, 6 * d), *_once("text_mod", d, 6 * d)) if modulated else ()
    return Stage(
        "double",
        count,
        (*_self("image_", "patch", d, inner, **kind), *_self("text_", "text", d, inner, **kind), *modulation),
        (Scores(d // head_dim, head_dim, "joint", "joint"),),
        rows="joint",
        width=d,
        norms=2,
        inner=inner,
        params=4 * head_dim,
    )


def _single(
    count: int, d: int, head_dim: int, inner: int, *, modulated: bool = True, bias: bool = True, gated: bool = False
) -> Stage:
    """One stream of all rows: projections beside the feed-forward part, one matrix out of both."""
    matrices = (
        Matrix("qkv_up", d, 3 * d + (1 + gated) * inner, rows="joint", bias=bias),
        Matrix("out_down", d + inner, d, rows="joint", bias=bias, split="k"),
        *(_once("mod", d, 3 * d) if modulated else ()),
    )
    scores = (Scores(d // head_dim, head_dim, "joint", "joint"),)
    return Stage("single", count, matrices, scores, rows="joint", width=d, norms=1, inner=inner, params=2 * head_dim)


def _ends(pixels: int, d: int, text: int, out: int, *extra: Matrix, bias: bool = True, params: int = 0) -> Stage:
    """Patches and text into the width of the layers, and patches out of it."""
    matrices = (
        Matrix("patches", pixels, d, bias=bias),
        *((Matrix("text", text, d, rows="text", bias=bias),) if text else ()),
        Matrix("final", d, out, bias=bias),
        *extra,
    )
    return Stage("ends", 1, matrices, width=d, norms=1, params=params)


def _flux(c: ConfigReader) -> StreamNet:
    """FLUX.1: double layers, then single ones; `guidance_embeds` says dev, without it schnell, made for 4 steps."""
    d, _, head_dim = _sizes(c, 24, 128)
    pixels, guided = c.size_or(64, "in_channels"), c.flag(False, "guidance_embeds")
    vectors = (*_once("time", _TIME, d, d), *_once("pooled", c.size_or(768, "pooled_projection_dim"), d, d))
    guidance = _once("guidance", _TIME, d, d) if guided else ()
    ends = _ends(
        pixels, d, c.size_or(4096, "joint_attention_dim"), c.size_or(pixels, "out_channels"),
        *vectors, *guidance, *_once("final_mod", d, 2 * d),
    )  # fmt: skip
    stages = (
        ends,
        _double(c.size_or(19, "num_layers"), d, head_dim, 4 * d),
        _single(c.size_or(38, "num_single_layers"), d, head_dim, 4 * d),
    )
    usual = USUAL["FluxTransformer2DModel"]
    return _net(stages, usual.grid(2), usual, steps=0 if guided else 4)


def _chroma(c: ConfigReader) -> StreamNet:
    """Chroma: FLUX whose modulations all come from one small network."""
    d, _, head_dim = _sizes(c, 24, 128)
    pixels, inner = c.size_or(64, "in_channels"), c.size_or(5120, "approximator_hidden_dim")
    layers = c.size_or(5, "approximator_layers")
    double, single = c.size_or(19, "num_layers"), c.size_or(38, "num_single_layers")
    vectors = (
        *_once("approximate", c.size_or(64, "approximator_num_channels"), inner),
        Matrix("approximator", inner, inner, rows="vectors", bias=True, count=2 * layers),
        Matrix("approximated", inner, d, rows="vectors", bias=True),
    )
    ends = _ends(pixels, d, c.size_or(4096, "joint_attention_dim"), pixels, *vectors, params=layers * inner)
    usual = USUAL["ChromaTransformer2DModel"]
    stages = (
        ends, _double(double, d, head_dim, 4 * d, modulated=False), _single(single, d, head_dim, 4 * d, modulated=False)
    )  # fmt: skip
    grid = replace(usual.grid(2), vectors=3 * single + 12 * double + 2)
    return _net(stages, grid, usual)


def _flux2(c: ConfigReader) -> StreamNet:
    """FLUX.2: gated parts, no biases, modulations that all layers share."""
    d, _, head_dim = _sizes(c, 48, 128)
    pixels, guided = c.size_or(128, "in_channels"), c.flag(True, "guidance_embeds")
    inner, plain = round(d * c.number(3.0, "mlp_ratio")), {"bias": False, "gated": True}
    vectors = (
        *_once("time", _TIME, d, d, bias=False),
        *(_once("guidance", _TIME, d, d, bias=False) if guided else ()),
        *_once("mod", d, 15 * d, bias=False),  # six vectors of each stream, three of single layers
        *_once("final_mod", d, 2 * d, bias=False),
    )
    usual = USUAL["Flux2Transformer2DModel"]
    stages = (
        _ends(pixels, d, c.size_or(15360, "joint_attention_dim"), pixels, *vectors, bias=False),
        _double(c.size_or(8, "num_layers"), d, head_dim, inner, modulated=False, **plain),
        _single(c.size_or(48, "num_single_layers"), d, head_dim, inner, modulated=False, **plain),
    )
    return _net(stages, usual.grid(2), usual, steps=0 if guided else 4)


def _qwen_image(c: ConfigReader) -> StreamNet:
    """Qwen-Image: double layers alone."""
    d, _, head_dim = _sizes(c, 24, 128)
    text, patch = c.size_or(3584, "joint_attention_dim"), c.size_or(2, "patch_size")
    out = patch**2 * c.size_or(16, "out_channels")
    extra = (*_once("time", _TIME, d, d), *_once("final_mod", d, 2 * d))
    usual = USUAL["QwenImageTransformer2DModel"]
    stages = (
        _ends(c.size_or(64, "in_channels"), d, text, out, *extra, params=text),
        _double(c.size_or(60, "num_layers"), d, head_dim, 4 * d),
    )
    return _net(stages, usual.grid(patch), usual)


def _sd3(c: ConfigReader) -> StreamNet:
    """Stable Diffusion 3 and 3.5: double layers, the last of which leaves the text; in some, patches attend twice."""
    d, heads, head_dim = _sizes(c, 18, 64)
    layers, patch = c.size_or(18, "num_layers"), c.size_or(2, "patch_size")
    channels, text = c.size_or(16, "in_channels"), c.size_or(d, "caption_projection_dim")
    normed = c.get("qk_norm") is not None
    twice = len(c.indices("dual_attention_layers", layers) or ())
    one = replace(_double(1, d, head_dim, 4 * d), params=4 * head_dim * normed)
    last = tuple(
        replace(m, n=2 * d) if m.name == "text_mod0" else m
        for m in one.matrices
        if m.name not in ("text_out", "text_up", "text_down")
    )
    again = (
        Matrix("again_qkv", d, 3 * d, bias=True),
        Matrix("again_out", d, d, bias=True, split="k"),
        *_once("again_mod", d, 3 * d),
    )
    dual = replace(
        one,
        name="dual",
        count=twice,
        matrices=(*one.matrices, *again),
        scores=(*one.scores, Scores(heads, head_dim)),
        params=one.params + 2 * head_dim * normed,
    )
    extra = (
        *_once("time", _TIME, d, d),
        *_once("pooled", c.size_or(2048, "pooled_projection_dim"), d, d),
        *_once("final_mod", d, 2 * d),
    )
    ends = _ends(
        channels * patch**2, d, 0, c.size_or(16, "out_channels") * patch**2,
        Matrix("text", c.size_or(4096, "joint_attention_dim"), text, rows="text", bias=True), *extra,
    )  # fmt: skip
    usual = USUAL["SD3Transformer2DModel"]
    parts = (ends, replace(one, count=layers - 1 - twice), dual, replace(one, name="last", matrices=last))
    return _net(tuple(s for s in parts if s.count), usual.grid(patch), usual)


def _across(count: int, d: int, heads: int, inner: int, text: int, params: int, more: tuple[Matrix, ...] = ()) -> Stage:
    """Patches that attend to one another and then to the text."""
    cross = (
        Matrix("cross_q", d, d, bias=True),
        Matrix("cross_kv", text, 2 * d, rows="text", bias=True),
        Matrix("cross_out", d, d, bias=True, split="k"),
    )
    matrices = (*_self("", "patch", d, inner), *cross, *more)
    scores = (Scores(heads, d // heads), Scores(heads, d // heads, keys="text"))
    return Stage("layer", count, matrices, scores, width=d, norms=3, inner=inner, params=params)


def _older(c: ConfigReader) -> StreamNet:
    """The class of PixArt-α's first files, which holds other models, too."""
    norm = c.text("", "norm_type")
    if norm != "ada_norm_single":
        raise UnsupportedError(
            f"a Transformer2DModel with norm_type '{norm}' is not read", where=c.where, hint="PixArt is"
        )
    return _pixart(c, "Transformer2DModel")


def _pixart(c: ConfigReader, name: str = "PixArtTransformer2DModel") -> StreamNet:
    """PixArt-α and Σ: one modulation for all layers, a small table in each."""
    d, heads, _ = _sizes(c, 16, 72)
    side, patch = c.size_or(128, "sample_size"), c.size_or(2, "patch_size")
    third = d // 3
    extra = (*_once("time", _TIME, d, d), *_once("mod", d, 6 * d))
    if c.flag(side == 128, "use_additional_conditions"):  # resolution and aspect ratio
        extra += (*_once("resolution", _TIME, third, third), *_once("aspect", _TIME, third, third))
    caption = c.optional("caption_channels")
    if caption:
        extra += (Matrix("text0", caption, d, rows="text", bias=True), Matrix("text1", d, d, rows="text", bias=True))
    usual = USUAL[name]
    ends = _ends(
        c.size_or(4, "in_channels") * patch**2, d, 0, c.size_or(8, "out_channels") * patch**2, *extra, params=2 * d
    )
    layer = _across(c.size_or(28, "num_layers"), d, heads, 4 * d, c.size_or(d, "cross_attention_dim"), 6 * d)
    grid = replace(usual.grid(patch), height=side * usual.pixels, width=side * usual.pixels)
    return _net((ends, layer), grid, usual)


def _wan(c: ConfigReader) -> StreamNet:
    """Wan 2.1 and 2.2: one modulation for all layers; models of image to video also attend to the image."""
    d, heads, _ = _sizes(c, 40, 128)
    sides = c.items("patch_size", length=3) or (1, 2, 2)
    steps = ConfigReader(dict(zip("thw", sides, strict=True)), c.where)
    t, h, w = (steps.size(k) for k in "thw")
    if h != w:
        raise UnsupportedError(f"patches of {h} x {w} are not square", where=c.where)
    channels, text = c.size_or(16, "in_channels"), c.size_or(4096, "text_dim")
    extra = (
        *_once("time", c.size_or(_TIME, "freq_dim"), d, d),
        *_once("mod", d, 6 * d),
        Matrix("text0", text, d, rows="text", bias=True),
        Matrix("text1", d, d, rows="text", bias=True),
    )
    image, norms = c.optional("image_dim"), 0
    more: tuple[Matrix, ...] = ()
    if image:
        extra += (
            Matrix("image0", image, image, rows="text", bias=True),
            Matrix("image1", image, d, rows="text", bias=True),
        )
        norms = 2 * image + 2 * d
    if c.optional("added_kv_proj_dim"):
        more = (Matrix("image_kv", c.size("added_kv_proj_dim"), 2 * d, rows="text", bias=True),)
    crossed = 2 * d * c.flag(True, "cross_attn_norm")
    layer = _across(
        c.size_or(40, "num_layers"), d, heads, c.size_or(13824, "ffn_dim"), d, 10 * d + crossed + d * bool(more), more
    )
    usual = USUAL["WanTransformer3DModel"]
    if channels == 48:  # the 5B model's autoencoder: 16 pixels a side
        usual = replace(usual, pixels=16)
    ends = _ends(channels * t * h * w, d, 0, c.size_or(16, "out_channels") * t * h * w, *extra, params=2 * d + norms)
    grid = replace(usual.grid(h), frame_stride=usual.frame_stride * t)
    return _net((ends, layer), grid, usual)


def _ltx(c: ConfigReader) -> StreamNet:
    """LTX-Video: PixArt's layers over latents that need no patches."""
    d, heads, _ = _sizes(c, 32, 64)
    caption = c.size_or(4096, "caption_channels")
    extra = (
        *_once("time", _TIME, d, d),
        *_once("mod", d, 6 * d),
        Matrix("text0", caption, d, rows="text", bias=True),
        Matrix("text1", d, d, rows="text", bias=True),
    )
    channels = c.size_or(128, "in_channels")
    ends = _ends(channels, d, 0, c.size_or(channels, "out_channels"), *extra, params=2 * d)
    text = c.size_or(2048, "cross_attention_dim")
    layer = _across(c.size_or(28, "num_layers"), d, heads, 4 * d, text, 6 * d + 4 * d)
    usual = USUAL["LTXVideoTransformer3DModel"]
    return _net((ends, layer), usual.grid(1), usual)


def _hunyuan(c: ConfigReader) -> StreamNet:
    """HunyuanVideo: FLUX's layers over a video, after a refiner of the text."""
    d, heads, head_dim = _sizes(c, 24, 128)
    patch, channels = c.size_or(2, "patch_size"), c.size_or(16, "in_channels")
    text, inner = c.size_or(4096, "text_embed_dim"), round(d * c.number(4.0, "mlp_ratio"))
    extra = (
        *_once("time", _TIME, d, d),
        *_once("pooled", c.size_or(768, "pooled_projection_dim"), d, d),
        *(_once("guidance", _TIME, d, d) if c.flag(True, "guidance_embeds") else ()),
        *_once("text_time", _TIME, d, d),
        *_once("text_pooled", text, d, d),
        *_once("final_mod", d, 2 * d),
    )
    refiner = Stage(
        "refine",
        c.size_or(2, "num_refiner_layers"),
        (*_self("", "text", d, inner), *_once("mod", d, 2 * d)),
        (Scores(heads, head_dim, "text", "text"),),
        rows="text",
        width=d,
        norms=2,
        inner=inner,
        params=4 * d,
    )
    stages = (
        _ends(channels * patch**2, d, text, c.size_or(16, "out_channels") * patch**2, *extra),
        refiner,
        _double(c.size_or(20, "num_layers"), d, head_dim, inner),
        _single(c.size_or(40, "num_single_layers"), d, head_dim, inner),
    )
    usual = USUAL["HunyuanVideoTransformer3DModel"]
    return _net(stages, usual.grid(patch), usual)


def _cogvideo(c: ConfigReader) -> StreamNet:
    """CogVideoX: text and patches share weights, not modulations."""
    d, heads, head_dim = _sizes(c, 30, 64)
    if c.get("patch_size_t") is not None:
        raise UnsupportedError("CogVideoX 1.5, whose patches take several frames, is not read", where=c.where)
    patch, channels, time = c.size_or(2, "patch_size"), c.size_or(16, "in_channels"), c.size_or(512, "time_embed_dim")
    inner = 4 * d
    modulation = (*_once("mod", time, 6 * d), *_once("ffn_mod", time, 6 * d))
    layer = Stage(
        "layer",
        c.size_or(30, "num_layers"),
        (*_self("", "joint", d, inner), *modulation),
        (Scores(heads, head_dim, "joint", "joint"),),
        rows="joint",
        width=d,
        norms=2,
        inner=inner,
        params=4 * d + 4 * head_dim,
    )
    extra = (*_once("time", d, time, time), *_once("final_mod", time, 2 * d))
    usual = USUAL["CogVideoXTransformer3DModel"]
    ends = _ends(
        channels * patch**2, d, c.size_or(4096, "text_embed_dim"), c.size_or(16, "out_channels") * patch**2, *extra,
        params=4 * d,
    )  # fmt: skip
    return _net((ends, layer), usual.grid(patch), usual)


def _z_image(c: ConfigReader) -> StreamNet:
    """Z-Image: one stream of all rows, after layers that refine patches and text apart."""
    d, heads, time = c.size_or(3840, "dim"), c.size_or(30, "n_heads"), _TIME
    head_dim, inner, refine = d // heads, d * 8 // 3, c.size_or(2, "n_refiner_layers")
    text, channels = c.size_or(2560, "cap_feat_dim"), c.size_or(16, "in_channels")

    def layer(name: str, count: int, rows: str, modulated: bool) -> Stage:
        modulation = _once("mod", time, 4 * d) if modulated else ()
        matrices = (*_self("", rows, d, inner, bias=False, gated=True), *modulation)
        scores = (Scores(heads, head_dim, rows, rows),)
        return Stage(name, count, matrices, scores, rows, d, 4, inner, params=4 * d + 2 * head_dim)

    pixels = channels * 4
    extra = (*_once("time", time, 4 * time, time), *_once("final_mod", time, d))
    stages = (
        _ends(pixels, d, text, pixels, *extra, params=2 * d + text),
        layer("refine_image", refine, "patch", True),
        layer("refine_text", refine, "text", False),
        layer("layer", c.size_or(30, "n_layers"), "joint", True),
    )
    usual = USUAL["ZImageTransformer2DModel"]
    return _net(stages, usual.grid(2), usual)


FAMILIES: dict[str, Family] = {
    "FluxTransformer2DModel": _flux,
    "ChromaTransformer2DModel": _chroma,
    "Flux2Transformer2DModel": _flux2,
    "QwenImageTransformer2DModel": _qwen_image,
    "SD3Transformer2DModel": _sd3,
    "PixArtTransformer2DModel": _pixart,
    "Transformer2DModel": _older,
    "WanTransformer3DModel": _wan,
    "LTXVideoTransformer3DModel": _ltx,
    "HunyuanVideoTransformer3DModel": _hunyuan,
    "CogVideoXTransformer3DModel": _cogvideo,
    "ZImageTransformer2DModel": _z_image,
}


def diffusion_read() -> list[dict[str, object]]:
    """What is read, as data: each class with its usual size, frames, text tokens, steps and passes of a step."""
    return [
        {"class": name, "size": f"{u.width}x{u.height}", "frames": u.frames, "text_tokens": u.text, "steps": u.steps,
         "passes": u.passes}
        for name, u in USUAL.items()
    ]  # fmt: skip
