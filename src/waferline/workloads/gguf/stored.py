"""How a GGUF file stores its weights: bytes by part, and the format of every operator's matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from re import compile as pattern

from waferline.formats import format_names, get_format
from waferline.formats.gguf_set import GGUFSet
from waferline.formats.tensors import TensorInfo
from waferline.workloads.spec import Block, Stored

NOT_WEIGHTS = ("rope_freqs", "rope_factors")
_NOT_WEIGHTS_IN = ("attn_rot_embd", ".scale", ".input_scale")
_EMBEDDINGS = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
_HEAD = ("output.weight", "output.bias")
_PREDICTION = ".nextn."
_LAYER = pattern(r"^(?P<stack>(?:enc\.|dec\.)?blk)\.(?P<number>\d{1,5})\.(?P<name>[^.]+)\.")
# A tensor of a layer → the operators that may read it; a layer has those that go with its parts.
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_gate"), ("attention.qkv", "mixer.in")),
    **dict.fromkeys(("attn_output", "attn_o"), ("attention.out", "mixer.out")),
    **dict.fromkeys(("attn_q_a", "attn_kv_a_mqa"), ("attention.down",)),
    "attn_q_b": ("attention.q_up",),
    "attn_kv_b": ("attention.kv_up", "attention.q_absorb", "attention.v_up"),
    "attn_k_b": ("attention.kv_up", "attention.q_absorb"),
    "attn_v_b": ("attention.kv_up", "attention.v_up"),
    "cross_attn_q": ("cross.q",),
    **dict.fromkeys(("cross_attn_k", "cross_attn_v"), ("cross.kv",)),
    "cross_attn_o": ("cross.out",),
    **dict.fromkeys(("ssm_in", "ssm_alpha", "ssm_beta", "ssm_ba", "shortconv"), ("mixer.in",)),
    **dict.fromkeys(("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_gate"), ("mixer.in",)),
    **dict.fromkeys(("ssm_out", "time_mix_output"), ("mixer.out",)),
    "ssm_x": ("mixer.x",),
    **dict.fromkeys(("ffn_gate", "ffn_up", "channel_mix_key"), ("ffn.gate_up", "ffn.up")),
    **dict.fromkeys(("ffn_down", "channel_mix_value"), ("ffn.down",)),
    **dict.fromkeys(("ffn_gate_shexp", "ffn_up_shexp"), ("moe.shared.gate_up", "moe.shared.up")),
    "ffn_down_shexp": ("moe.shared.down",),
    **dict.fromkeys(("ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps", "ffn_down_exps"), ("moe.experts",)),
}


def is_weight(tensor: TensorInfo) -> bool:
    """Whether a tensor is learned: neither a table of angles nor the scale of another one."""
    return not tensor.name.startswith(NOT_WEIGHTS) and not any(part in tensor.name for part in _NOT_WEIGHTS_IN)


def part(tensor: TensorInfo) -> str:
    """Where a tensor's bytes lie: embedding, head, experts or blocks."""
    if tensor.name.startswith(_EMBEDDINGS):
        return "embedding"
    if tensor.name in _HEAD:
        return "head"
    return "experts" if "_exps." in tensor.name else "blocks"


def stored_bytes(files: GGUFSet) -> dict[str, float]:
    """Bytes of the embedding, head, routed experts, tower and everything else, as llama.cpp loads them.

    Layers that predict further tokens stay on the disk.
    """
    skipped = tuple({t.name.split(_PREDICTION)[0] + "." for t in files.tensors if _PREDICTION in t.name})
    parts = {"embedding": 0.0, "head": 0.0, "blocks": 0.0, "experts": 0.0}
    for tensor in files.tensors:
        if not skipped or not tensor.name.startswith(skipped):
            parts[part(tensor)] += tensor.nbytes
    if files.projector is not None:
        parts["tower"] = float(sum(t.nbytes for t in files.projector.tensors))
    return parts


def main_format(files: GGUFSet) -> str:
    """The format that most weights of the layers are in, or the recipe that the file names if that is a mixture of it.

    `general.file_type` alone is not believed: who mixes types tensor by tensor often leaves it as it was.
    """
    import gguf  # constants only: names of the recipes

    known = {name: n for name, n in _weights(files, "blocks", "experts").items() if name in format_names()}
    if not known:
        return "fp32"
    most = max(known, key=lambda name: (known[name], name))
    try:
        recipe = gguf.LlamaFileType(int(files.metadata.get("general.file_type", -1))).name.lower()
    except (TypeError, ValueError):
        return most
    recipe = recipe.removeprefix("mostly_").removesuffix("_moe")
    return recipe if recipe.startswith(most) and recipe in format_names() else most


def _weights(files: GGUFSet, *parts: str) -> dict[str, int]:
    """Weights of matrices by format."""
    weights: dict[str, int] = {}
    for tensor in files.tensors:
        if len(tensor.shape) > 1 and part(tensor) in parts:
            weights[tensor.format] = weights.get(tensor.format, 0) + tensor.weights
    return weights


def stored(files: GGUFSet, main: str) -> Stored:
    """What stands beside the layers, and that block formats meet 8-bit activations, as in llama.cpp's kernels."""
    weights = _weights(files, "blocks", "experts", "head", "embedding")
    packed = [name for name in sorted({main, *weights}) if name in format_names() and get_format(name).packed]
    embedding = _most(_weights(files, "embedding")) or main
    head = _most(_weights(files, "head")) or embedding  # tied: the table is read as the head
    return Stored("gguf", head, embedding, tuple((name, get_format(name).activations[0]) for name in packed))


def _most(weights: Mapping[str, int]) -> str:
    """The 16-bit formats are one: which of them a machine computes is its own affair."""
    found = max(weights, key=lambda name: (weights[name], name), default="")
    return {"fp16": "bf16", "fp32": "bf16"}.get(found, found) if found in format_names() else ""


def with_formats(blocks: Iterable[Block], tensors: Iterable[TensorInfo], stack: str) -> tuple[Block, ...]:
    """Blocks with the formats of their operators' weights: of each format its share over all layers of the block."""
    layers: dict[int, list[tuple[str, TensorInfo]]] = {}
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if match and match["stack"] == stack and len(tensor.shape) > 1 and tensor.format in format_names():
            layers.setdefault(int(match["number"]), []).append((match["name"], tensor))
    return tuple(replace(block, formats=_shares(block, layers)) for block in blocks)


def _shares(block: Block, layers: Mapping[int, list[tuple[str, TensorInfo]]]) -> tuple[tuple[str, str, float], ...]:
    weights: dict[str, dict[str, int]] = {}
    for place in block.places:
        for name, tensor in layers.get(place, ()):
            for operator in _OPERATORS.get(name, ()):
                formats = weights.setdefault(operator, {})
                found = {"fp16": "bf16", "fp32": "bf16"}.get(tensor.format, tensor.format)
                formats[found] = formats.get(found, 0) + tensor.weights
    return tuple(
        (operator, name, n / sum(formats.values()))
        for operator, formats in sorted(weights.items())
        for name, n in sorted(formats.items())
        if n
    )
