"""Hugging Face configurations: a `config.json` mapping becomes a model.

The `model_type` picks a family (`waferline.workloads.families`); nested text configurations are entered, and what a
family's configuration class would fill in where the file is silent is filled in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from reprlib import repr as shown
from typing import Any

from waferline.catalog.names import compact
from waferline.errors import InvalidInputError, UnsupportedError, nearest, unknown
from waferline.workloads.class_defaults import assumed_notes, class_defaults, release
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.families import FAMILIES
from waferline.workloads.families.images import PAIRS
from waferline.workloads.families.needed import check_needed
from waferline.workloads.families.towers import TEXT, with_towers
from waferline.workloads.quantization.section import SECTIONS, quantisation_section, wide_notes
from waferline.workloads.spec import ModelSpec, Transformer
from waferline.workloads.unread import unread_notes

_SECTIONS = ("text_config", "llm_config", "language_config")  # where multimodal configurations keep the decoder
_INHERITED = ("tie_word_embeddings", *SECTIONS, "vocab_size")  # facts a nested section may leave outside

_LIKE = {"llama-like": "llama_like"}  # what an unknown model type may be read as -> its family
_CLASS_TAIL = re.compile(r"(For[A-Z]\w*|LMHeadModel|Model)$")  # of a class's name
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
    "minimax_m1": "minimax",
    "minimax_text_01": "minimax",
    "minimax_m3_vl_text": "minimax_m3",
    "step3p5": "step3p7",
    "mimo_v2": "mimo_v2_flash",
    "bailing_moe_v2": "bailing_moe",
    "emu3_text_model": "llama",
    "emu3": "llama",
    "fuyu": "persimmon",
    "gemma3n": "gemma3n_text",
    "gemma4_unified": "gemma4_unified_text",
    "got_ocr2": "qwen2",
    "gpt-sw3": "gpt2",
    "codegen": "gptj",
    "stablelm_epoch": "stablelm",
}


def model_types() -> list[str]:
    """Every `model_type` that can be imported."""
    return sorted({*FAMILIES, *_ALIASES} - set(_LIKE.values()))


def from_config(data: Mapping[str, Any], name: str, where: str, assume: str | None = None) -> ModelSpec:
    """The model that a configuration describes.

    `where` names the file in errors. The towers of a multimodal model are counted apart, or said not to be. Where the file is
    silent its class's default counts, and the model says so. assume: "llama-like" reads an unknown `model_type` as a Llama.
    Raises: FileFormatError (missing or misspelt keys), InvalidInputError (impossible sizes), UnsupportedError
    (unknown `model_type` or quantization).
    """
    if not isinstance(data, Mapping):
        raise InvalidInputError(f"a model configuration is a mapping, not {type(data).__name__}", where=where)
    thinker = data.get("thinker_config")
    if isinstance(thinker, Mapping):  # Qwen Omni: beside it a model that speaks
        outside = {key: data[key] for key in SECTIONS if key in data}
        spec = from_config({**outside, **thinker}, name, f"{where}: thinker_config", assume)
        unread = filter(None, (spec.metadata.get("not_counted"), "the talker and its decoder of speech"))
        return replace(spec, metadata={**spec.metadata, "not_counted": " and ".join(unread)})
    section, place, model_type = _decoder(data, where, assume)
    family = _family(model_type, place, assume)
    c = ConfigReader(section, place, _defaults(model_type, family))
    check_needed(c, family)
    spec = FAMILIES[family](c)
    quantized = quantisation_section(c)
    c.finish(ignore=("text_config", "vision_config"))
    metadata = {"model_type": str(data.get("model_type"))}
    if section is not data:
        metadata["not_counted"] = "vision or audio tower"
    odd = unread_notes(c, family, ("text_config", "vision_config", "audio_config"))
    notes = (
        *spec.notes,
        *_said(c, model_type, family, data, assume),
        *odd,
        *(wide_notes(c) if quantized is None else ()),
    )
    spec = replace(spec, name=name, title=name, family=family, metadata={**spec.metadata, **metadata}, notes=notes)
    if isinstance(spec, Transformer):
        spec = with_towers(spec, data, where)
    if not isinstance(spec, Transformer):
        if quantized is not None:
            raise UnsupportedError(f"the quantisation of a {shown(family)} is not read", where=quantized.where)
        return spec
    if quantized is None:
        return spec
    from waferline.workloads.quantization.methods import quantised  # NumPy, for checkpoints that are quantised alone

    return quantised(spec, quantized)


def _defaults(model_type: str, family: str) -> Mapping[str, Any]:
    """What the class assumes: of the `model_type` itself, or of the decoder that it is another name of."""
    own = class_defaults(model_type)
    return own if "vocab_size" in own else class_defaults(family)


def _said(c: ConfigReader, model_type: str, family: str, data: Mapping[str, Any], assume: str | None) -> Iterator[str]:
    """What the reader took that the file does not say."""
    if assume is not None:
        yield f"model_type {shown(model_type)} is not known: read as a Llama, as was asked"
    elif not isinstance(said := data.get("model_type") or data.get("_class_name"), str):
        yield f"no model_type: read as {family} after its architectures"
    elif not _known(said) and model_type == _by_architecture(data):
        yield f"model_type {shown(said)} is not known: read as {model_type} after its architectures"
    known = bool(_defaults(model_type, family))
    whose = f"{release()} and the family of {model_type} assume" if known else f"the family of {model_type} assumes"
    yield from assumed_notes(c.assumed, "the file", whose)


def _decoder(data: Mapping[str, Any], where: str, assume: str | None) -> tuple[Mapping[str, Any], str, str]:
    """The mapping that describes the decoder, its place, and its model type."""
    top = data.get("model_type") or data.get("_class_name")  # the second is diffusers'
    if not top or (assume is None and isinstance(top, str) and not _known(top)):
        top = _by_architecture(data) or top  # somebody's own name of a class that is known
    for key in (
        () if isinstance(top, str) and top in PAIRS else _SECTIONS
    ):  # a pair of encoders reads both of its sections
        section = data.get(key)
        if not isinstance(section, Mapping):
            continue
        inherited = {k: data[k] for k in _INHERITED if k in data and k not in section}
        return {**inherited, **section}, f"{where}: {key}", _text(section.get("model_type") or top, f"{where}: {key}")
    return data, where, _text(top, where)


def _known(model_type: str) -> bool:
    return model_type in FAMILIES or model_type in _ALIASES or model_type in PAIRS


def _by_architecture(data: Mapping[str, Any]) -> str | None:
    """The model type of a file that names only its class: `LlamaForCausalLM` is of `llama`."""
    listed = data.get("architectures")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], str) else ""
    stem = compact(_CLASS_TAIL.sub("", first))
    return next((t for t in model_types() if stem and compact(t) == stem), None)


def _text(model_type: Any, where: str) -> str:
    if not isinstance(model_type, str):
        raise InvalidInputError("'model_type' is missing or not text", where=where, hint="for example llama or qwen3")
    return model_type


def _family(model_type: str, where: str, assume: str | None) -> str:
    family = _ALIASES.get(model_type, model_type)
    if assume is not None:
        if family in FAMILIES:
            raise InvalidInputError(f"assume would not be read: model_type {shown(model_type)} is known")
        if assume not in _LIKE:
            raise unknown("assumption", assume, _LIKE, where=where)
        return _LIKE[assume]
    if family in FAMILIES:
        return family
    close = nearest(model_type, model_types())
    near = f"nearest: {', '.join(close)}" if close else f"{len(model_types())} are, such as llama, qwen3_moe, bert"
    raise UnsupportedError(
        f"model_type {shown(model_type)} is not supported",
        where=where,
        hint=f"{near}; --assume llama-like reads it as a Llama",
    )
