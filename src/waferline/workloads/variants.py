"""Names of repositories that say a format: `Qwen/Qwen3-32B-FP8`, `llama-3.1-8b-AWQ`, `qwen3-8b-gguf:Q4_K_M`.

The model is the catalogue's; the format is what repositories of such a name hold. Only where the model is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from waferline.errors import UnknownNameError
from waferline.formats import get_format
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.models import catalog_model, find_model
from waferline.workloads.quantization.converted import as_gguf
from waferline.workloads.quantization.methods import quantised
from waferline.workloads.quantization.resolve import without_formats
from waferline.workloads.spec import ModelSpec, Transformer

_PARTS = re.compile(r"[-_:./ ]+")
# Words that say nothing of sizes: how the model was tuned, or how its format was made.
_WORDS = """
instruct it chat hf base dynamic static block quantized unsloth marlin sym asym dwq qat ud imatrix i1 kv tensorrt vllm
latest model text quant ct preview
"""
_SILENT = frozenset(_WORDS.split())
# A tag of llama.cpp, also with its parts joined by hyphens.
_GGUF = re.compile(r"(?:^|-)(i?q\d(?:-(?:[kmsl01]|x{0,2}[sl]|nl))*|tq\d-0)(?:-|$)")
_TAGS = {"q4_k_xl": "q4_k_m", "q2_k_xl": "q2_k_m", "q3_k_xl": "q3_k_l", "q5_k_xl": "q5_k_m", "q6_k_xl": "q6_k"}
_TAGS |= {"q8_k_xl": "q8_0", "q6_k_l": "q6_k", "q4_k_l": "q4_k_m", "q5_k_l": "q5_k_m", "f16": "fp16", "f32": "fp32"}
_USUAL_TAG = "q4_k_m"  # what llama.cpp and Ollama take from a repository when nobody says

Section = Mapping[str, Any]


def _compressed(bits: int, kind: str, activations: bool, **weights: Any) -> Section:
    acts = {"num_bits": 8, "type": kind, "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **weights}}
    if activations:
        group["input_activations"] = acts
    return {"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": group}}


def _modelopt(algorithm: str, cache_format: str | None) -> Section:
    kv = {"kv_cache_quant_algo": cache_format} if cache_format else {}
    return {"quant_method": "modelopt", "quant_algo": algorithm, "exclude_modules": ["lm_head"], **kv}


_AWQ: Section = {"quant_method": "awq", "bits": 4, "group_size": 128}
_INT4: Section = _compressed(4, "int", False, strategy="group", group_size=128)
_INT8: Section = _compressed(8, "int", True, strategy="channel")
# Words at the end of a name, in order: the first that are all there decide. `{}` stands for the digits in the name.
_SECTIONS: tuple[tuple[str, Section], ...] = (
    (r"gptq.*(?:int)?8(?:bit)?|gptq-8bit", {"quant_method": "gptq", "bits": 8, "group_size": 128}),
    (r"gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128}),
    (r"awq", _AWQ),
    (r"auto-?round|autoround", {"quant_method": "auto-round", "bits": 4, "group_size": 128}),
    (r"hqq", {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}),
    (r"bnb.*8bit", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    (
        r"bnb|nf4",
        {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
        },
    ),
    (r"w4a16|int4", _INT4),
    (r"w8a8|int8", _INT8),
    (r"w8a16", _compressed(8, "int", False, strategy="channel")),
    (
        r"mxfp4",
        {
            "quant_method": "quark",
            "exclude": ["lm_head"],
            "global_quant_config": {"weight": {"dtype": "fp4"}, "input_tensors": {"dtype": "fp4"}},
        },
    ),
    (r"nvfp4a16", _modelopt("W4A16_NVFP4", None)),
    (r"nvfp4|fp4", _modelopt("NVFP4", "FP8")),
    (r"mxfp8", _modelopt("MXFP8", None)),
    (r"fp8", {"quant_method": "fp8"}),
)
# Makers whose own FP8 repositories keep a scale for each block of 128 x 128; those of others keep one a tensor or a row.
_BLOCKS = re.compile(
    r"^(?!redhatai|neuralmagic|nvidia|amd|unsloth).*(qwen3|deepseek|glm-?[45]|minimax|kimi|mimo)|fp8-block"
)
# Makers whose FP8 files are calibrated for a cache in FP8, too.
_CACHES = re.compile(r"^nvidia/|fp8-kv")
# Meta's own FP8 of Llama 3.1 405B: attention and both end layers stay in 16 bits (The Llama 3 Herd of Models, section 6.2).
_META = re.compile(r"^meta-llama/(?:meta-)?llama-3\.1-405b-.*fp8")
_META_KEEPS = ["lm_head", "self_attn", "model.layers.0.mlp", "model.layers.125.mlp"]
_GROUP = re.compile(r"(?:^|-)g(\d{2,3})(?:-|$)")
_MLX = re.compile(r"([2-8])-?bit")
_EXLLAMA = re.compile(r"(?:exl([23]))?-?(\d(?:-\d{1,2})?)-?bpw(?:-.*exl([23]))?")
_KNOWN = re.compile(
    r"gptq|awq|auto|round|autoround|hqq|bnb|nf4|int[48]|w[48]a(?:8|16)|nvfp4(?:a16)?|fp4|mxfp[48]|fp8|mlx|[2-8]bit|bit|gguf|exl[23]"
    r"|\d{1,2}bpw|bpw|g\d+|i?q\d|[kmsl01]|x{1,2}s|xl|nl|f16|bf16|f32|fp16|tq\d|\d{1,2}"
)


@cache
def variant(name: str) -> ModelSpec | None:
    """The catalogue's model in the format that `name` says at its end, or None when it is no such name.

    Raises: UnknownNameError for a tag that is no format of llama.cpp.
    """
    if not isinstance(name, str) or len(name) > 200:
        return None
    for bare, suffix in _splits(name):
        try:
            found = catalog_model(bare)
        except UnknownNameError:
            continue
        if not isinstance(found, Transformer):
            return None
        made = _in_format(found, suffix, name.lower())
        if made is None:
            return None
        spec, said = made
        note = f"{name}: {find_model(bare)} of the catalogue{said}"
        return replace(spec, notes=(*spec.notes, note)) if said else spec
    return None


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """(name of a model, what follows it), longest model first; what follows holds known words alone."""
    tail = name.rstrip("/").rsplit("/", 1)[-1]
    cuts = [m for m in _PARTS.finditer(tail) if m.start()]
    for cut in reversed(cuts):
        words = [w for w in _PARTS.split(tail[cut.end() :].lower()) if w]
        if not words or not all(w in _SILENT or _KNOWN.fullmatch(w) for w in words):
            return
        yield tail[: cut.start()], "-".join(words)


def _in_format(model: Transformer, suffix: str, name: str) -> tuple[Transformer, str] | None:
    """(the model in the format that the words of `suffix` say, what to say of it); None when they say none."""
    words = [w for w in suffix.split("-") if w not in _SILENT]
    text = "-".join(w for w in words if w != "gguf")
    if not words:
        return model, ""
    own = model.stored.method if model.stored is not None else ""
    if (match := _GGUF.search(text)) or "gguf" in words:
        if own in ("mxfp4", "bitnet"):
            return as_gguf(model), f": files of such names keep {model.weight_format}"
        tag = match[1].replace("-", "_") if match else _USUAL_TAG
        fmt = get_format(_TAGS.get(tag, tag)).name
        said = f" in {fmt}" + ("" if match else ", the usual tag") + (f", near to {tag}" if tag in _TAGS else "")
        container = {**model.metadata, "container": "gguf"}
        return replace(without_formats(model), weight_format=fmt, metadata=container), said
    section = _section(text, name)
    if section is None:
        return (without_formats(model), " in 16 bits") if words[0] in ("bf16", "fp16", "f16") else None
    if own and own in text:
        return model, " as it ships"
    made = _quantised(model, section)
    own = "" if made.stored is None else made.stored.method
    method = "" if own == made.weight_format else f" ({own})"
    return made, f" in {made.weight_format}{method}, by the name alone"


def _section(text: str, name: str) -> Section | None:
    """The quantisation section that a checkpoint of such a name has."""
    if match := _EXLLAMA.search(text):
        bits = float(match[2].replace("-", "."))
        return {"quant_method": f"exl{match[1] or match[3] or 3}", "bits": bits, "head_bits": 6}
    found = next((given for pattern, given in _SECTIONS if re.search(pattern, text)), None)
    group = _GROUP.search(text)
    if found is _INT4 and group:
        return _compressed(4, "int", False, strategy="group", group_size=int(group[1]))
    if _META.match(name):
        return {"quant_method": "fbgemm_fp8", "modules_to_not_convert": _META_KEEPS}
    if found is not None and found["quant_method"] == "fp8":
        return _modelopt("FP8", "FP8") if _CACHES.search(name) else {**found, **_blocks(name)}
    if found is not None:
        return {**found, "group_size": int(group[1])} if group and "group_size" in found else found
    match = _MLX.search(text)
    return {"bits": int(match[1]), "group_size": 64} if match else None


def _blocks(name: str) -> Section:
    return {"weight_block_size": [128, 128]} if _BLOCKS.search(name) else {}


def _quantised(model: Transformer, section: Section) -> Transformer:
    return quantised(without_formats(model), ConfigReader(section, f"{model.name}: format of its name"))
