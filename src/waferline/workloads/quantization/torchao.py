"""torchao: a configuration class by name with its arguments, for all modules or by module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from reprlib import repr as shown
from typing import Any

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, named, regex
from waferline.workloads.quantization.storage import group_of, integer, kept

# Class (or the older name of its function) → width of integers (0: none), format of weights, of activations, usual group.
_CLASSES: Mapping[str, tuple[int, str, str | None, int | None]] = {
    "int4weightonly": (4, "", None, 128),
    "int8weightonly": (8, "", None, None),
    "int8dynamicactivationint8weight": (8, "", "int8", None),
    "int8dynamicactivationint4weight": (4, "", "int8", 32),
    "int8dynamicactivationintxweight": (0, "weight_dtype", "int8", 32),
    "int4dynamicactivationint4weight": (4, "", "int4", None),
    "float8weightonly": (0, "fp8", None, None),
    "float8dynamicactivationfloat8weight": (0, "fp8", "fp8", None),
    "float8staticactivationfloat8weight": (0, "fp8", "fp8", None),
    "float8dynamicactivationint4weight": (4, "", "fp8", 128),
    "intxweightonly": (0, "weight_dtype", None, 32),
    "uintxweightonly": (0, "dtype", None, 64),
    "gemliteuintxweightonly": (0, "bit_width", None, 128),
    "nvfp4dynamicactivationnvfp4weight": (0, "nvfp4", "nvfp4", None),
    "nvfp4inference": (0, "nvfp4", "nvfp4", None),
    "nvfp4weightonly": (0, "nvfp4", None, None),
    "mxfpinference": (0, "mxfp8", "mxfp8", None),
    "mxdynamicactivationmxweight": (0, "mxfp8", "mxfp8", None),
}
_BY_MODULE = ("modulefqntoconfig", "fqntoconfig", "aopermoduleconfig")
_DEFAULT = "_default"
_WIDTH = re.compile(r"(\d+)$")


def read(c: ConfigReader) -> Scheme:
    """`quant_type` is a name with `quant_type_kwargs`, or `{default: {_type, _data}}`; the latter may hold modules."""
    kind = c.get("quant_type")
    if kind is None:
        raise FileFormatError("missing key 'quant_type'", where=c.where)
    rules = list(kept(c, "modules_to_not_convert"))
    ends = c.flag(False, "include_input_output_embeddings")
    if isinstance(kind, str):
        arguments = c.section("quant_type_kwargs") or ConfigReader({}, c.where)
        storage = _storage(kind, arguments)
        return Scheme("torchao", storage, tuple(rules), embedding=storage if ends else WIDE)
    section = c.section("quant_type")
    assert section is not None
    default = section.section("default")
    if default is None:
        raise FileFormatError("missing key 'default'", where=section.where)
    name, data = default.text("", "_type"), default.section("_data") or ConfigReader({}, default.where)
    default.get("_version")
    if _plain(name) not in _BY_MODULE:
        storage = _storage(name, data)
        return Scheme("torchao", storage, tuple(rules), embedding=storage if ends else WIDE)
    whole, own = _by_module(data)
    return Scheme("torchao", whole, (*rules, *own))


def _by_module(data: ConfigReader) -> tuple[Storage, list[Rule]]:
    modules = data.section("module_fqn_to_config", "fqn_to_config")
    if modules is None:
        raise FileFormatError("missing key 'module_fqn_to_config'", where=data.where)
    whole, rules = WIDE, list[Rule]()
    for name in modules.names():
        entry = modules.section(name)
        storage = WIDE
        if entry is not None:
            storage = _storage(entry.text("", "_type"), entry.section("_data") or ConfigReader({}, entry.where))
        if name == _DEFAULT:
            whole = storage
        elif name.startswith("re:"):
            rules.append(regex(name.removeprefix("re:"), storage, modules.where))
        else:
            rules += named([name], storage, modules.where)
    return whole, rules


def _plain(name: str) -> str:
    return name.rpartition(".")[2].replace("_", "").lower().removesuffix("config")


def _storage(name: str, data: ConfigReader) -> Storage:
    found = _CLASSES.get(_plain(name))
    if found is None:
        raise UnsupportedError(
            f"unknown quant_type {shown(name)}", where=data.where, hint="known: " + ", ".join(sorted(_CLASSES))
        )
    bits, weights, activations, usual = found
    if not bits and weights in ("weight_dtype", "dtype", "bit_width"):
        bits, weights = _width(data, weights), ""
    if bits:
        group = _group(data, usual)
        return Storage(integer(data.where, bits, group, "_affine"), activations)
    if weights == "mxfp8" and "4" in str(_named_type(data.get("weight_dtype", "gemm_kernel_choice") or "")):
        weights, activations = "mxfp4", "mxfp4"
    return Storage(weights, activations)


def _group(data: ConfigReader, usual: int | None) -> int | None:
    """The group size: its own key, or the granularity that newer classes have instead."""
    granularity = data.get("granularity", "weight_granularity")
    if isinstance(granularity, Mapping):
        inner = granularity.get("_data")
        if isinstance(inner, Mapping) and inner.get("group_size") is not None:
            return group_of(ConfigReader(inner, data.where), "group_size")[0]
        return None  # PerAxis, PerRow, PerTensor
    return group_of(data, "group_size", usual=usual)[0]


def _named_type(value: Any) -> Any:
    """A dtype as text, or as torchao writes it: `{_type: torch.dtype, _data: int4}`."""
    return value.get("_data") if isinstance(value, Mapping) else value


def _width(data: ConfigReader, key: str) -> int:
    value = _named_type(data.need(key))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _WIDTH.search(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidInputError(f"'{key}' must name a width, not {shown(value)}", where=data.where)
    return int(match[1])
