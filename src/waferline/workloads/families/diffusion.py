"""Diffusion transformers of images: each `_class_name` of a diffusers `transformer/config.json` becomes layers over streams.

Sources: the class of that name in huggingface/diffusers (v0.42), and its pipeline for usual steps, sizes, text lengths and
classifier-free guidance. What a file leaves out is the class's default.
"""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families import diffusion_video
from waferline.workloads.families.common import Family
from waferline.workloads.families.diffusion_layers import (
    TIME,
    USUAL,
    across,
    double,
    ends_of,
    net,
    once,
    single,
    sizes,
    stream,
)
from waferline.workloads.streams import Matrix, Scores, Stage, StreamNet


def _flux(c: ConfigReader) -> StreamNet:
    """FLUX.1: double layers, then single ones; `guidance_embeds` says dev, without it schnell, made for 4 steps."""
    d, _, head_dim = sizes(c, 24, 128)
    pixels, guided = c.size_or(64, "in_channels"), c.flag(False, "guidance_embeds")
    vectors = (*once("time", TIME, d, d), *once("pooled", c.size_or(768, "pooled_projection_dim"), d, d))
    guidance = once("guidance", TIME, d, d) if guided else ()
    ends = ends_of(
        pixels, d, c.size_or(4096, "joint_attention_dim"), c.size_or(pixels, "out_channels"),
        *vectors, *guidance, *once("final_mod", d, 2 * d),
    )  # fmt: skip
    stages = (
        ends,
        double(c.size_or(19, "num_layers"), d, head_dim, 4 * d),
        single(c.size_or(38, "num_single_layers"), d, head_dim, 4 * d),
    )
    usual = USUAL["FluxTransformer2DModel"]
    return net(stages, usual.grid(2), usual, steps=0 if guided else 4)


def _chroma(c: ConfigReader) -> StreamNet:
    """Chroma: FLUX whose modulations all come from one small network."""
    d, _, head_dim = sizes(c, 24, 128)
    pixels, inner = c.size_or(64, "in_channels"), c.size_or(5120, "approximator_hidden_dim")
    layers = c.size_or(5, "approximator_layers")
    doubles, singles = c.size_or(19, "num_layers"), c.size_or(38, "num_single_layers")
    vectors = (
        *once("approximate", c.size_or(64, "approximator_num_channels"), inner),
        Matrix("approximator", inner, inner, rows="vectors", bias=True, count=2 * layers),
        Matrix("approximated", inner, d, rows="vectors", bias=True),
    )
    ends = ends_of(pixels, d, c.size_or(4096, "joint_attention_dim"), pixels, *vectors, params=layers * inner)
    usual = USUAL["ChromaTransformer2DModel"]
    stages = (
        ends, double(doubles, d, head_dim, 4 * d, modulated=False), single(singles, d, head_dim, 4 * d, modulated=False)
    )  # fmt: skip
    grid = replace(usual.grid(2), vectors=3 * singles + 12 * doubles + 2)
    return net(stages, grid, usual)


def _flux2(c: ConfigReader) -> StreamNet:
    """FLUX.2: gated parts, no biases, modulations that all layers share."""
    d, _, head_dim = sizes(c, 48, 128)
    pixels, guided = c.size_or(128, "in_channels"), c.flag(True, "guidance_embeds")
    inner, plain = round(d * c.number(3.0, "mlp_ratio")), {"bias": False, "gated": True}
    vectors = (
        *once("time", TIME, d, d, bias=False),
        *(once("guidance", TIME, d, d, bias=False) if guided else ()),
        *once("mod", d, 15 * d, bias=False),  # six vectors of each stream, three of single layers
        *once("final_mod", d, 2 * d, bias=False),
    )
    usual = USUAL["Flux2Transformer2DModel"]
    stages = (
        ends_of(pixels, d, c.size_or(15360, "joint_attention_dim"), pixels, *vectors, bias=False),
        double(c.size_or(8, "num_layers"), d, head_dim, inner, modulated=False, **plain),
        single(c.size_or(48, "num_single_layers"), d, head_dim, inner, modulated=False, **plain),
    )
    return net(stages, usual.grid(2), usual, steps=0 if guided else 4)


def _qwen_image(c: ConfigReader) -> StreamNet:
    """Qwen-Image: double layers alone."""
    d, _, head_dim = sizes(c, 24, 128)
    text, patch = c.size_or(3584, "joint_attention_dim"), c.size_or(2, "patch_size")
    out = patch**2 * c.size_or(16, "out_channels")
    extra = (*once("time", TIME, d, d), *once("final_mod", d, 2 * d))
    usual = USUAL["QwenImageTransformer2DModel"]
    stages = (
        ends_of(c.size_or(64, "in_channels"), d, text, out, *extra, params=text),
        double(c.size_or(60, "num_layers"), d, head_dim, 4 * d),
    )
    return net(stages, usual.grid(patch), usual)


