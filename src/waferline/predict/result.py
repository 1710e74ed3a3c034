"""The one shape of an answer: named arrays in SI units, how they are known, and where their inputs came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from waferline.arrays import AnyArray
from waferline.encode import dumps, encode
from waferline.errors import unknown
from waferline.predict.explain import constraint_lines, explain_text
from waferline.predict.operator_row import OperatorRow
from waferline.units import quantity, unit_of

T = TypeVar("T")


_GIVEN_IN = {"byte": "gigabyte"}  # by SI unit: the unit that people read such a quantity in


class Field:
    """A declared field of a result: `result.ttft` answers with a pint quantity (or a bare array when it has no unit).

    unit: what it is given in where that is not the SI unit of `key`: bytes as gigabytes; empty for a bare number.
    """

    def __init__(self, key: str, doc: str, unit: str | None = None) -> None:
        self.key = key
        self.si = unit_of(key)
        self.unit = _GIVEN_IN.get(self.si, self.si) if unit is None else unit
        self.__doc__ = doc

    def __get__(self, result: Result | None, owner: type) -> Any:
        if result is None:
            return self
        value = result[self.key]
        if self.unit:
            held = quantity(value, self.si)
            return held if self.unit == self.si else held.to(self.unit)
        return value.item() if value.ndim == 0 else value


class WhenRead(Sequence[T]):
    """A sequence that is made when somebody first looks at it: most answers are asked for their numbers alone."""

    def __init__(self, make: Callable[[], Iterable[T]]) -> None:
        self._make = make
        self._made: tuple[T, ...] | None = None

    def _items(self) -> tuple[T, ...]:
        if self._made is None:
            self._made = tuple(self._make())
        return self._made

    def __len__(self) -> int:
        return len(self._items())

    def __getitem__(self, index: Any) -> Any:
        return self._items()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._items())


class Fields(Mapping[str, AnyArray]):
    """Values by name, of which those that only follow from others are computed when somebody first reads them.

    parts: what the rest follows from and nobody is shown. derived: name → formula, which is given these fields.
    """

    def __init__(
        self, known: Mapping[str, Any], parts: Mapping[str, Any], derived: Mapping[str, Callable[[Fields], Any]]
    ) -> None:
        self.known = {name: np.asarray(value) for name, value in known.items()}
        self.parts = parts
        self.derived = derived

    def __getitem__(self, name: str) -> AnyArray:
        if name not in self.known:
            self.known[name] = np.asarray(self.derived[name](self))
        return self.known[name]

    def __contains__(self, name: object) -> bool:
        return name in self.known or name in self.derived

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.known, *self.derived)))

    def __len__(self) -> int:
        return len(self.known.keys() | self.derived.keys())


@dataclass(frozen=True)
class Result:
    """Values by name (SI, unit in the name), with labelled axes, provenance and the list of what is not modelled.

    `result["ttft_s"]` is a bare array; a declared attribute such as `result.ttft` is a pint quantity. A wrong name raises.
    """

    values: Mapping[str, Any]
    how: str = "predicted"
    coords: Mapping[str, Any] = field(default_factory=dict)  # inputs that vary, as given
    about: Mapping[str, Any] = field(default_factory=dict)  # model, hardware, precision, ...: text
    operators: Sequence[OperatorRow] = ()
    sources: Sequence[Mapping[str, str]] = ()
    notes: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = ()
    extent: tuple[int, ...] | None = None  # the shape of all scenarios, where the values need not tell

    def __getitem__(self, name: str) -> AnyArray:
        if name not in self.values:
            raise unknown("field", name, self.values)
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape all scenarios broadcast to."""
        if self.extent is not None:
            return self.extent
        return np.broadcast_shapes(*(np.shape(v) for v in self.values.values()))

    def fields(self) -> dict[str, str]:
        """Names of all fields with their units."""
        return {name: unit_of(name) for name in self.values}

    def to_dataset(self) -> Any:
        """The values as an `xarray.Dataset`: an axis along which one input varies is named after it; units as attributes."""
        import xarray as xr

        shape = self.shape
        dims = _axis_names(shape, self.coords)
        coords = {dims[axis]: np.ravel(values) for axis, values in _axis_values(shape, self.coords).items()}
        variables = {}
        for name, value in self.values.items():
            value = np.asarray(value)
            kept = dims[len(dims) - value.ndim :]
            full = tuple(shape[len(shape) - value.ndim :])
            attributes = {"units": unit_of(name), "how": self.how}
            variables[name] = xr.Variable(kept, np.broadcast_to(value, full), attributes)
        about = {k: str(v) for k, v in self.about.items()}
        return xr.Dataset(variables, coords=coords, attrs={"how": self.how, **about})

    @property
    def constraint_trace(self) -> list[str]:
        """What was held against what, in words: the memory that is needed, and what binds each phase."""
        return constraint_lines(self.values)

    def explain(self) -> str:
        """Where the time goes, operator by operator, as text. Scenarios beyond the first are left to `to_dataset`."""
        return explain_text(self)

    def to_json(self) -> dict[str, Any]:
        """The result as plain data: numbers for one scenario, nested lists for many."""
        data: dict[str, Any] = {**self.values, "how": self.how}
        data.update({k: v for k, v in self.about.items() if k not in data})
        if self.operators:
            data["operators"] = self.operators
        tail = {"sources": self.sources, "notes": self.notes, "not_modelled": self.not_modelled}
        plain: dict[str, Any] = encode(data | tail)
        return plain

    def dumps(self) -> str:
        return dumps(self)


