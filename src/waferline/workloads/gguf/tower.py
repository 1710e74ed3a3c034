"""The vision tower in a projector's file (`mmproj-*.gguf`) as a network over patches: matrices from its tensors, tokens by rule.

Keys, tensors and the number of tokens: llama.cpp, tools/mtmd/clip-impl.h and clip.cpp (`load_hparams`, `clip_n_output_tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from waferline.errors import FileFormatError, InvalidInputError
from waferline.formats.tensors import TensorFile, TensorInfo
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet, Tower

_DYNAMIC_SIDE = 1024  # pixels of the standard image of a tower that takes any size
_SCALE, _MERGE = "projector.scale_factor", "spatial_merge_size"
_LAYER = re.compile(r"^v\.blk\.(\d{1,5})\.([a-z0-9_]+)\.weight$")
_SPLIT_K = ("attn_out", "ffn_down")
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_out", "ffn_up", "ffn_gate", "ffn_down")
_TABLES = ("v.position_embd", "v.class_embd", "v.token_embd", "v.image_newline", "v.norm_embd")
_AUDIO = ("a.", "mm.a.")


@dataclass(frozen=True, slots=True)
class Rule:
    """How a projector makes tokens: `merge` patches a side (and the key that says so), any size or pieces of one.

    most: tokens of an image at most. cut: pieces a side of the standard image, and the most in all. row_ends: where the file
    has such a token.
    """

    assumes: str
    merge: int = 1
    key: str = ""
    dynamic: bool = False
    most: int = 0
    cut: tuple[int, int] = (1, 0)


def _any(merge: int, key: str, most: int = 0) -> Rule:
    limit = f", {most:,} tokens at most" if most else ""
    return Rule(f"any size, in squares of patches{limit}; 1024x1024 when nobody says", merge, key, True, most)


_FIXED = "scaled to the tower's size"
RULES: Mapping[str, Rule] = {
    "mlp": Rule(_FIXED),
    "janus_pro": Rule(_FIXED),
    "gemma3": Rule("scaled to the tower's size and pooled", 4, _SCALE),
    "gemma4v": _any(3, _SCALE, 1120),
    "qwen2vl_merger": _any(2, _MERGE, 4096),
    "qwen2.5vl_merger": _any(2, _MERGE, 4096),
    "qwen3vl_merger": _any(2, _MERGE, 4096),
    "glm4v": _any(2, _MERGE, 4096),
    "exaone4_5": _any(2, _MERGE),
    "pixtral": _any(1, _MERGE, 1024),
    "lightonocr": _any(1, _MERGE),
    "kimivl": _any(1, _SCALE, 1024),
    "kimik25": _any(1, _SCALE, 4096),
    "lfm2": _any(1, _SCALE, 256),
    "dots_ocr": _any(1, _SCALE),
    "idefics3": Rule("cut into 4x4 pieces and a thumbnail", 1, _SCALE, cut=(4, 16)),
    "internvl": Rule("cut into pieces (12 at most) and a thumbnail; 2x2 when nobody says", 1, _SCALE, cut=(2, 12)),
    "llama4": Rule("cut into pieces (9 at most) and a thumbnail; 2x2 when nobody says", 1, _SCALE, cut=(2, 9)),
}
_TILED = Rule(
    "2x2 pieces and a thumbnail; separators not counted", cut=(2, 4)
)  # LLaVA 1.6: the file has a grid of sizes


def vision_tower(file: TensorFile) -> tuple[Tower | None, str]:
    """The tower of a projector's file, or None and why its pass is not timed: a neighbour is no reason to refuse a model."""
    try:
        return _tower(file)
    except (FileFormatError, InvalidInputError) as error:
        return None, error.message