def _sd3(c: ConfigReader) -> StreamNet:
    """Stable Diffusion 3 and 3.5: double layers, the last of which leaves the text; in some, patches attend twice."""
    d, heads, head_dim = sizes(c, 18, 64)
    layers, patch = c.size_or(18, "num_layers"), c.size_or(2, "patch_size")
    channels, text = c.size_or(16, "in_channels"), c.size_or(d, "caption_projection_dim")
    normed = c.get("qk_norm") is not None
    twice = len(c.indices("dual_attention_layers", layers) or ())
    one = replace(double(1, d, head_dim, 4 * d), params=4 * head_dim * normed)
    last = tuple(
        replace(m, n=2 * d) if m.name == "text_mod0" else m
        for m in one.matrices
        if m.name not in ("text_out", "text_up", "text_down")
    )
    again = (
        Matrix("again_qkv", d, 3 * d, bias=True),
        Matrix("again_out", d, d, bias=True, split="k"),
        *once("again_mod", d, 3 * d),
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
        *once("time", TIME, d, d),
        *once("pooled", c.size_or(2048, "pooled_projection_dim"), d, d),
        *once("final_mod", d, 2 * d),
    )
    ends = ends_of(
        channels * patch**2, d, 0, c.size_or(16, "out_channels") * patch**2,
        Matrix("text", c.size_or(4096, "joint_attention_dim"), text, rows="text", bias=True), *extra,
    )  # fmt: skip
    usual = USUAL["SD3Transformer2DModel"]
    parts = (ends, replace(one, count=layers - 1 - twice), dual, replace(one, name="last", matrices=last))
    return net(tuple(s for s in parts if s.count), usual.grid(patch), usual)


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
    d, heads, _ = sizes(c, 16, 72)
    side, patch = c.size_or(128, "sample_size"), c.size_or(2, "patch_size")
    third = d // 3
    extra = (*once("time", TIME, d, d), *once("mod", d, 6 * d))
    if c.flag(side == 128, "use_additional_conditions"):  # resolution and aspect ratio
        extra += (*once("resolution", TIME, third, third), *once("aspect", TIME, third, third))
    caption = c.optional("caption_channels")
    if caption:
        extra += (Matrix("text0", caption, d, rows="text", bias=True), Matrix("text1", d, d, rows="text", bias=True))
    usual = USUAL[name]
    ends = ends_of(
        c.size_or(4, "in_channels") * patch**2, d, 0, c.size_or(8, "out_channels") * patch**2, *extra, params=2 * d
    )
    layer = across(c.size_or(28, "num_layers"), d, heads, 4 * d, c.size_or(d, "cross_attention_dim"), 6 * d)
    grid = replace(usual.grid(patch), height=side * usual.pixels, width=side * usual.pixels)
    return net((ends, layer), grid, usual)


def _hunyuan_dit(c: ConfigReader) -> StreamNet:
    """HunyuanDiT: layers whose modulation only shifts; those after the middle are joined by what an early one left."""
    d, heads, head_dim = sizes(c, 16, 88)
    patch, channels = c.size_or(2, "patch_size"), c.size_or(4, "in_channels")
    text, long = c.size_or(1024, "cross_attention_dim"), c.size_or(2048, "cross_attention_dim_t5")
    pooled, tokens = c.size_or(1024, "pooled_projection_dim"), c.size_or(256, "text_len_t5")
    styled = c.flag(True, "use_style_cond_and_image_meta_size")
    told = pooled + styled * (6 * TIME + d)  # with the image's size and style until 1.1
    extra = (
        Matrix("text0", long, 4 * long, rows="text", bias=True),
        Matrix("text1", 4 * long, text, rows="text", bias=True),
        Matrix("pool_kv", long, 2 * long, rows="text", bias=True),
        *once("pool_q", long, long),
        *once("pool_out", long, pooled),
        *once("time", TIME, d, d),
        *once("told", told, 4 * d, d),
        *once("final_mod", d, 2 * d),
    )
    tables = (c.size_or(77, "text_len") + tokens) * text + (tokens + 1) * long + styled * d
    ends = ends_of(
        channels * patch**2, d, 0, channels * (1 + c.flag(True, "learn_sigma")) * patch**2, *extra, params=tables
    )
    layers, inner = c.size_or(28, "num_layers"), int(d * c.number(4.0, "mlp_ratio"))
    joined = layers - layers // 2 - 1
    layer = across(layers - joined, d, heads, inner, text, 6 * d + 8 * head_dim, once("mod", d, d))
    skip = replace(
        layer,
        name="joined",
        count=joined,
        matrices=(*layer.matrices, Matrix("join", 2 * d, d, bias=True)),
        norms=layer.norms + 2,
        params=layer.params + 4 * d,
    )
    usual = USUAL["HunyuanDiT2DModel"]
    return net(tuple(s for s in (ends, layer, skip) if s.count), usual.grid(patch), usual)


