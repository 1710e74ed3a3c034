"""AMD Quark: one configuration for all, others by pattern or class, modules left out."""

from __future__ import annotations

from reprlib import repr as shown

from waferline.errors import FileFormatError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, named
from waferline.workloads.quantization.storage import group_of, integer, kept

_FLOATS = {
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8_e5m2",
    "fp4": "mxfp4",
    "fp4_e2m1": "mxfp4",
    "mxfp4": "mxfp4",
    "mx": "mxfp4",
    "mx6": "mxfp6",
}
_INTEGERS = {"int2": 2, "int3": 3, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8}
_PARTS = ("weight", "input_tensors", "output_tensors", "bias", "target_device")


def read(c: ConfigReader) -> Scheme:
    whole = c.section("global_quant_config")
    if whole is None:
        raise FileFormatError("missing key 'global_quant_config'", where=c.where)
    rules: list[Rule] = list(kept(c, "exclude"))
    for key in ("layer_quant_config", "layer_type_quant_config"):
        section = c.section(key)
        for name in section.names() if section is not None and not key.startswith("layer_type") else ():
            assert section is not None
            entry = section.section(name)
            if entry is not None:
                rules += named([name], _storage(entry), section.where)
    by_class = c.section("layer_type_quant_config")
    storage = _storage(whole)
    linear = by_class.section("Linear", "nn.Linear") if by_class is not None and by_class.names() else None
    default = storage if linear is None else _storage(linear)
    return Scheme("quark", default, tuple(rules), head=default, kv=_cache(c))


def _storage(c: ConfigReader) -> Storage:
    weight = c.section("weight")
    c.get(*_PARTS)
    if weight is None:
        return WIDE
    weights, inputs = _format(weight), c.section("input_tensors")
    if inputs is None:
        return Storage(weights)
    return Storage(weights, weights if inputs.get("dtype") is None else _format(inputs, activations=True))


def _format(c: ConfigReader, *, activations: bool = False) -> str:
    kind = c.text("", "dtype").lower()
    if kind in _FLOATS:
        return _FLOATS[kind]
    if kind in ("bfloat16", "float16", "float32"):
        return WIDE.weights
    if kind not in _INTEGERS:
        raise UnsupportedError(f"unknown dtype {shown(kind)}", where=c.where, hint=", ".join((*_FLOATS, *_INTEGERS)))
    bits = _INTEGERS[kind]
    if activations:
        return f"int{bits}"
    grouped = c.text("", "qscheme") == "per_group"
    group = group_of(c, "group_size")[0] if grouped else None
    return integer(c.where, bits, group, "_sym" if c.flag(True, "symmetric") else "")


def _cache(c: ConfigReader) -> str | None:
    section = c.section("kv_cache_quant_config")
    for name in section.names() if section is not None else ():
        assert section is not None
        entry = section.section(name)
        outputs = None if entry is None else entry.section("output_tensors")
        if outputs is not None:
            return _format(outputs, activations=True)
    return None
