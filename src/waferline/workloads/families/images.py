"""Image encoders by themselves: those of `vision_encoders` without a decoder, CLIP and SigLIP with their text, Swin.

Sources: the modelling code of the `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from waferline.errors import InvalidInputError
from waferline.workloads.config_reader import MAX_LAYERS, ConfigReader
from waferline.workloads.families.common import Family, classes
from waferline.workloads.families.vision_encoders import TRAITS, section_of, vision_body
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet

_ALONE = (
    "clip_vision_model",
    "siglip_vision_model",
    "siglip2_vision_model",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "deit",
    "ijepa",
    "internvl_vision",
    "pixtral",
)


def _encoder(c: ConfigReader, kind: str) -> StreamNet:
    """A vision encoder whose outputs are its embeddings."""
    body = vision_body(c, TRAITS[kind])
    return StreamNet(stages=body.stages, grid=body.grid)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image encoder trained with a text encoder: sections' classes, and whether both outputs are projected (CLIP)."""

    vision: str
    text: str
    projected: bool
    scalars: int  # temperature and bias


PAIRS: Mapping[str, Pair] = {
    "clip": Pair("clip_vision_model", "clip_text_model", projected=True, scalars=1),
    "siglip": Pair("siglip_vision_model", "siglip_text_model", projected=False, scalars=2),
    "siglip2": Pair("siglip2_vision_model", "siglip2_text_model", projected=False, scalars=2),
}


def _pair(c: ConfigReader, pair: Pair) -> StreamNet:
    """One pass is one image and one text of the full length."""
    v = section_of(c.get("vision_config") or {}, pair.vision, f"{c.where}: vision_config")
    t = section_of(c.get("text_config") or {}, pair.text, f"{c.where}: text_config")
    body = vision_body(v, TRAITS[pair.vision])
    d, heads, inner = t.size("hidden_size"), t.size("num_attention_heads"), t.size("intermediate_size")
    if d % heads:
        raise InvalidInputError(f"hidden size {d} is not a multiple of {heads} attention heads", where=t.where)
    length = t.size("max_position_embeddings")
    matrices = (
        Matrix("qkv", d, 3 * d, rows="text", bias=True),
        Matrix("out", d, d, rows="text", bias=True, split="k"),
        Matrix("up", d, inner, rows="text", bias=True),
        Matrix("down", inner, d, rows="text", bias=True, split="k"),
    )
    scores = (Scores(heads, d // heads, "text", "text"),)
    layers = t.layers("num_hidden_layers")
    text = Stage("text", layers, matrices, scores, rows="text", width=d, norms=2, inner=inner, params=4 * d)
    tables = Stage("text_ends", params=(t.size("vocab_size") + length) * d + 2 * d + pair.scalars)
    last: tuple[Matrix, ...]
    if pair.projected:
        out = c.size_or(512, "projection_dim")
        last = (Matrix("image", body.width, out, rows="once"), Matrix("text", d, out, rows="once"))
    else:
        last = (Matrix("text", d, t.size_or(d, "projection_size"), rows="once", bias=True),)
    project = Stage("project", 1, last)
    for part, name in ((v, "vision_config"), (t, "text_config")):
        c.assumed.update({f"{name}.{key}": value for key, value in part.assumed.items()})
    return StreamNet(stages=(*body.stages, tables, text, project), grid=replace(body.grid, text=length))


def _swin(c: ConfigReader) -> StreamNet:
    """Swin: windows that shift, and a quarter of the patches at twice the width from stage to stage (arXiv:2103.14030)."""
    width, patch, side = c.size("embed_dim"), c.size_or(4, "patch_size"), c.size_or(224, "image_size")
    window, ratio = c.size_or(7, "window_size"), c.number(4.0, "mlp_ratio")
    depths, heads = c.items("depths") or (2, 2, 6, 2), c.items("num_heads") or (3, 6, 12, 24)
    if len(depths) != len(heads) or len(depths) > len(_QUARTERED):
        raise InvalidInputError("a Swin needs as many 'num_heads' as 'depths', at most four", where=c.where)
    bias, stages = c.flag(True, "qkv_bias"), []
    pixels = c.size_or(3, "num_channels") * patch**2
    stages.append(
        Stage("embed", 1, (Matrix("patches", pixels, width, bias=True),), width=width, norms=1, params=2 * width)
    )
    for i, rows in enumerate(_QUARTERED[: len(depths)]):
        each = ConfigReader({"depths": depths[i], "num_heads": heads[i]}, c.where)
        stages.append(_swin_stage(i + 1, each, rows, width * 2**i, window, ratio, bias))
        if i + 1 < len(depths):
            d = width * 2**i
            merge = Matrix("merge", 4 * d, 2 * d, rows=_QUARTERED[i + 1])
            stages.append(
                Stage(f"merge{i + 1}", 1, (merge,), rows=_QUARTERED[i + 1], width=4 * d, norms=1, params=8 * d)
            )
    last = width * 2 ** (len(depths) - 1)
    head = Matrix("head", last, classes(c), rows="once", bias=True)
    stages.append(Stage("head", 1, (head,), rows=_QUARTERED[len(depths) - 1], width=last, norms=1, params=2 * last))
    return StreamNet(stages=tuple(stages), grid=Grid(side, side, patch, fixed=True))


_QUARTERED = ("patch", "patch4", "patch16", "patch64")


def _swin_stage(i: int, c: ConfigReader, rows: str, d: int, window: int, ratio: float, bias: bool) -> Stage:
    heads, inner = c.size("num_heads"), round(d * ratio)
    matrices = (
        Matrix("qkv", d, 3 * d, rows=rows, bias=bias),
        Matrix("out", d, d, rows=rows, bias=True, split="k"),
        Matrix("up", d, inner, rows=rows, bias=True),
        Matrix("down", inner, d, rows=rows, bias=True, split="k"),
    )
    scores = (Scores(heads, max(d // heads, 1), rows, rows, window=window**2),)
    params = 4 * d + (2 * window - 1) ** 2 * heads
    depth = c.size("depths", most=MAX_LAYERS)
    return Stage(f"stage{i}", depth, matrices, scores, rows, d, 2, inner, params)


FAMILIES: dict[str, Family] = {
    **{kind: partial(_encoder, kind=kind) for kind in _ALONE},
    **{kind: partial(_pair, pair=pair) for kind, pair in PAIRS.items()},
    "swin": _swin,
}
