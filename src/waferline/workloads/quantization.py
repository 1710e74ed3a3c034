"""What a checkpoint's `quantization_config` says: the format of its weights, and which parts stay at 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from reprlib import repr as shown
from typing import Any

from waferline.errors import UnsupportedError, nearest
from waferline.workloads.config_reader import ConfigReader

# (weight format, parts kept at 16 bits); the parts are those of `Transformer.parts_16bit`.
Quantization = tuple[str, tuple[str, ...]]

_ALWAYS = ("embedding", "norms", "router")
_USUAL = (*_ALWAYS, "head")
# What a module pattern of `modules_to_not_convert`, `ignored_layers` or `ignore` names. First match wins, so the
# narrow names come first; a pattern with a digit in it names single layers and is left to the average.
_MODULES = (
    ("lm_head", "head"),
    ("embed", "embedding"),
    ("shared_expert", "shared_experts"),
    ("self_attn", "attention"),
    ("linear_attn", "attention"),
    ("attention", "attention"),
    ("mixer", "attention"),
    ("router", "router"),
    ("experts", "experts"),
    ("mlp|gate_proj|up_proj|down_proj", "ffn"),
)


def quantization(section: ConfigReader) -> Quantization:
    """Weight format and 16-bit parts of a `quantization_config`.

    Raises: UnsupportedError for a method or width that has no counterpart here.
    """
    method = section.text("", "quant_method", "quant_library", "quant_algo").lower()
    if not method and section.get("load_in_4bit", "load_in_8bit") is not None:
        method = "bitsandbytes"
    reader = _METHODS.get(method)
    if reader is None:
        close = nearest(method, _METHODS)
        raise UnsupportedError(
            f"unknown quantization method {shown(method)}",
            where=section.where,
            hint="did you mean " + ", ".join(close) + "?" if close else "known: " + ", ".join(sorted(_METHODS)),
        )
    name = reader(section)
    kept = {*_USUAL, *_kept(section)}
    if section.flag(False, "lm_head"):
        kept.discard("head")
    return name, tuple(sorted(kept))


def _kept(section: ConfigReader) -> Iterable[str]:
    """Parts named by the lists of modules that were not converted."""
    for key in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"):
        for pattern in section.items(key) or ():
            name = str(pattern).replace("\\", "").rstrip("$*.")
            if any(part.isdigit() for part in name.split(".")):
                continue
            part = next((part for words, part in _MODULES if any(w in name for w in words.split("|"))), None)
            if name.endswith("mlp.gate"):  # a router, by the name most mixtures give it
                part = "router"
            if part is not None:
                yield part


def _integer(section: ConfigReader, bits: int) -> str:
    if bits not in (2, 3, 4, 8):
        raise UnsupportedError(f"no format for {bits}-bit integer weights", where=section.where, hint="2, 3, 4 or 8")
    return f"int{bits}"


def _grouped(name: str) -> Callable[[ConfigReader], str]:
    """AWQ or GPTQ: their own name at 4 bits, plain integers else."""

    def read(section: ConfigReader) -> str:
        bits = section.size_or(4, "bits", "w_bit")
        return name if bits == 4 else _integer(section, bits)

    return read


def _fp8(section: ConfigReader) -> str:
    return "fp8_block" if section.items("weight_block_size") else "fp8"


def _bitsandbytes(section: ConfigReader) -> str:
    """NF4 has the size of int4 to within a tenth of a bit, and is weight-only like it."""
    return "int4" if section.flag(False, "load_in_4bit", "_load_in_4bit") else "int8"


def _compressed_tensors(section: ConfigReader) -> str:
    """The weights of the first group that has any (vLLM compressed-tensors)."""
    groups = section.get("config_groups") or {}
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            return _scheme(section, weights)
    raise UnsupportedError("compressed-tensors without weight groups", where=section.where)


def _scheme(section: ConfigReader, weights: Mapping[str, Any]) -> str:
    scheme = ConfigReader(weights, f"{section.where}: weights")
    bits, kind = scheme.size("num_bits"), scheme.text("int", "type")
    if kind == "int":
        return _integer(section, bits)
    if bits == 8:
        return "fp8"
    if bits == 4:
        return "mxfp4" if scheme.size_or(16, "group_size") == 32 else "nvfp4"
    raise UnsupportedError(f"no format for {bits}-bit float weights", where=section.where)


def _modelopt(section: ConfigReader) -> str:
    algorithm = section.text("", "quant_algo").upper()
    known = {"FP8": "fp8", "NVFP4": "nvfp4", "FP8_PB_WO": "fp8_block", "W4A16_AWQ": "awq", "MXFP8": "mxfp8"}
    if not algorithm and section.get("config_groups") is not None:
        return _compressed_tensors(section)
    if algorithm not in known:
        raise UnsupportedError(
            f"unknown quant_algo {shown(algorithm)}", where=section.where, hint="known: " + ", ".join(sorted(known))
        )
    return known[algorithm]


def _fixed(name: str) -> Callable[[ConfigReader], str]:
    return lambda section: name


_METHODS: dict[str, Callable[[ConfigReader], str]] = {
    "gptq": _grouped("gptq"),
    "awq": _grouped("awq"),
    "fp8": _fp8,
    "fbgemm_fp8": _fixed("fp8"),
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "mxfp4": _fixed("mxfp4"),
    "bitnet": _fixed("ternary"),
}