class GenerationResult(Result):
    """Fields of every answer about prompts and the tokens generated from them."""

    feasible = Field("feasible", "True where weights, KV cache, activations and buffers fit the memory at hand")
    ttft = Field("ttft_s", "Time to first token of the batch, nothing else running")
    itl = Field("itl_s", "Inter-token latency (TPOT): one decode step, seen by every sequence")
    tpot = Field("itl_s", "Time per output token: the same as `itl`")
    throughput = Field("throughput_tokens_per_s", "Generated tokens per second of all sequences while decoding")
    tokens_per_user = Field("user_tokens_per_s", "Generated tokens per second that one sequence sees")
    request_time = Field("request_s", "The whole batch: prefill and all output tokens")
    energy_per_token = Field("energy_j_per_token", "Energy of all devices per generated token while decoding")
    light_ttft = Field("light_ttft_s", "Speed-of-light bound of `ttft`")
    light_itl = Field("light_itl_s", "Speed-of-light bound of `itl`")


def _axis_values(shape: tuple[int, ...], coords: Mapping[str, AnyArray]) -> dict[int, AnyArray]:
    """For each axis of length above one: the values of the only input that varies along it, if there is only one."""
    found: dict[int, list[AnyArray]] = {}
    for value in coords.values():
        array = np.asarray(value)
        long_axes = [len(shape) - array.ndim + i for i, n in enumerate(array.shape) if n > 1]
        for axis in long_axes:
            found.setdefault(axis, []).append(array if len(long_axes) == 1 else np.empty(0))
    return {axis: v[0] for axis, v in found.items() if len(v) == 1 and v[0].size}


def _axis_names(shape: tuple[int, ...], coords: Mapping[str, AnyArray]) -> tuple[str, ...]:
    names = [f"axis_{i}" for i in range(len(shape))]
    values = _axis_values(shape, coords)
    for name, value in coords.items():
        for axis, only in values.items():
            if np.asarray(value) is only or (
                np.size(value) == only.size and np.shape(value) == np.shape(only) and value is only
            ):
                names[axis] = name
    return tuple(names)


def merged_sources(*groups: Iterable[Any]) -> tuple[Mapping[str, str], ...]:
    """Citations of several records (title, url, date) without repeats, as plain mappings."""
    seen: dict[str, Mapping[str, str]] = {}
    for group in groups:
        for s in group:
            seen.setdefault(s.url, {"title": s.title, "url": s.url, "date": str(s.date)})
    return tuple(seen.values())
