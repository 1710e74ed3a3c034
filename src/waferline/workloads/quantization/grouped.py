"""Integers that share a scale in groups: GPTQ, AWQ, AutoRound, MLX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from reprlib import repr as shown
from typing import Any

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, is_regex, named, regex
from waferline.workloads.quantization.storage import group_of, integer, kept, texts

_USUAL_GROUP = 128


def _named(method: str, where: str, bits: int, group: int | None) -> Storage:
    """The method's own name for its usual 4 bits in groups of 128."""
    own = bits == 4 and group == _USUAL_GROUP
    return Storage(method if own else integer(where, bits, group))


def gptq(c: ConfigReader) -> Scheme:
    """One width for all, and `dynamic` rules: `-:` leaves modules at 16 bits, `+:` gives them another width."""
    bits = c.size("bits")
    group, notes = group_of(c, "group_size", usual=_USUAL_GROUP)
    c.flag(False, "desc_act")
    c.flag(True, "sym")
    c.text("", "checkpoint_format")
    storage = _named("gptq", c.where, bits, group)
    rules: list[Rule] = []
    dynamic = c.section("dynamic")
    for pattern in dynamic.names() if dynamic is not None else ():
        assert dynamic is not None
        bare = pattern.removeprefix("+:").removeprefix("-:")
        own = WIDE
        if not pattern.startswith("-:"):
            change = dynamic.section(pattern)
            width = bits if change is None else change.size_or(bits, "bits")
            size = group if change is None or change.get("group_size") is None else group_of(change, "group_size")[0]
            own = _named("gptq", c.where, width, size)
        else:
            dynamic.get(pattern)
        rules.append(regex(bare, own, dynamic.where))
    rules += kept(c)
    chosen = list(texts(c, "modules_in_block_to_quantize") or texts(c, "inside_layer_modules"))
    if chosen:
        rules += named(chosen, storage, c.where)
    head = storage if c.flag(False, "lm_head") else WIDE
    return Scheme("gptq", WIDE if chosen else storage, tuple(rules), head=head, notes=notes)


def awq(c: ConfigReader) -> Scheme:
    bits = c.size("bits", "w_bit")
    group, notes = group_of(c, "group_size", "q_group_size", usual=_USUAL_GROUP)
    c.flag(True, "zero_point")
    c.text("", "version")
    head = _named("awq", c.where, bits, group)
    return Scheme("awq", head, tuple(kept(c)), head=head if c.flag(False, "lm_head") else WIDE, notes=notes)


def auto_round(c: ConfigReader) -> Scheme:
    """One width for all; `extra_config` gives single modules (by name or regular expression) another."""
    if c.section("quantization_config") is not None:
        raise UnsupportedError("AutoRound within AutoRound", where=c.where)
    group, notes = group_of(c, "group_size", usual=_USUAL_GROUP)
    whole = {
        "bits": c.size("bits"),
        "group_size": group,
        "data_type": c.text("int", "data_type"),
        "act_bits": c.size_or(16, "act_bits"),
        "act_data_type": c.text("", "act_data_type"),
    }
    c.flag(True, "sym")
    c.text("", "packing_format", "backend")
    storage = _auto_round_storage(whole, c.where)
    rules: list[Rule] = []
    extra = c.section("extra_config")
    for name in extra.names() if extra is not None else ():
        assert extra is not None
        own = extra.section(name)
        if own is None:
            continue
        change = {
            **whole,
            **({"bits": own.size("bits")} if own.get("bits") is not None else {}),
            **({"group_size": group_of(own, "group_size")[0]} if own.get("group_size") is not None else {}),
            **({"data_type": own.text("", "data_type")} if own.get("data_type") is not None else {}),
            **({"act_bits": own.size("act_bits")} if own.get("act_bits") is not None else {}),
        }
        kind = _auto_round_storage(change, own.where)
        is_name = not is_regex(name.replace(".", ""))
        rules += named([name], kind, extra.where) if is_name else [regex(name, kind, extra.where, anywhere=True)]
    rules += kept(c)
    head = storage if c.flag(False, "quant_lm_head", "lm_head") else WIDE
    return Scheme("auto-round", storage, tuple(rules), head=head, notes=notes)


def _auto_round_storage(v: Mapping[str, Any], where: str) -> Storage:
    bits, kind = v["bits"], v["data_type"]
    if bits >= 16:
        return WIDE
    narrow = v["act_bits"] < 16
    if kind.startswith("int") or not kind:
        return Storage(_named("gptq", where, bits, v["group_size"]).weights, "int8" if narrow else None)
    floats = {("mx", 4): "mxfp4", ("mx", 8): "mxfp8", ("nv", 4): "nvfp4", ("fp", 8): "fp8"}
    weights = floats.get((kind[:2], bits))
    if weights is None:
        raise UnsupportedError(f"no format for {bits}-bit {shown(kind)}", where=where)
    acts = {4: weights, 8: "fp8" if weights != "mxfp8" else "mxfp8"}.get(v["act_bits"])
    return Storage(weights, acts if narrow else None)


_MLX_MODES = {"mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
_MLX_KEYS = ("bits", "group_size", "mode", "quant_method", "quantize_activations")


def mlx(c: ConfigReader) -> Scheme:
    """Every linear module and the embedding in one width; keys that are modules' paths say what differs there."""
    storage = _mlx_storage(c)
    rules = tuple(_mlx_rules(c, storage))
    other = not_of_mlx(c)
    notes = (f"mlx: not known and not read: {', '.join(other[:5])}",) if other else ()
    return Scheme("mlx", storage, rules, head=storage, embedding=storage, notes=notes)


def not_of_mlx(c: ConfigReader) -> list[str]:
    """Keys that are neither MLX's own nor paths of modules."""
    return [name for name in c.names() if not (name in _MLX_KEYS or "." in name or name == "lm_head")]


def _mlx_storage(c: ConfigReader) -> Storage:
    mode, bits = c.text("affine", "mode"), c.size("bits")
    if mode in _MLX_MODES:
        c.optional("group_size")
        return Storage(_MLX_MODES[mode])
    if mode != "affine":
        raise UnsupportedError(
            f"unknown mode {shown(mode)}", where=c.where, hint="known: affine, " + ", ".join(_MLX_MODES)
        )
    return Storage(integer(c.where, bits, c.size("group_size"), "_affine"))


def _mlx_rules(c: ConfigReader, whole: Storage) -> Iterator[Rule]:
    for name in c.names():
        value = c.get(name) if name not in _MLX_KEYS else None
        if isinstance(value, Mapping):
            own = c.section(name)
            assert own is not None
            usual = {key: c.get(key) for key in ("bits", "group_size") if key not in value}
            yield from named([name], _mlx_storage(own.merged(usual)), c.where)
        elif isinstance(value, bool) and ("." in name or name == "lm_head"):
            yield from named([name], whole if value else WIDE, c.where)
        elif value is not None and "." in name:
            raise InvalidInputError(f"'{name}' must be a mapping, true or false, not {shown(value)}", where=c.where)
