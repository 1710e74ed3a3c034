"""A sweep written down: models, machines and axes in one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, nearest

KEYS = ("models", "machines", "axes", "fields", "engine", "kv")
AXES = ("batch_size", "seq_len", "output_len", "precision", "tp", "pp", "ep", "dp")
DEFAULT_FIELDS = (
    "ttft_s",
    "itl_s",
    "throughput_tokens_per_s",
    "feasible",
    "device_memory_bytes",
    "decode_bottleneck",
)
_RANGE = ("start", "stop", "step")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to solve: every model on every machine over the grid of `axes`."""

    models: tuple[str, ...]
    machines: tuple[str, ...]
    axes: Mapping[str, npt.NDArray[Any]]
    fields: tuple[str, ...] = DEFAULT_FIELDS
    engine: str | None = None
    kv: str | None = None


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
    return Sweep(
        models=_names(data["models"], "models", where),
        machines=_names(data["machines"], "machines", where),
        axes=axes,
        fields=_names(data.get("fields", DEFAULT_FIELDS), "fields", where),
        engine=data.get("engine"),
        kv=data.get("kv"),
    )


def _known(data: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in data:
        if key not in valid:
            close = nearest(str(key), valid)
            hint = f"did you mean {close[0]}?" if close else "valid: " + ", ".join(valid)
            raise FileFormatError(f"unknown key '{key}'", where=where, hint=hint)


def _names(value: Any, key: str, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise FileFormatError(f"'{key}' is a list of names", where=where)
    return tuple(values)


def _axis(name: str, value: Any, where: str) -> npt.NDArray[Any]:
    if isinstance(value, dict):
        _known(value, _RANGE, f"{where}: axes.{name}")
        try:
            return np.arange(value["start"], value["stop"] + 1, value.get("step", 1))
        except (KeyError, TypeError, ZeroDivisionError):
            raise FileFormatError(f"axis '{name}' is a list or {{start, stop, step}}", where=where) from None
    array = np.atleast_1d(np.asarray(value))
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iufU":
        raise FileFormatError(f"axis '{name}' is a list of numbers or names, or {{start, stop, step}}", where=where)
    return array
