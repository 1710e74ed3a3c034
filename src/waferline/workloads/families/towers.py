"""Towers of multimodal models: which encoder, which projector, and how many tokens an image or a clip becomes.

Every `model_type` is a row of `VISION` or `AUDIO`, with what its row assumes in words: the public list of what is read.
Sources: modelling and processing code of the `model_type` in huggingface/transformers (v5.24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from waferline.workloads.class_defaults import assumed_notes, release
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families import projectors as to
from waferline.workloads.families.audio_encoders import AUDIO_ENCODERS, audio_tower
from waferline.workloads.families.conformers import CONFORMERS, conformer_tower
from waferline.workloads.families.mllama import mllama_tower
from waferline.workloads.families.mobilenet import ASSUMES, mobilenet_tower
from waferline.workloads.families.vision_encoders import TRAITS, section_of, vision_body
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import Stage, StreamNet, Tower

_DYNAMIC = "any size, in squares of patches; 1024x1024 when nobody says"
_FIXED = "scaled to the encoder's size"


@dataclass(frozen=True, slots=True)
class Sight:
    """How a multimodal model sees: its projector and its rule of tokens.

    vision, text: `model_type` of the vision section and of the decoder where the file does not say. merge: key of the whole
    configuration that says how many patches a side make a token, with its default. cut: pieces a side at the standard size,
    and the most in all (0: whole). row_ends: tokens that end a row. pooled: key (and default) of the tokens that a piece is
    pooled to. most: the same, at most.
    """

    project: to.Projector
    vision: str
    text: str
    assumes: str
    merge: tuple[str, int] | None = None
    cut: tuple[int, int] = (1, 0)
    row_ends: int = 0
    pooled: tuple[str, int] | None = None
    most: tuple[str, int] | None = None


_LLAVA = Sight(to.mlp, "clip_vision_model", "llama", _FIXED)
_QWEN2 = Sight(to.merger, "qwen2_vl_vision", "qwen2", _DYNAMIC)
_QWEN25 = Sight(to.rms_merger, "qwen2_5_vl_vision", "qwen2", _DYNAMIC)
_QWEN3 = Sight(to.deepstack, "qwen3_vl_vision", "qwen3", _DYNAMIC)
_QWEN35 = Sight(to.merger, "qwen3_5_vision", "qwen3_5_text", _DYNAMIC)
_GLM = Sight(to.downsample, "glm4v_vision", "glm4v_text", _DYNAMIC)
_IDEFICS = Sight(
    to.linear, "idefics3_vision", "llama", "cut into 4x4 pieces and a thumbnail", merge=("scale_factor", 2), cut=(4, 16)
)
_INTERN = "cut into pieces (12 at most) and a thumbnail; 2x2 when nobody says"
_PHI4 = Sight(
    to.hd_mlp,
    "phi4_multimodal_vision",
    "phi3",
    "2x2 pieces of 36 at most, and a thumbnail",
    merge=("crop_merge", 2),
    cut=(2, 36),
)
_KIMI = Sight(to.merger, "moonvit", "deepseek_v3", _DYNAMIC)

VISION: Mapping[str, Sight] = {
    "llava": _LLAVA,
    "llava_next": Sight(
        to.newline, "clip_vision_model", "llama", "2x2 pieces and a thumbnail; separators not counted", cut=(2, 4)
    ),
    "llava_onevision": Sight(
        to.newline, "siglip_vision_model", "qwen2", "2x2 pieces of 9 at most, and a thumbnail; separators not counted", cut=(2, 9)
    ),
    "vipllava": Sight(to.many_layers, "clip_vision_model", "llama", _FIXED),
    "deepseek_vl": Sight(to.mlp, "siglip_vision_model", "llama", _FIXED),
    "mistral3": Sight(
        to.patch_merger, "pixtral", "mistral", "the encoder's largest size; a token ends each row",
        merge=("spatial_merge_size", 2), row_ends=1,
    ),
    "paligemma": Sight(to.biased, "siglip_vision_model", "gemma", _FIXED),
    "gemma3": Sight(
        to.gemma, "siglip_vision_model", "gemma3_text", "scaled to the encoder's size and pooled",
        pooled=("mm_tokens_per_image", 256),
    ),
    "gemma4": Sight(
        to.plain, "gemma4_vision", "gemma4_text", "pooled patches, 280 tokens at most", most=("vision_soft_tokens_per_image", 280)
    ),
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN25,
    "qwen2_5_omni_thinker": replace(_QWEN25, vision="qwen2_5_omni_vision_encoder"),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": replace(_QWEN3, text="qwen3_moe"),
    "qwen3_omni_moe_thinker": replace(_QWEN3, vision="qwen3_omni_moe_vision_encoder", text="qwen3_moe"),
    "qwen3_5": _QWEN35,
    "qwen3_5_moe": replace(_QWEN35, text="qwen3_5_moe_text"),
    "glm4v": _GLM,
    "glm4v_moe": replace(_GLM, text="glm4_moe"),
    "glm46v": _GLM,
    "glm_ocr": replace(_GLM, vision="glm_ocr_vision"),
    "ernie4_5_vl_moe": Sight(to.resampler, "ernie4_5_vl_moe_vision", "ernie4_5_moe", _DYNAMIC),
    "ernie4_5_moe_vl": Sight(to.resampler, "ernie4_5_vl_moe_vision", "ernie4_5_moe", _DYNAMIC),
    "idefics3": _IDEFICS,
    # Published checkpoints merge 4 patches a side; the class says 2, and they all write it.
    "smolvlm": replace(_IDEFICS, vision="smolvlm_vision", merge=("scale_factor", 4)),
    "internvl": Sight(to.normed_mlp, "internvl_vision", "qwen2", _INTERN, merge=("downsample_ratio", 2), cut=(2, 12)),
    "internvl_chat": Sight(to.normed_mlp, "intern_vit_6b", "internlm2", _INTERN, merge=("downsample_ratio", 2), cut=(2, 12)),
    "llama4": Sight(
        to.shuffle, "llama4_vision_model", "llama4_text", "2x2 pieces of 16 at most, and a thumbnail", merge=("pixel_shuffle", 2),
        cut=(2, 16),
    ),
    "cohere2_vision": Sight(to.swiglu, "siglip_vision_model", "cohere2", _INTERN, merge=("downsample_factor", 2), cut=(2, 12)),
    "aya_vision": Sight(to.normed_swiglu, "siglip_vision_model", "cohere2", _INTERN, merge=("downsample_factor", 2), cut=(2, 12)),
    "lfm2_vl": Sight(
        to.lfm, "siglip2_vision_model", "lfm2", "256 patches of the encoder, 2x2 a token", merge=("downsample_factor", 2)
    ),
    "phi4mm": _PHI4,
    "phi4_multimodal": _PHI4,
    "kimi_vl": _KIMI,
    "kimi_k25": replace(_KIMI, vision="kimi_k25_vision", text="kimi_k2"),
    "paddleocr_vl": Sight(to.merger, "paddleocr_vl_vision", "ernie4_5", _DYNAMIC),
}  # fmt: skip

# Audio encoder of each multimodal model, where its section does not name one.
HEARS: Mapping[str, str] = {
    "qwen2_audio": "qwen2_audio_encoder",
    "qwen2_5_omni_thinker": "qwen2_5_omni_audio_encoder",
    "voxtral": "voxtral_encoder",
    "audioflamingo3": "audioflamingo3_encoder",
    "gemma3n": "gemma3n_audio",
    "gemma4": "gemma4_audio",
    "phi4_multimodal": "phi4_multimodal_audio",
    "phi4mm": "phi4_multimodal_audio",
}
# Parts of a key that speak of a tower: `visual`, `img_processor`, `speech_config`.
_WORDS = ("vision", "visual", "image_", "img_", "audio", "speech", "vit_")
# Models whose own code builds both towers without a section that says so.
_UNSAID = ("phi4mm",)
# Decoder of each multimodal model, where its file does not name one.
TEXT: Mapping[str, str] = {
    **{name: sight.text for name, sight in VISION.items()},
    "mllama": "mllama_text_model",
    "qwen2_audio": "qwen2",
    "voxtral": "llama",
    "audioflamingo3": "qwen2",
    "glm_ocr_text": "glm4",
    "paddleocr_vl_text": "ernie4_5",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_omni_moe_text": "qwen3_moe",
}


def with_towers(spec: Transformer, data: Mapping[str, Any], where: str) -> Transformer:
    """`spec` with the towers that the whole configuration `data` describes, and what of them is not counted said."""
    top = str(data.get("model_type"))
    towers: list[Tower] = []
    unread, notes = list[str](), list[str]()
    for key, reader in (("vision_config", _vision), ("audio_config", _audio)):
        section = data.get(key, {} if top in _UNSAID else None)
        if not isinstance(section, Mapping) or (not section and top not in VISION):
            continue
        found = reader(top, section, data, spec, f"{where}: {key}")
        if found is None:
            kind = section.get("model_type") or section.get("architecture") or "of a kind that is not said"
            unread.append(f"the {key.split('_')[0]} tower ({kind}, in {top})")
        else:
            tower, c = found
            towers.append(tower)
            notes += assumed_notes(c.assumed, key, f"{release()} assumes")
    unread += [] if top in _UNSAID else _elsewhere(data, top, bool(towers or unread))
    if top == "phi4mm":
        towers = [_with_adapter(tower, data, where) for tower in towers]
    metadata = dict(spec.metadata)
    if unread:
        metadata["not_counted"] = " and ".join(unread)
    elif towers:
        metadata.pop("not_counted", None)
    return replace(spec, towers=tuple(towers), metadata=metadata, notes=(*spec.notes, *notes))


def _with_adapter(tower: Tower, data: Mapping[str, Any], where: str) -> Tower:
    """Phi-4 multimodal's own files: the decoder has a low-rank adapter of each matrix for vision, and one for speech."""
    key = "vision_lora" if tower.kind == "image" else "speech_lora"
    section, c = data.get(key), ConfigReader(data, where)
    if not isinstance(section, Mapping):
        return tower
    rank, d = ConfigReader(section, f"{where}: {key}").size("r"), c.size("hidden_size")
    heads, inner = c.size("num_attention_heads"), c.size("intermediate_size")
    qkv = d + 2 * d // heads * c.size_or(heads, "num_key_value_heads")
    widths = (d + qkv) + 2 * d + (d + 2 * inner) + (inner + d)
    adapter = Stage("adapter", params=c.layers("num_hidden_layers") * rank * widths)
    return replace(tower, net=replace(tower.net, stages=(*tower.net.stages, adapter)))


