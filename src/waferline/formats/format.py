"""Number formats as facts: bits per weight, block size, arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, unknown


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

    @property
    def packed(self) -> bool:
        """True for GGUF block formats, which files use for embeddings too."""
        return self.mixture or self.block in (32, 256)


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
    if type(name) is str and name in table:
        return table[name]
    if not isinstance(name, str):
        raise InvalidInputError(f"a format is a name such as 'int4', not {name!r}")
    if _key(name) not in names:
        raise unknown("number format", name, names)
    return table[names[_key(name)]]
