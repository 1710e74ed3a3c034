"""A model file in the catalogue's own form: names, sources, and a published configuration or the layers written out.

Layers are written out for what has no `config.json`:

```yaml
convnet:
  input_shape: [1, 49, 10]
  classes: 12
  layers:
    - {name: conv1, c_in: 1, c_out: 64, kernel: [10, 4], out: [25, 5], stride: 2}
```
or `learner:` with a `kind` (`workloads/learners.py`) and its sizes, or `transformer:` with `hidden_size`, `vocab_size` and
`blocks`, each with `count` and optional `attention` and `ffn`.
The keys are those of the records in `waferline.workloads.spec`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from reprlib import repr as shown
from typing import Any

from waferline.errors import FileFormatError, InvalidInputError, nearest
from waferline.workloads.config_reader import MAX_SIZE
from waferline.workloads.huggingface import from_config
from waferline.workloads.learners import learner
from waferline.workloads.source import Source
from waferline.workloads.spec import (
    Attention,
    Block,
    CompressedAttention,
    Conv,
    ConvNet,
    FeedForward,
    LatentAttention,
    LinearAttention,
    MixtureOfExperts,
    ModelSpec,
    StateSpace,
    Transformer,
)
from waferline.workloads.streams import StreamNet

_MIXERS: dict[str, type] = {
    "attention": Attention,
    "latent_attention": LatentAttention,
    "compressed_attention": CompressedAttention,
    "state_space": StateSpace,
    "linear_attention": LinearAttention,
}
_FFNS: dict[str, type] = {"ffn": FeedForward, "experts": MixtureOfExperts}
_GIVEN = frozenset(
    {
        "towers",
        "name",
        "title",
        "family",
        "aliases",
        "sources",
        "metadata",
        "weight_bytes_exact",
        "stored",
        "formats",
        "places",
        "notes",
    }
)
_MAY_BE_ZERO = frozenset(
    {"shared_intermediate", "learned_positions", "token_types", "position_params", "head_classes", "extra_params"}
    | {"fixed_tokens", "stem_params", "stem_flops", "encoder_tokens", "max_positions", "norms", "classes"}
    | {"index_heads", "index_head_dim", "index_topk", "vocab_size", "ratio"}
)


def model_from_facts(facts: Mapping[str, Any], where: str) -> ModelSpec:
    """The model of a catalogue file: a published configuration or layers written out, with names and sources.

    Raises: FileFormatError or InvalidInputError for what does not describe a model.
    """
    spec = _written(facts, where) or from_config(facts["config"], facts["name"], f"{where}: config")
    spec = replace(
        spec, notes=()
    )  # of a configuration that the catalogue vouches for nobody needs to be told what was assumed
    named: dict[str, Any] = {
        "name": facts["name"],
        "title": facts["title"],
        "family": facts.get("family") or spec.family,
        "aliases": tuple(facts.get("aliases") or ()),
        "sources": tuple(Source(s["title"], s["url"], str(s["date"])) for s in facts.get("sources", ())),
        "published_params": facts.get("published_params"),
        "metadata": dict(spec.metadata) | {k: str(v) for k, v in (facts.get("metadata") or {}).items()},
    }
    if isinstance(spec, ConvNet):
        return replace(spec, published_macs=facts.get("published_macs"), **named)
    if isinstance(spec, StreamNet):
        return replace(spec, **named)
    return replace(spec, published_active_params=facts.get("published_active_params"), **named)


def _written(data: Mapping[str, Any], where: str) -> Transformer | ConvNet | None:
    """The model under `transformer`, `convnet` or `learner` of `data`, or None when it has neither."""
    if "convnet" in data:
        return _convnet(data["convnet"], f"{where}: convnet")
    if "learner" in data:
        return learner(data["learner"], f"{where}: learner")
    if "transformer" in data:
        return _transformer(data["transformer"], f"{where}: transformer")
    return None


def _convnet(data: Any, where: str) -> ConvNet:
    values = _checked(ConvNet, data, where, also=("layers", "input_shape"))
    rows = _list(values.pop("layers"), f"{where}: layers")
    shape = _whole_numbers(values.pop("input_shape"), 3, f"{where}: input_shape")
    layers = tuple(_conv(row, f"{where}: layers[{i}]") for i, row in enumerate(rows))
    return ConvNet(name="", title="", family="", layers=layers, input_shape=(shape[0], shape[1], shape[2]), **values)


def _conv(row: Any, where: str) -> Conv:
    """A layer; `kernel` and `out` may be a number or [height, width], and are 1 for a dense layer."""
    row = dict(_mapping(row, where))
    for short, long in (("kernel", ("kernel_h", "kernel_w")), ("out", ("h_out", "w_out"))):
        value = row.pop(short, 1)
        pair = _whole_numbers(value if isinstance(value, list) else [value] * 2, 2, f"{where}: {short}")
        row |= dict(zip(long, pair, strict=True))
    conv: Conv = _record(Conv, row, where)
    if conv.c_in % conv.groups or conv.c_out % conv.groups:
        raise InvalidInputError(f"{conv.groups} groups do not divide the channels", where=where)
    return conv


def _transformer(data: Any, where: str) -> Transformer:
    values = _checked(Transformer, data, where, also=("blocks", "encoder"))
    for side in ("blocks", "encoder"):
        rows = _list(values.pop(side, []), f"{where}: {side}")
        values[side] = tuple(_block(row, f"{where}: {side}[{i}]") for i, row in enumerate(rows))
    if not values["blocks"]:
        raise FileFormatError("no blocks", where=where)
    return Transformer(name="", title="", family="", **values)


def _block(row: Any, where: str) -> Block:
    row = dict(_mapping(row, where))
    mixer = _one_of(row, _MIXERS, where)
    ffn = _one_of(row, _FFNS, where)
    cross = row.pop("cross", None)
    extra = {"cross": _record(Attention, cross, f"{where}: cross")} if cross is not None else {}
    values = _checked(Block, row, where, skip=("mixer", "ffn", "cross"))
    return Block(mixer=mixer, ffn=ffn, **extra, **values)


def _one_of(row: dict[str, Any], kinds: Mapping[str, type], where: str) -> Any:
    present = [key for key in kinds if key in row]
    if len(present) > 1:
        raise FileFormatError(f"both {present[0]} and {present[1]}", where=where, hint="a block has one of them")
    return _record(kinds[present[0]], row.pop(present[0]), f"{where}: {present[0]}") if present else None


def _record(kind: type, data: Any, where: str) -> Any:
    return kind(**_checked(kind, data, where))


def _checked(kind: type, data: Any, where: str, also: Sequence[str] = (), skip: Sequence[str] = ()) -> dict[str, Any]:
    """The entries of `data` that make a `kind`, each of the type its field names; `also` is passed on unchecked."""
    data = _mapping(data, where)
    known = {f.name: f for f in fields(kind) if f.name not in _GIVEN - {"name"} and f.name not in skip}
    if kind in (Transformer, ConvNet):
        known.pop("name", None)
    for key in data:
        if key not in known:
            close = nearest(str(key), known)
            hint = f"did you mean '{close[0]}'?" if close else "valid: " + ", ".join(known)
            raise FileFormatError(f"unknown key {shown(key)}", where=where, hint=hint)
    for key, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and key not in data:
            raise FileFormatError(f"missing key '{key}'", where=where)
    return {key: v if key in also else _value(str(known[key].type), key, v, where) for key, v in data.items()}


def _value(annotation: str, key: str, value: Any, where: str) -> Any:
    if value is None and "None" in annotation:
        return None
    check = next((c for start, c in _CHECKS if annotation.startswith(start)), None)
    if check is None or not check(key, value):
        kind = annotation.removesuffix(" | None").replace("int", "a positive whole number")
        raise InvalidInputError(f"'{key}' must be {kind}, not {shown(value)}", where=where)
    return tuple(value) if isinstance(value, list) else value


def _is_whole(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return (0 if key in _MAY_BE_ZERO else 1) <= value <= (10**12 if key.endswith(("_params", "_flops")) else MAX_SIZE)


def _is_number(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_text(key: str, value: Any) -> bool:
    return isinstance(value, str)


_CHECKS: tuple[tuple[str, Callable[[str, Any], bool]], ...] = (
    ("int", _is_whole),
    ("bool", lambda key, value: isinstance(value, bool)),
    ("float", _is_number),
    ("str", _is_text),
    ("Literal", lambda key, value: value in ("decoder", "encoder", "encoder-decoder")),
    ("tuple[str", lambda key, value: isinstance(value, list) and all(isinstance(v, str) for v in value)),
)


def _mapping(data: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise FileFormatError(f"expected a mapping, found {type(data).__name__}", where=where)
    return data


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise FileFormatError(f"expected a list, found {type(data).__name__}", where=where)
    return data


def _whole_numbers(data: Any, length: int, where: str) -> list[int]:
    values = _list(data, where)
    if len(values) != length or not all(_is_whole("", v) for v in values):
        raise InvalidInputError(f"expected {length} positive whole numbers, not {shown(data)}", where=where)
    return values
