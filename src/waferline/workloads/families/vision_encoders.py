"""Vision encoders: each `model_type` of a vision section is a row of `TRAITS`, what sets it apart from a plain ViT.

Sources: the modelling code of the `model_type` in huggingface/transformers (v5.24); of MoonViT in moonshotai/Kimi-VL, of
InternViT in OpenGVLab/InternVL. What a file leaves out is what the class assumes (`catalog/tower_defaults.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from waferline.errors import InvalidInputError
from waferline.workloads.class_defaults import encoder_defaults
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.streams import Grid, Matrix, Scores, Stage

_DYNAMIC_SIDE = 1024  # pixels of the standard image of an encoder that takes any size
_WIDTH = ("hidden_size", "vt_hidden_size")
_LAYERS = ("num_hidden_layers", "depth", "num_layers", "vt_num_hidden_layers")
_HEADS = ("num_attention_heads", "num_heads", "attention_heads", "vt_num_attention_heads")
_INNER = ("intermediate_size", "mlp_dim", "vt_intermediate_size")


@dataclass(frozen=True, slots=True)
class VisionTraits:
    """How a vision encoder differs from a ViT without a class token. Biases: of queries, keys and values; of the rest."""

    width: tuple[str, ...] = _WIDTH
    inner: tuple[str, ...] = _INNER
    gated: bool | str = False  # or the key that says so
    qkv_bias: bool | tuple[str, bool] = True  # or the key that says so, with its default
    key_bias: bool = True
    out_bias: bool | tuple[str, bool] = True
    mlp_bias: bool = True
    patch_bias: bool = True
    rms: bool = False  # norms without biases
    norms: int = 2  # of a layer
    scales: int = 0  # vectors that scale the outputs of a layer's parts
    qk_norm: int = 0  # norm vectors of queries and keys together, in heads' widths
    cls: int = 0  # class, register and distillation rows
    mask: int = 0  # mask tokens: stored, used in training alone
    positions: str = "table"  # of patches: "table", "none" (rotary), or the key that holds its rows
    ends: int = 1  # norms before and after all layers
    pool_head: str = ""  # key that says whether a head of attention pooling follows (SigLIP)
    frames: int = 1  # of a video that share one patch; an image is repeated
    dynamic: bool = False  # takes images of any size
    merge: tuple[str, int] = ("spatial_merge_size", 1)
    usual: int = 0  # pixels a side of the standard image, where `image_size` only says the table of positions
    full: str = ""  # key of the layers that see everything; the others see a window


_SIGLIP = VisionTraits(pool_head="vision_use_head")
_QWEN = VisionTraits(
    dynamic=True,
    usual=_DYNAMIC_SIDE,
    frames=2,
    positions="none",
    patch_bias=False,
    ends=0,
    merge=("spatial_merge_size", 2),
)
_QWEN3 = replace(_QWEN, positions="num_position_embeddings", patch_bias=True)
_DINO = VisionTraits(cls=1, mask=1, scales=2, gated="use_swiglu_ffn")
_GLM4V = replace(
    _QWEN, patch_bias=True, positions="table", rms=True, gated=True, qkv_bias=("attention_bias", False), out_bias=False,
    mlp_bias=False, inner=("out_hidden_size",), ends=2,
)  # fmt: skip
_PIXTRAL = VisionTraits(
    dynamic=True, gated=True, qkv_bias=False, out_bias=False, mlp_bias=False, patch_bias=False, rms=True,
    positions="none",
)  # fmt: skip

TRAITS: Mapping[str, VisionTraits] = {
    "clip_vision_model": VisionTraits(cls=1, ends=2, patch_bias=False),
    "siglip_vision_model": _SIGLIP,
    "siglip2_vision_model": replace(_SIGLIP, dynamic=True),
    "idefics3_vision": VisionTraits(),
    "idefics2_vision": VisionTraits(),
    "idefics2": VisionTraits(),
    "smolvlm_vision": VisionTraits(),
    "paddleocr_vl_vision": VisionTraits(dynamic=True, usual=_DYNAMIC_SIDE, merge=("spatial_merge_size", 2)),
    "phi4_multimodal_vision": _SIGLIP,
    "pixtral": _PIXTRAL,
    "qwen2_vl_vision": replace(_QWEN, width=("embed_dim",)),
    "qwen2_5_vl_vision": replace(_QWEN, gated=True, rms=True, full="fullatt_block_indexes"),
    "qwen2_5_omni_vision_encoder": replace(_QWEN, gated=True, rms=True, full="fullatt_block_indexes"),
    "qwen3_vl_vision": _QWEN3,
    "qwen3_vl_moe_vision": _QWEN3,
    "qwen3_5_vision": _QWEN3,
    "qwen3_5_moe_vision": _QWEN3,
    "qwen3_omni_moe_vision_encoder": _QWEN3,
    "ernie4_5_vl_moe_vision": replace(_QWEN, frames=1, ends=1),
    "glm4v_vision": _GLM4V,
    "glm4v_moe_vision": _GLM4V,
    "glm46v_vision": _GLM4V,
    "glm_ocr_vision": replace(
        _GLM4V, inner=_INNER, out_bias=("attention_bias", True), mlp_bias=True, positions="none", qk_norm=2, ends=1
    ),
    "kimi_k25_vision": replace(_QWEN, frames=1, patch_bias=True, positions="pos_emb_height", ends=1),
    "moonvit": replace(_QWEN, frames=1, patch_bias=True, positions="init_pos_emb_height", ends=1),
    "internvl_vision": VisionTraits(cls=1, scales=2, qkv_bias=("attention_bias", False), ends=0),
    "intern_vit_6b": VisionTraits(cls=1, scales=2, qkv_bias=("qkv_bias", True), ends=0),
    "llama4_vision_model": VisionTraits(cls=1, ends=2, patch_bias=False),
    "gemma4_vision": VisionTraits(
        dynamic=True, gated=True, qkv_bias=False, out_bias=False, mlp_bias=False, patch_bias=False, rms=True, norms=4,
        qk_norm=2, positions="position_embedding_size", ends=0, merge=("pooling_kernel_size", 3),
    ),
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "dinov3_vit": VisionTraits(
        cls=1, mask=1, scales=2, positions="none", gated="use_gated_mlp", key_bias=False
    ),
    "deit": VisionTraits(cls=2),
    "ijepa": VisionTraits(),
}  # fmt: skip


def section_of(section: Mapping[str, Any], kind: str, where: str) -> ConfigReader:
    """A section over what the class of its `kind` assumes, which it remembers."""
    if not isinstance(section, Mapping):
        raise InvalidInputError(f"a section is a mapping, not {type(section).__name__}", where=where)
    return ConfigReader({k: v for k, v in section.items() if v is not None}, where, encoder_defaults(kind))


@dataclass(frozen=True, slots=True)
class Body:
    """A vision encoder before any projector: its stages, grid, width, and merge of patches into tokens."""

    stages: tuple[Stage, ...]
    grid: Grid
    width: int


def vision_body(c: ConfigReader, t: VisionTraits) -> Body:
    """The encoder that a vision section describes.

    Raises: FileFormatError or InvalidInputError for what describes none.
    """
    t = replace(t, rms=t.rms or c.text("", "norm_type") == "rms_norm")
    width, layers, heads = c.size(*t.width), c.layers(*_LAYERS), c.size(*_HEADS)
    if width % heads:
        raise InvalidInputError(f"hidden size {width} is not a multiple of {heads} attention heads", where=c.where)
    inner = c.optional(*t.inner) or round(width * c.number(4.0, "mlp_ratio"))
    norm = width * (1 if t.rms else 2)
    grid = _grid(c, t)
    squares = (grid.height // grid.patch) * (grid.width // grid.patch)
    pixels = (
        c.size_or(3, "num_channels", "in_channels", "in_chans")
        * grid.patch**2
        * c.size_or(t.frames, "temporal_patch_size")
    )
    first = Matrix("patches", pixels, width, bias=t.patch_bias)
    rows = _positions(c, t, squares)
    if t.usual:
        grid = replace(grid, height=t.usual, width=t.usual)
    ends = (rows + grid.extra + t.mask) * width + t.ends * norm
    layer = _layer(c, t, width, inner, heads)
    stages = (Stage("embed", 1, (first,), params=ends), *_windows(c, t, layer, layers, grid))
    if t.pool_head and c.flag(True, t.pool_head):
        stages = (*stages, _pool_head(layer, width, inner, heads))
    return Body(stages, grid, width)


def _grid(c: ConfigReader, t: VisionTraits) -> Grid:
    """The grid of an image of the size that the table of positions is made for."""
    patch = _side(c, 14, "patch_size")
    side = _side(c, _DYNAMIC_SIDE if t.dynamic else 224, "image_size", "img_size")
    if t.positions == "table" and c.get("num_patches") is not None:  # SigLIP 2: any size up to so many patches
        side = patch * round(c.size("num_patches") ** 0.5)
    merge = _side(c, t.merge[1], t.merge[0], "merge_kernel_size")
    return Grid(side, side, patch, merge, t.cls + c.size_or(0, "num_register_tokens", least=0), fixed=not t.dynamic)


def _side(c: ConfigReader, default: int, *keys: str) -> int:
    """A side in pixels or patches; published files also write both sides."""
    value = c.get(*keys)
    if isinstance(value, list | tuple):
        if not value or value[0] != value[-1]:
            raise InvalidInputError(f"'{keys[0]}' must be square, not {value}", where=c.where)
        return ConfigReader({keys[0]: value[0]}, c.where).size(keys[0])
    return c.size_or(default, *keys)


def _positions(c: ConfigReader, t: VisionTraits, squares: int) -> int:
    """Rows of learned positions, those of class rows apart: they stand where the class rows do."""
    if t.positions == "none":
        return 0
    if t.positions == "table":
        return squares + t.cls
    size = c.size_or(0, t.positions, least=0)
    if t.positions.endswith("height"):  # a table of both sides
        return size * c.size_or(size, t.positions.replace("height", "width"))
    return 2 * size if t.positions == "position_embedding_size" else size  # Gemma 4: one table a side


def _told(c: ConfigReader, value: bool | tuple[str, bool]) -> bool:
    return value if isinstance(value, bool) else c.flag(value[1], value[0])


def _layer(c: ConfigReader, t: VisionTraits, width: int, inner: int, heads: int) -> Stage:
    """One layer: projections, attention, feed-forward part."""
    head_dim = c.optional("head_dim") or width // heads
    kv_heads = c.size_or(heads, "num_key_value_heads")
    queries, keys = heads * head_dim, kv_heads * head_dim
    gated = c.flag(False, t.gated) if isinstance(t.gated, str) else t.gated
    if gated and isinstance(t.gated, str) and t.gated == "use_swiglu_ffn":  # DINOv2-giant: two thirds, in eights
        inner = (int(inner * 2 / 3) + 7) // 8 * 8
    qkv_bias = _told(c, t.qkv_bias)
    matrices = (
        Matrix("qkv", width, queries + 2 * keys),
        Matrix("out", queries, width, bias=_told(c, t.out_bias), split="k"),
        Matrix("up", width, (2 if gated else 1) * inner, bias=t.mlp_bias),
        Matrix("down", inner, width, bias=t.mlp_bias, split="k"),
    )
    params = t.norms * width * (1 if t.rms else 2) + t.scales * width + t.qk_norm * head_dim
    params += qkv_bias * (queries + keys + keys * t.key_bias)
    params += 2 * queries * c.flag(False, "qk_normalization", "use_qk_norm")  # InternViT-6B
    scores = (Scores(heads, head_dim, kv_heads=kv_heads),)
    return Stage("layer", 1, matrices, scores, width=width, norms=t.norms, inner=inner, params=params)


def _windows(c: ConfigReader, t: VisionTraits, layer: Stage, layers: int, grid: Grid) -> tuple[Stage, ...]:
    """All layers, those that see a window of their own apart (Qwen2.5-VL)."""
    named = c.items(t.full) if t.full else None
    if named is None:
        return (replace(layer, count=layers),)
    full = {
        i for i in named if isinstance(i, int) and 0 <= i < layers
    }  # the class's own list may go beyond a small tower
    window = (c.size_or(112, "window_size") // grid.patch) ** 2
    near = tuple(replace(scores, window=window) for scores in layer.scores)
    parts = (
        replace(layer, count=len(full)),
        replace(layer, name="window_layer", count=layers - len(full), scores=near),
    )
    return tuple(part for part in parts if part.count)


def _pool_head(layer: Stage, width: int, inner: int, heads: int) -> Stage:
    """SigLIP's head: one learned query attends to all patches, then a feed-forward part."""
    matrices = (
        Matrix("kv", width, 2 * width, bias=True),
        Matrix("q", width, width, rows="once", bias=True),
        Matrix("out", width, width, rows="once", bias=True, split="k"),
        Matrix("up", width, inner, rows="once", bias=True),
        Matrix("down", inner, width, rows="once", bias=True, split="k"),
    )
    scores = (Scores(heads, width // heads, queries="once"),)
    return replace(layer, name="pool", matrices=matrices, scores=scores, rows="once", norms=1, params=3 * width)