def _elsewhere(data: Mapping[str, Any], top: str, found: bool) -> list[str]:
    """Towers that a file means and does not describe in a section that is read: under another key, by name, or not at all."""
    known = ("vision_config", "audio_config")
    other = [
        k
        for k, v in data.items()
        if isinstance(v, Mapping) and k not in known and "lora" not in k and any(w in k for w in _WORDS)
    ]
    named = [k for k in ("mm_vision_tower", "vision_tower") if isinstance(data.get(k), str)]
    if other or named:
        return [f"the tower under '{key}'" for key in (*other, *named)]
    sees = top in VISION or top in HEARS or top in ("mllama", "gemma3n")
    return [f"the towers of {top}, of which the file has no section"] if sees and not found else []


# Models whose towers are built in one piece: the class of the section, and its reader.
_APART: Mapping[str, tuple[str, Callable[[ConfigReader, Transformer], Tower | None]]] = {
    "mllama": ("mllama_vision_model", mllama_tower),
    "gemma3n": ("gemma3n_vision", mobilenet_tower),
}


def _vision(
    top: str, section: Mapping[str, Any], data: Mapping[str, Any], spec: Transformer, where: str
) -> tuple[Tower, ConfigReader] | None:
    if top in _APART:
        name, made = _APART[top]
        c = section_of(section, name, where)
        tower = made(c, spec)
        return None if tower is None else (tower, c)
    sight = VISION.get(top)
    if sight is None:
        return None
    kind = section.get("model_type")
    kind = sight.vision if kind in (None, top) else str(kind)
    traits = TRAITS.get(kind)
    if traits is None:
        return None
    c, whole = section_of(section, kind, where), ConfigReader(data, where)
    body = vision_body(c, traits)
    merge = body.grid.merge
    if sight.merge is not None:
        key, usual = sight.merge
        merge = usual if key == "downsample_ratio" and whole.get(key) is None else _merge(whole, key, usual)
        if not whole.said(key) and key != "downsample_ratio":
            c.assume(key, merge)
    grid = replace(
        body.grid,
        merge=merge,
        row_ends=sight.row_ends or int(kind == "pixtral"),
        pooled=whole.size_or(sight.pooled[1], sight.pooled[0]) if sight.pooled else 0,
        most=whole.size_or(sight.most[1], sight.most[0]) if sight.most else 0,
        pieces=sight.cut[1],
    )
    hidden = c.size_or(spec.hidden_size, *(("hidden_size",) if kind == "qwen2_vl_vision" else ("out_hidden_size",)))
    if top == "paligemma":
        hidden = c.size_or(spec.hidden_size, "projection_dim")
    join = to.Join(whole, c, body.width, body.width * merge**2, hidden)
    net = StreamNet(name=f"the vision tower of {top}", stages=(*body.stages, *sight.project(join)), grid=grid)
    pieces = sight.cut[0] ** 2 + 1 if sight.cut[1] else 1
    return Tower(kind="image", net=net, pieces=pieces, rule=sight.assumes), c


