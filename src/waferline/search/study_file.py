"""A sweep written down: models, machines and axes in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, nearest
from waferline.predict.profile import Profile, load_profile

KEYS = ("models", "machines", "axes", "fields", "engine", "kv", "profile")
LABEL_AXES = ("precision",)
AXES = ("batch_size", "seq_len", "output_len", *LABEL_AXES, "tp", "pp", "ep", "dp")
DEFAULT_FIELDS = (
    "ttft_s",
    "itl_s",
    "throughput_tokens_per_s",
    "feasible",
    "device_memory_bytes",
    "decode_bottleneck",
)
MAX_VALUES = 10_000_000  # of one axis: 80 MB
_RANGE = ("start", "stop", "step")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to solve: every model on every machine over the grid of `axes`."""

    models: tuple[str, ...]
    machines: tuple[str, ...]
    axes: Mapping[str, AnyArray]
    fields: tuple[str, ...] = DEFAULT_FIELDS
    engine: str | None = None
    kv: str | None = None
    profile: Profile | None = None


def read_sweep(path: str | Path) -> Sweep:
    """The sweep of a YAML file: `models`, `machines` and `axes`; an axis is a list or `{start, stop, step}`.

    Raises: FileFormatError naming the key that is wrong and the nearest valid one.
    """
    data = read_file(path)
    where = str(path)
    if not isinstance(data, dict):
        raise FileFormatError("a sweep is a mapping of " + ", ".join(KEYS), where=where)
    _known(data, KEYS, where)
    for key in ("models", "machines", "axes"):
        if not data.get(key):
            raise FileFormatError(f"missing key '{key}'", where=where)
    if not isinstance(data["axes"], dict):
        raise FileFormatError("'axes' is a mapping of argument to values", where=where)
    _known(data["axes"], AXES, f"{where}: axes")
    axes = {name: _axis(name, value, where) for name, value in data["axes"].items()}
    if "seq_len" not in axes:
        raise FileFormatError("missing axis 'seq_len'", where=where)
    profile = _text(data, "profile", where)
    return Sweep(
        models=_names(data["models"], "models", where),
        machines=_names(data["machines"], "machines", where),
        axes=axes,
        fields=_names(data.get("fields", DEFAULT_FIELDS), "fields", where),
        engine=_text(data, "engine", where),
        kv=_text(data, "kv", where),
        profile=None if profile is None else load_profile(profile),
    )


def _known(data: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in data:
        if key not in valid:
            close = nearest(str(key), valid)
            hint = f"did you mean {close[0]}?" if close else "valid: " + ", ".join(valid)
            raise FileFormatError(f"unknown key '{key}'", where=where, hint=hint)


def _text(data: Mapping[str, Any], key: str, where: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise FileFormatError(f"'{key}' is a name, got {value!r}", where=where)
    return value


def _names(value: Any, key: str, where: str) -> tuple[str, ...]:
    """Names without repeats: a model named twice is not solved twice."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values or not all(isinstance(v, str) and v for v in values):
        raise FileFormatError(f"'{key}' is a list of names", where=where)
    return tuple(dict.fromkeys(values))


def _axis(name: str, value: Any, where: str) -> AnyArray:
    kind, least = ("a name", None) if name in LABEL_AXES else ("a whole number", 0 if name == "output_len" else 1)
    if isinstance(value, dict) and least is not None:
        values = _range(name, value, where)
    else:
        values = value if isinstance(value, list) else [value]
    if not values:
        raise FileFormatError(f"axis '{name}' has no values", where=where)
    for item in values:
        good = isinstance(item, str) if least is None else _is_whole(item) and least <= item < 2**53
        if not good:
            limit = "" if least is None else f" of at least {least}"
            raise FileFormatError(f"axis '{name}': {item!r} is not {kind}{limit}", where=where)
    return np.asarray(values)


def _is_whole(item: Any) -> bool:
    return not isinstance(item, bool) and (isinstance(item, int) or (isinstance(item, float) and item.is_integer()))


def _range(name: str, value: Mapping[str, Any], where: str) -> Sequence[int]:
    """`{start, stop, step}` as numbers, `stop` included."""
    _known(value, _RANGE, f"{where}: axes.{name}")
    parts = [value.get(key, 1 if key == "step" else None) for key in _RANGE]
    if not all(map(_is_whole, parts)) or parts[2] == 0:
        raise FileFormatError(f"axis '{name}' is a list or {{start, stop, step}} of whole numbers", where=where)
    start, stop, step = map(int, parts)
    values = range(start, stop + (1 if step > 0 else -1), step)
    if (stop - start) // step >= MAX_VALUES:
        raise FileFormatError(f"axis '{name}' has more than {MAX_VALUES:,} values", where=where)
    return values
