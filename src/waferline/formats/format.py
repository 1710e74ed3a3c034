"""Number formats as facts: bits per weight, block size, arithmetic, and the array of formats that sweeps run over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, unknown

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Format:
    """One number format. `bits` counts block scales and zero points; `arithmetic` is what multiplies activations in it."""

    name: str
    bits: float
    arithmetic: str
    activations: tuple[str, ...]
    block: int = 1
    head: str | None = None
    mixture: bool = False
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def bytes_per_element(self) -> float:
        return self.bits / 8


@cache
def _table() -> tuple[dict[str, Format], dict[str, str]]:
    raw = read_packaged("formats.yaml")
    table: dict[str, Format] = {}
    names: dict[str, str] = {}
    for name, row in raw["formats"].items():
        row = {**row, "activations": tuple(row["activations"]), "aliases": tuple(row.get("aliases", ()))}
        row["source"] = raw["sources"][row["source"]]["url"]
        table[name] = Format(name=name, **row)
        for key in (name, *table[name].aliases):
            names[_key(key)] = name
    return table, names


def _key(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")


def format_names() -> list[str]:
    """Every format in the catalogue, narrow ones last."""
    return sorted(_table()[0], key=lambda n: -_table()[0][n].bits)


def get_format(name: str) -> Format:
    """The format called `name` or one of its aliases, in any case.

    Raises: UnknownNameError with the nearest valid names.
    """
    table, names = _table()
    if not isinstance(name, str):
        raise InvalidInputError(f"a format is a name such as 'int4', not {name!r}")
    if _key(name) not in names:
        raise unknown("number format", name, names)
    return table[names[_key(name)]]


@dataclass(frozen=True, slots=True, eq=False)
class FormatArray:
    """Formats laid out over scenarios: `names[index]`, so that any per-format figure broadcasts by one look-up."""

    names: tuple[str, ...]
    index: npt.NDArray[np.intp]

    @staticmethod
    def of(value: str | Sequence[str] | npt.NDArray[np.str_] | FormatArray) -> FormatArray:
        """From one name, a nested sequence of names, or a string array of any shape."""
        if isinstance(value, FormatArray):
            return value
        if isinstance(value, str):
            return FormatArray((get_format(value).name,), np.zeros((), dtype=np.intp))
        labels, index = np.unique(np.asarray(value, dtype=str), return_inverse=True)
        return FormatArray(tuple(get_format(str(x)).name for x in labels), index.reshape(np.shape(value)))

    @property
    def single(self) -> bool:
        return len(self.names) == 1

    def take(self, figure: Callable[[str], float]) -> FloatArray:
        """`figure(name)` for every scenario; called once for each distinct format."""
        values = np.array([figure(n) for n in self.names], dtype=np.float64)
        return values[self.index]

    def map(self, rename: Callable[[str], str]) -> FormatArray:
        """The array with every format replaced by `rename(name)`."""
        return FormatArray(tuple(rename(n) for n in self.names), self.index)

    def bytes_per_element(self) -> FloatArray:
        return self.take(lambda n: get_format(n).bits / 8)

    def labels(self) -> npt.NDArray[np.str_]:
        return np.array(self.names)[self.index]