def _merge(whole: ConfigReader, key: str, usual: int) -> int:
    """Patches a side of a token; InternVL says it as the ratio of both sides."""
    if key != "downsample_ratio":
        return whole.size_or(usual, key)
    ratio = whole.number(1 / usual, key)
    return max(round(1 / ratio), 1) if ratio > 0 else usual


def _audio(
    top: str, section: Mapping[str, Any], data: Mapping[str, Any], spec: Transformer, where: str
) -> tuple[Tower, ConfigReader] | None:
    kind = str(section.get("model_type") or HEARS.get(top))
    c = section_of(section, kind, where)
    if kind in CONFORMERS:
        return conformer_tower(CONFORMERS[kind], c, spec, top), c
    row = AUDIO_ENCODERS.get(kind)
    return None if row is None else (audio_tower(row, c, ConfigReader(data, where), spec, top), c)


def towers_read() -> list[dict[str, str]]:
    """What is read, as data: the `model_type` of each multimodal model, its tower, and what is assumed of an input."""
    alone = {
        "mllama": ("mllama_vision_model", "4 tiles, seen by cross-attention"),
        "gemma3n": ("gemma3n_vision", ASSUMES),
    }
    sees = {name: (sight.vision, sight.assumes) for name, sight in VISION.items()} | alone
    rules = {name: row.assumes for name, row in AUDIO_ENCODERS.items()}
    rules |= {name: row.assumes for name, row in CONFORMERS.items()}
    hears = {name: (encoder, rules[encoder]) for name, encoder in HEARS.items()}
    return [
        {"model_type": name, "input": kind, "tower": tower, "assumes": assumes}
        for kind, rows in (("image", sees), ("clip", hears))
        for name, (tower, assumes) in sorted(rows.items())
    ]
