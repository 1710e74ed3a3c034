"""Diffusion transformers of videos: Wan, LTX-Video, HunyuanVideo, CogVideoX.

Sources: the class of that name in huggingface/diffusers (v0.42). What a file leaves out is the class's default.
"""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import UnsupportedError
from waferline.workloads.config_reader import ConfigReader
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


def _wan(c: ConfigReader) -> StreamNet:
    """Wan 2.1 and 2.2: one modulation for all layers; models of image to video also attend to the image."""
    d, heads, _ = sizes(c, 40, 128)
    sides = c.items("patch_size", length=3) or (1, 2, 2)
    steps = ConfigReader(dict(zip("thw", sides, strict=True)), c.where)
    t, h, w = (steps.size(k) for k in "thw")
    if h != w:
        raise UnsupportedError(f"patches of {h} x {w} are not square", where=c.where)
    channels, text = c.size_or(16, "in_channels"), c.size_or(4096, "text_dim")
    extra = (
        *once("time", c.size_or(TIME, "freq_dim"), d, d),
        *once("mod", d, 6 * d),
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
    layer = across(
        c.size_or(40, "num_layers"), d, heads, c.size_or(13824, "ffn_dim"), d, 10 * d + crossed + d * bool(more), more
    )
    usual = USUAL["WanTransformer3DModel"]
    if channels == 48:  # the 5B model's autoencoder: 16 pixels a side
        usual = replace(usual, pixels=16)
    ends = ends_of(channels * t * h * w, d, 0, c.size_or(16, "out_channels") * t * h * w, *extra, params=2 * d + norms)
    grid = replace(usual.grid(h), frame_stride=usual.frame_stride * t)
    return net((ends, layer), grid, usual)


def _ltx(c: ConfigReader) -> StreamNet:
    """LTX-Video: PixArt's layers over latents that need no patches."""
    d, heads, _ = sizes(c, 32, 64)
    caption = c.size_or(4096, "caption_channels")
    extra = (
        *once("time", TIME, d, d),
        *once("mod", d, 6 * d),
        Matrix("text0", caption, d, rows="text", bias=True),
        Matrix("text1", d, d, rows="text", bias=True),
    )
    channels = c.size_or(128, "in_channels")
    ends = ends_of(channels, d, 0, c.size_or(channels, "out_channels"), *extra, params=2 * d)
    text = c.size_or(2048, "cross_attention_dim")
    layer = across(c.size_or(28, "num_layers"), d, heads, 4 * d, text, 6 * d + 4 * d)
    usual = USUAL["LTXVideoTransformer3DModel"]
    return net((ends, layer), usual.grid(1), usual)


def _hunyuan(c: ConfigReader) -> StreamNet:
    """HunyuanVideo: FLUX's layers over a video, after a refiner of the text."""
    d, heads, head_dim = sizes(c, 24, 128)
    patch, channels = c.size_or(2, "patch_size"), c.size_or(16, "in_channels")
    text, inner = c.size_or(4096, "text_embed_dim"), round(d * c.number(4.0, "mlp_ratio"))
    extra = (
        *once("time", TIME, d, d),
        *once("pooled", c.size_or(768, "pooled_projection_dim"), d, d),
        *(once("guidance", TIME, d, d) if c.flag(True, "guidance_embeds") else ()),
        *once("text_time", TIME, d, d),
        *once("text_pooled", text, d, d),
        *once("final_mod", d, 2 * d),
    )
    refiner = Stage(
        "refine",
        c.size_or(2, "num_refiner_layers"),
        (*stream("", "text", d, inner), *once("mod", d, 2 * d)),
        (Scores(heads, head_dim, "text", "text"),),
        rows="text",
        width=d,
        norms=2,
        inner=inner,
        params=4 * d,
    )
    stages = (
        ends_of(channels * patch**2, d, text, c.size_or(16, "out_channels") * patch**2, *extra),
        refiner,
        double(c.size_or(20, "num_layers"), d, head_dim, inner),
        single(c.size_or(40, "num_single_layers"), d, head_dim, inner),
    )
    usual = USUAL["HunyuanVideoTransformer3DModel"]
    return net(stages, usual.grid(patch), usual)


def _cogvideo(c: ConfigReader) -> StreamNet:
    """CogVideoX: text and patches share weights, not modulations. Patches of 1.5 take several latent frames."""
    d, heads, head_dim = sizes(c, 30, 64)
    patch, deep, channels = c.size_or(2, "patch_size"), c.optional("patch_size_t"), c.size_or(16, "in_channels")
    time, shift = c.size_or(512, "time_embed_dim"), c.optional("ofs_embed_dim")
    pixels = patch**2 * (deep or 1)
    inner = 4 * d
    modulation = (*once("mod", time, 6 * d), *once("ffn_mod", time, 6 * d))
    layer = Stage(
        "layer",
        c.size_or(30, "num_layers"),
        (*stream("", "joint", d, inner), *modulation),
        (Scores(heads, head_dim, "joint", "joint"),),
        rows="joint",
        width=d,
        norms=2,
        inner=inner,
        params=4 * d + 4 * head_dim,
    )
    extra = (
        *once("time", d, time, time),
        *once("final_mod", time, 2 * d),
        *(once("shift", shift, shift, shift) if shift else ()),
    )
    usual = USUAL["CogVideoXTransformer3DModel"]
    ends = ends_of(
        channels * pixels, d, c.size_or(4096, "text_embed_dim"), c.size_or(16, "out_channels") * pixels, *extra,
        params=4 * d,
    )  # fmt: skip
    grid = usual.grid(patch)
    if deep:  # its pipeline makes larger and longer videos
        grid = replace(grid, width=1360, height=768, frames=81, frame_stride=usual.frame_stride * deep)
    return net((ends, layer), grid, usual)


FAMILIES: dict[str, Family] = {
    "WanTransformer3DModel": _wan,
    "LTXVideoTransformer3DModel": _ltx,
    "HunyuanVideoTransformer3DModel": _hunyuan,
    "CogVideoXTransformer3DModel": _cogvideo,
}
