"""A sweep written down: models, machines, axes and what all points share, in one YAML file, in the words of `Scenario`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, nearest
from waferline.predict.profile import Profile, load_profile
from waferline.predict.scenario import Scenario
from waferline.search.assertion import Assertion

# Fields of a scenario that are solved as arrays; every other one is a choice, solved value by value.
NUMBERS = (
    "batch",
    "prompt",
    "output",
    "concurrency",
    "context",
    "images",
    "clips",
    "steps",
    "micro_batch",
    "virtual_stages",
)
CHOICES = tuple(
    f.name for f in fields(Scenario) if f.name not in {*NUMBERS, "model", "machine", "profile", "intervals", "only"}
)
# Choices that are whole numbers.
_COUNTS = ("tp", "pp", "ep", "dp", "devices", "ring", "frames", "threads", "slices")
KEYS = ("models", "machines", "axes", "fields", "assert", "profile", *NUMBERS, *CHOICES)
# What is written when a sweep names no fields, by phase.
DEFAULT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "serve": (
        "ttft_s",
        "itl_s",
        "throughput_tokens_per_s",
        "feasible",
        "device_memory_bytes",
        "decode_bottleneck",
    ),
    "infer": ("latency_s", "samples_per_s", "feasible", "device_memory_bytes", "bottleneck"),
    "train": ("step_time_s", "samples_per_s", "mfu", "feasible", "device_memory_bytes", "bottleneck"),
}
MAX_VALUES = 10_000_000  # of one axis: 80 MB
_RANGE = ("start", "stop", "step")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to solve: every model on every machine, with every combination of `choices`, over the grid of `numbers`."""

    models: tuple[str, ...]
    machines: tuple[str, ...]
    numbers: Mapping[str, AnyArray]
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)  # fields of the scenario that all points share
    fields: tuple[str, ...] = DEFAULT_FIELDS["serve"]
    profile: Profile | None = None
    assertions: tuple[Assertion, ...] = ()

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of the choices, in the order of the file."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))


def read_sweep(path: str | Path) -> Sweep:
    """The sweep of a YAML file: `models`, `machines` and `axes`; an axis is a list or `{start, stop, step}`.

    Axes, and keys beside them that all points share, are fields of `Scenario`: `batch`, `prompt`, `precision`, `tp`, `engine`.
    Raises: FileFormatError naming the key that is wrong and the nearest valid one.
    """
    data = read_file(path)
    where = str(path)
    if not isinstance(data, dict):
        raise FileFormatError("a sweep is a mapping of " + ", ".join(KEYS[:4]), where=where)
    _known(data, KEYS, where)
    for key in ("models", "machines", "axes"):
        if not data.get(key):
            raise FileFormatError(f"missing key '{key}'", where=where)
    if not isinstance(data["axes"], dict):
        raise FileFormatError("'axes' is a mapping of argument to values", where=where)
    _known(data["axes"], (*NUMBERS, *CHOICES), f"{where}: axes")
    axes = {name: _axis(name, value, where) for name, value in data["axes"].items()}
    fixed = {name: _one(name, data, where) for name in (*NUMBERS, *CHOICES) if data.get(name) is not None}
    if twice := sorted(axes.keys() & fixed.keys()):
        raise FileFormatError(f"'{twice[0]}' is an axis and a key beside it", where=where)
    phases = {str(fixed.get("phase", "serve")), *map(str, axes.get("phase", ()))}
    usual = tuple(dict.fromkeys(f for phase in phases for f in DEFAULT_FIELDS.get(phase, ())))
    profile = data.get("profile")
    if profile is not None and not isinstance(profile, str):
        raise FileFormatError(f"'profile' is the path of a file, got {profile!r}", where=where)
    chosen = _names(data.get("fields", usual), "fields", where)
    asserts = tuple(Assertion.of(text) for text in _names(data["assert"], "assert", where)) if "assert" in data else ()
    return Sweep(
        models=_names(data["models"], "models", where),
        machines=_names(data["machines"], "machines", where),
        numbers={name: np.asarray(values) for name, values in axes.items() if name in NUMBERS},
        choices={name: tuple(dict.fromkeys(values)) for name, values in axes.items() if name in CHOICES},
        fixed=fixed,
        fields=tuple(dict.fromkeys((*chosen, *(n for one in asserts if (n := one.column(chosen)) not in axes)))),
        assertions=asserts,
        profile=None if profile is None else load_profile(profile),
    )


def _known(data: Mapping[str, Any], valid: Sequence[str], where: str) -> None:
    for key in data:
        if key not in valid:
            close = nearest(str(key), valid)
            hint = f"did you mean {close[0]}?" if close else "valid: " + ", ".join(valid)
            raise FileFormatError(f"unknown key '{key}'", where=where, hint=hint)


def _names(value: Any, key: str, where: str) -> tuple[str, ...]:
    """Names without repeats: a model named twice is not solved twice."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values or not all(isinstance(v, str) and v for v in values):
        raise FileFormatError(f"'{key}' is a list of names", where=where)
    return tuple(dict.fromkeys(values))


def _one(name: str, data: Mapping[str, Any], where: str) -> Any:
    """The value that all points share."""
    value = data[name]
    if isinstance(value, list | dict):
        raise FileFormatError(
            f"'{name}' is one value here, got {value!r}", where=where, hint="several stand under axes"
        )
    return _axis(name, value, where)[0]


def _axis(name: str, value: Any, where: str) -> Sequence[Any]:
    least = 0 if name in ("output", "images", "clips") else 1
    values: Sequence[Any]
    if isinstance(value, dict) and name in (*NUMBERS, *_COUNTS):
        values = _range(name, value, where)
    else:
        values = value if isinstance(value, list) else [value]
    if not values:
        raise FileFormatError(f"axis '{name}' has no values", where=where)
    if isinstance(values, range) and values[0] >= least <= values[-1]:
        return values
    numeric = name in (*NUMBERS, *_COUNTS)
    for item in values:
        if name == "memory_share":
            if not isinstance(item, float | int) or not 0 < item <= 1:
                raise FileFormatError(f"axis '{name}': {item!r} is not a share above 0 and up to 1", where=where)
            continue
        if numeric and not (_is_whole(item) and least <= item < 2**53):
            raise FileFormatError(f"axis '{name}': {item!r} is not a whole number of at least {least}", where=where)
        if not numeric and not (isinstance(item, str) and item):
            raise FileFormatError(f"axis '{name}': {item!r} is not a name", where=where)
    return values


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
