"""Hugging Face configurations: a `config.json` mapping becomes a model.

The `model_type` picks a family (`waferline.workloads.families`); nested text configurations are entered, and what a
family's configuration class would fill in where the file is silent is filled in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from reprlib import repr as shown
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, UnsupportedError, nearest
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families import FAMILIES
from waferline.workloads.families.images import PAIRS
from waferline.workloads.families.towers import TEXT, with_towers
from waferline.workloads.quantization.section import SECTIONS, quantisation_section, wide_notes
from waferline.workloads.spec import ModelSpec, Transformer

_SECTIONS = ("text_config", "llm_config", "language_config")  # where multimodal configurations keep the decoder
_INHERITED = ("tie_word_embeddings", *SECTIONS, "vocab_size")  # facts a nested section may leave outside

# What the configuration class assumes where published files are silent (transformers v4.57).
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "tie_word_embeddings": True,
    },
    "gemma2": {"head_dim": 256},
    "gemma": {"head_dim": 256},
    "qwen3": {"head_dim": 128},
}
# Other spellings of a family.
_ALIASES: Mapping[str, str] = {
    **TEXT,
    "kimi_k2_text": "kimi_k2",
    "xlm_roberta": "xlm-roberta",
    "glm4v_moe_text": "glm4_moe",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_vl_text": "qwen3",
    "qwen2_5_vl_text": "qwen2",
    "PanguProMoE": "pangu_pro_moe",
}


def model_types() -> list[str]:
    """Every `model_type` that can be imported."""
    return sorted({*FAMILIES, *_ALIASES})


def from_config(data: Mapping[str, Any], name: str, where: str) -> ModelSpec:
    """The model that a configuration describes.

    `where` names the file in errors. The towers of a multimodal model are counted apart, or said not to be.
    Raises: FileFormatError (missing or misspelt keys), InvalidInputError (impossible sizes), UnsupportedError
    (unknown `model_type` or quantization).
    """
    if not isinstance(data, Mapping):
        raise InvalidInputError(f"a model configuration is a mapping, not {type(data).__name__}", where=where)
    thinker = data.get("thinker_config")
    if isinstance(thinker, Mapping):  # Qwen Omni: beside it a model that speaks
        spec = from_config(thinker, name, f"{where}: thinker_config")
        unread = filter(None, (spec.metadata.get("not_counted"), "the talker and its decoder of speech"))
        return replace(spec, metadata={**spec.metadata, "not_counted": " and ".join(unread)})
    section, place, family = _decoder(data, where)
    assumed = _left_out(section, family) if section is not data else {}
    given = {k: v for k, v in section.items() if v is not None}
    c = ConfigReader({**_DEFAULTS.get(family, {}), **assumed, **given}, place)
    spec = FAMILIES[family](c)
    quantized, notes = quantisation_section(c), wide_notes(c)
    c.finish(ignore=("text_config", "vision_config"))
    metadata = {"model_type": str(data.get("model_type"))}
    if section is not data:
        metadata["not_counted"] = "vision or audio tower"
    spec = replace(spec, name=name, title=name, family=family, metadata={**spec.metadata, **metadata})
    if isinstance(spec, Transformer):
        spec = with_towers(replace(spec, notes=(*spec.notes, *_assumption(assumed))), data, where)
    if quantized is None or not isinstance(spec, Transformer):
        return replace(spec, notes=(*spec.notes, *notes)) if notes and isinstance(spec, Transformer) else spec
    from waferline.workloads.quantization.methods import quantised  # NumPy, for checkpoints that are quantised alone

    return quantised(spec, quantized)


def _left_out(section: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Sizes that a decoder's section leaves to its class: transformers writes there only what differs."""
    known: Mapping[str, Any] = read_packaged("tower_defaults.yaml")["decoders"].get(family, {})
    return {key: value for key, value in known.items() if key not in section}


def _assumption(assumed: Mapping[str, Any]) -> tuple[str, ...]:
    said = ", ".join(f"{key} {value}" for key, value in assumed.items())
    return (f"the decoder's section leaves to its class: {said}",) if said else ()


def _decoder(data: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str, str]:
    """The mapping that describes the decoder, its place, and its family."""
    top = data.get("model_type") or data.get("_class_name")  # the second is diffusers'
    for key in () if top in PAIRS else _SECTIONS:  # a pair of encoders reads both of its sections
        section = data.get(key)
        if not isinstance(section, Mapping):
            continue
        inner = section.get("model_type") or top
        family = _family(inner, f"{where}: {key}")
        inherited = {k: data[k] for k in _INHERITED if k in data and k not in section}
        return {**inherited, **section}, f"{where}: {key}", family
    return data, where, _family(top, where)


def _family(model_type: Any, where: str) -> str:
    if not isinstance(model_type, str):
        raise InvalidInputError("'model_type' is missing or not text", where=where, hint="for example llama or qwen3")
    family = _ALIASES.get(model_type, model_type)
    if family in FAMILIES:
        return family
    close = nearest(model_type, model_types())
    raise UnsupportedError(
        f"model_type {shown(model_type)} is not supported",
        where=where,
        hint=f"nearest: {', '.join(close)}" if close else f"{len(model_types())} are, such as llama, qwen3_moe, bert",
    )
