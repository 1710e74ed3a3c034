"""NVIDIA ModelOpt: a `quant_algo` for all, or one for each layer; in the configuration or in hf_quant_config.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from reprlib import repr as shown

from waferline.errors import FileFormatError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization import compressed_tensors
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, named
from waferline.workloads.quantization.storage import KV_FORMATS, group_of, integer, kept

# quant_algo → weights, activations (None: 16 bits); {} is the group size. Names: modelopt.torch.export, TensorRT-LLM.
_ALGORITHMS: dict[str, tuple[str, str | None]] = {
    "FP8": ("fp8", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
    "FP8_PB_WO": ("fp8_block", None),
    "FP8_PB_REAL_QUANT": ("fp8_block", "fp8"),
    "FP8_BLOCK_SCALES": ("fp8_block", "fp8"),
    "NVFP4": ("nvfp4", "nvfp4"),
    "NVFP4_AWQ": ("nvfp4", "nvfp4"),
    "NVFP4_SVDQUANT": ("nvfp4", "nvfp4"),
    "W4A16_NVFP4": ("nvfp4", None),
    "W4A8_NVFP4_FP8": ("nvfp4", "fp8"),
    "MXFP4": ("mxfp4", None),
    "W4A16_MXFP4": ("mxfp4", None),
    "W4A8_MXFP4_FP8": ("mxfp4", "fp8"),
    "W4A8_MXFP4_MXFP8": ("mxfp4", "mxfp8"),
    "MXFP8": ("mxfp8", "mxfp8"),
    "W4A16_AWQ": ("int4_g{}_sym", None),
    "W4A8_AWQ": ("int4_g{}_sym", "fp8"),
    "W4A16": ("int4_g{}_sym", None),
    "W8A16": ("int8", None),
    "W8A8_SQ_PER_CHANNEL": ("int8", "int8"),
    "INT8_SQ": ("int8", "int8"),
    "UNQUANTIZED": (WIDE.weights, None),
}
_USUAL_GROUP, _NVFP4_GROUP = 128, 16


def read(c: ConfigReader) -> Scheme:
    """Layers that are named first, then those excluded, then the algorithm of the whole."""
    algorithm = c.text("", "quant_algo").upper()
    cache = _cache(c)
    if c.get("config_groups") is not None and c.get("quantized_layers") is None:
        scheme = compressed_tensors.read(c)
        c.get("group_size", "exclude_modules", "kv_cache_quant_algo")
        return replace(
            scheme, method="modelopt", head=WIDE, kv=scheme.kv or cache
        )  # the head is left alone unless a rule names it
    c.get("config_groups", "kv_cache_scheme")
    by_layer = list(_by_layer(c))
    excluded = list(kept(c, "exclude_modules", "ignore"))
    if algorithm == "MIXED_PRECISION":
        if not by_layer:
            raise FileFormatError("missing key 'quantized_layers'", where=c.where, hint="of MIXED_PRECISION")
        c.get("group_size")
        return Scheme("modelopt", WIDE, (*by_layer, *excluded), kv=cache)
    storage, notes = _storage(c, algorithm)
    return Scheme("modelopt", storage, (*excluded, *by_layer), kv=cache, notes=notes)


def _by_layer(c: ConfigReader) -> Iterator[Rule]:
    layers = c.section("quantized_layers")
    if layers is None:
        return
    names: dict[Storage, list[str]] = {}
    for name in layers.names():
        entry = layers.section(name)
        if entry is not None:
            storage, _ = _storage(entry, entry.text("", "quant_algo").upper())
            names.setdefault(storage, []).append(name)
    for storage, modules in names.items():
        yield from named(modules, storage, layers.where)


def _storage(c: ConfigReader, algorithm: str) -> tuple[Storage, tuple[str, ...]]:
    if not algorithm:
        raise FileFormatError("missing key 'quant_algo'", where=c.where)
    if algorithm not in _ALGORITHMS:
        raise UnsupportedError(
            f"unknown quant_algo {shown(algorithm)}", where=c.where, hint="known: " + ", ".join(sorted(_ALGORITHMS))
        )
    weights, activations = _ALGORITHMS[algorithm]
    group, notes = group_of(c, "group_size", usual=_USUAL_GROUP if "{}" in weights else None)
    if "{}" in weights:
        weights = integer(c.where, 4, group, "_sym")
    elif weights == "nvfp4" and group not in (None, _NVFP4_GROUP):
        raise UnsupportedError(f"NVFP4 in groups of {group}", where=c.where, hint=f"it has {_NVFP4_GROUP}")
    return Storage(weights, activations), notes


def _cache(c: ConfigReader) -> str | None:
    name = c.text("", "kv_cache_quant_algo").lower()
    scheme = c.section("kv_cache_scheme")
    if not name or name == "none":
        return None if scheme is None else compressed_tensors.cache(c)
    if name not in KV_FORMATS:
        raise UnsupportedError(
            f"unknown kv_cache_quant_algo {shown(name)}", where=c.where, hint="known: " + ", ".join(KV_FORMATS)
        )
    return KV_FORMATS[name]