def _tower(file: TensorFile) -> tuple[Tower | None, str]:
    header = {key: field.value for key, field in file.metadata.items()}
    kind = header.get("clip.vision.projector_type", header.get("clip.projector_type"))
    rule = RULES.get(str(kind))
    if rule is None:
        return None, f"projectors of type '{kind}' are not read" if kind else "the file does not say its type"
    if "clip.vision.image_grid_pinpoints" in header and not rule.key:
        rule = _TILED
    seen = [t for t in file.tensors if not t.name.startswith(_AUDIO)]
    odd = next((t.name for t in seen if len(t.shape) > 1 and not _placed(t.name)), None)
    if odd is not None:
        return None, f"its tensor {odd} has no place in a plain tower"
    c = ConfigReader({k.removeprefix("clip.vision."): v for k, v in header.items()}, str(file.path))
    grid = _grid(c, rule, {t.name for t in seen})
    layers = _layers(seen, c, grid)
    outside = {t.name: t for t in seen if len(t.shape) > 1}
    patches = [_matrix(t, "patch") for name, t in outside.items() if name.startswith("v.patch_embd")]
    project = [_matrix(t, "token") for name, t in outside.items() if name.startswith(("mm.", "v.deepstack."))]
    made = (Stage("embed", 1, tuple(patches)), *layers, Stage("project", 1, tuple(project), rows="token"))
    rest = sum(t.weights for t in seen) - sum(stage.stored for stage in made)  # norms, biases and tables
    net = StreamNet(
        name=f"the vision tower in {file.path.name}", stages=(replace(made[0], params=rest), *made[1:]), grid=grid
    )
    pieces = rule.cut[0] ** 2 + 1 if rule.cut[1] else 1
    return Tower(kind="image", net=net, pieces=pieces, rule=rule.assumes), ""


def _placed(name: str) -> bool:
    match = _LAYER.match(name)
    if match:
        return match[2] in _MATRICES
    return name.startswith(("mm.", "v.deepstack.", "v.patch_embd", *_TABLES))


def _matrix(t: TensorInfo, rows: str, name: str = "") -> Matrix:
    """A kernel over patches is a matrix, too: all that one output reads."""
    n = t.shape[0]
    return Matrix(
        name or t.name.removesuffix(".weight"), t.weights // n, n, rows, split="k" if name in _SPLIT_K else "n"
    )


def _grid(c: ConfigReader, rule: Rule, names: set[str]) -> Grid:
    merge = c.size_or(rule.merge, rule.key) if rule.key else rule.merge
    side = _DYNAMIC_SIDE if rule.dynamic else c.size("image_size")
    ends = int("v.token_embd.img_break" in names)
    extra = int("v.class_embd" in names)
    return Grid(
        side, side, c.size("patch_size"), merge, extra, ends, fixed=not rule.dynamic, most=rule.most, pieces=rule.cut[1]
    )


def _layers(tensors: Iterable[TensorInfo], c: ConfigReader, grid: Grid) -> tuple[Stage, ...]:
    """Equal neighbours are one stage; of Qwen2.5-VL every so many layers see everything, the others a window."""
    layers: dict[int, list[tuple[str, TensorInfo]]] = {}
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if match and len(tensor.shape) > 1:
            layers.setdefault(int(match[1]), []).append((match[2], tensor))
    if not layers:
        raise FileFormatError("the tower has no layers", where=c.where)
    period, heads, width = (
        c.size_or(0, "n_wa_pattern", least=0),
        c.size("attention.head_count"),
        c.size("embedding_length"),
    )
    window = (c.size_or(112, "window_size") // grid.patch) ** 2
    found = list[Stage]()
    for number in sorted(layers):
        matrices = tuple(_matrix(t, "patch", name) for name, t in sorted(layers[number], key=lambda x: x[0]))
        rows = {m.name: m.n for m in matrices}
        kv_heads = c.size_or(heads, "attention.head_count_kv")
        queries = rows.get("attn_q", rows.get("attn_qkv", 0) * heads // (heads + 2 * kv_heads))
        if not queries or queries % heads:
            raise FileFormatError(f"layer {number} of the tower has {queries} queries for {heads} heads", where=c.where)
        near = window if period and (number + 1) % period else None
        scores = Scores(heads, queries // heads, window=near, kv_heads=kv_heads)
        inner = rows.get("ffn_up", 0)
        found.append(
            Stage("window_layer" if near else "layer", 1, matrices, (scores,), width=width, norms=2, inner=inner)
        )
    return tuple(replace(stage, count=sum(1 for _ in same)) for stage, same in groupby(sorted(found, key=str)))