def _sana(c: ConfigReader) -> StreamNet:
    """Sana: linear attention among patches of 32 pixels a side, and a gated feed-forward part with a depthwise convolution."""
    d, heads, head_dim = sizes(c, 70, 32)
    crossed = c.size_or(20, "num_cross_attention_heads"), c.size_or(112, "cross_attention_head_dim")
    text, patch = c.size_or(2240, "cross_attention_dim"), c.size_or(1, "patch_size")
    caption, inner = c.size_or(2304, "caption_channels"), int(d * c.number(2.5, "mlp_ratio"))
    wide, bias = crossed[0] * crossed[1], c.flag(False, "attention_bias")
    normed, guided = c.get("qk_norm") is not None, c.flag(False, "guidance_embeds")
    matrices = (
        Matrix("qkv", d, 3 * d, bias=bias),
        Matrix("out", d, d, bias=True, split="k"),
        Matrix("cross_q", d, wide, bias=True),
        Matrix("cross_kv", text, 2 * wide, rows="text", bias=True),
        Matrix("cross_out", wide, d, bias=True, split="k"),
        Matrix("up", d, 2 * inner, bias=True),
        Matrix("depthwise", 9, 2 * inner, bias=True),  # nine taps of each channel
        Matrix("down", inner, d, split="k"),
    )
    # A state of head_dim x head_dim takes as many multiplications of a row as so many keys.
    scores = (Scores(heads, head_dim, window=head_dim), Scores(*crossed, keys="text"))
    params = 6 * d + (2 * d + 2 * wide) * normed
    layer = Stage("layer", c.size_or(20, "num_layers"), matrices, scores, "patch", d, 2, 2 * inner, params)
    extra = (
        *once("time", TIME, d, d),
        *(once("guidance", TIME, d, d) if guided else ()),
        *once("mod", d, 6 * d),
        Matrix("text0", caption, d, rows="text", bias=True),
        Matrix("text1", d, d, rows="text", bias=True),
    )
    ends = ends_of(
        c.size_or(32, "in_channels") * patch**2, d, 0, c.size_or(32, "out_channels") * patch**2, *extra, params=3 * d
    )
    usual = USUAL["SanaTransformer2DModel"]
    return net((ends, layer), usual.grid(patch), usual)


def _z_image(c: ConfigReader) -> StreamNet:
    """Z-Image: one stream of all rows, after layers that refine patches and text apart."""
    d, heads, time = c.size_or(3840, "dim"), c.size_or(30, "n_heads"), TIME
    head_dim, inner, refine = d // heads, d * 8 // 3, c.size_or(2, "n_refiner_layers")
    text, channels = c.size_or(2560, "cap_feat_dim"), c.size_or(16, "in_channels")

    def layer(name: str, count: int, rows: str, modulated: bool) -> Stage:
        modulation = once("mod", time, 4 * d) if modulated else ()
        matrices = (*stream("", rows, d, inner, bias=False, gated=True), *modulation)
        scores = (Scores(heads, head_dim, rows, rows),)
        return Stage(name, count, matrices, scores, rows, d, 4, inner, params=4 * d + 2 * head_dim)

    pixels = channels * 4
    extra = (*once("time", time, 4 * time, time), *once("final_mod", time, d))
    stages = (
        ends_of(pixels, d, text, pixels, *extra, params=2 * d + text),
        layer("refine_image", refine, "patch", True),
        layer("refine_text", refine, "text", False),
        layer("layer", c.size_or(30, "n_layers"), "joint", True),
    )
    usual = USUAL["ZImageTransformer2DModel"]
    return net(stages, usual.grid(2), usual)


FAMILIES: dict[str, Family] = {
    **diffusion_video.FAMILIES,
    "FluxTransformer2DModel": _flux,
    "ChromaTransformer2DModel": _chroma,
    "Flux2Transformer2DModel": _flux2,
    "QwenImageTransformer2DModel": _qwen_image,
    "SD3Transformer2DModel": _sd3,
    "PixArtTransformer2DModel": _pixart,
    "HunyuanDiT2DModel": _hunyuan_dit,
    "SanaTransformer2DModel": _sana,
    "Transformer2DModel": _older,
    "ZImageTransformer2DModel": _z_image,
}
