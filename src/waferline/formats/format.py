"""Number formats as facts: bits per weight, block size, arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, unknown

# Integers that share a scale, by width and group: int4_g32 (16-bit scale, zero point of the weight's width), int4_g32_sym
# (a scale alone), int4_g64_affine (a scale and a bias of 16 bits each, as MLX and HQQ keep).
_GROUPED = re.compile(r"int([2-8])_g(\d{1,6})(_sym|_affine)?")
_ROWS = re.compile(r"int([2-7])_row")  # one scale a row of the matrix: under a hundredth of a bit
# ExLlama's quantisation to any average width: exl2_4.65, exl3_3.5.
_EXLLAMA = re.compile(r"exl([23])_(\d(?:\.\d{1,3})?)")
_GGUF = re.compile(r"i?q\d|tq\d")
_SCALE_BITS = 16.0
_ZERO_BITS = {"_sym": 0.0, "_affine": 16.0}


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
        return _GGUF.match(self.name) is not None

    @property
    def family(self) -> str:
        """What a person calls the format who does not mind how scales are kept: `int4` is AWQ, GPTQ and any group size."""
        stem = self.name.partition("_")[0] if _GROUPED.match(self.name) or _ROWS.match(self.name) else self.name
        return {"awq": "int4", "gptq": "int4", "fp8_block": "fp8"}.get(stem, stem)


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
    found = names.get(_key(name))
    if found is not None:
        return table[found]
    made = _parametrised(_key(name))
    if made is None:
        raise unknown("number format", name, names)
    return made


@cache
def _parametrised(name: str) -> Format | None:
    """The format that a name spells out by its sizes, or None."""
    if match := _GROUPED.fullmatch(name):
        bits, group = int(match[1]), int(match[2])
        if not group:
            raise InvalidInputError(f"'{name}': a group holds at least one weight")
        scale = (_SCALE_BITS + _ZERO_BITS.get(match[3] or "", float(bits))) / group
        return Format(name, bits + scale, "int4" if bits == 4 else "int8", ("fp16",), block=group)
    if match := _ROWS.fullmatch(name):
        return Format(name, float(match[1]), "int4" if match[1] == "4" else "int8", ("fp16",))
    if match := _EXLLAMA.fullmatch(name):
        bits_per_weight = float(match[2])
        if not 1.0 <= bits_per_weight <= 8.0:
            raise InvalidInputError(f"'{name}': ExLlama keeps between 1 and 8 bits a weight")
        return Format(name, bits_per_weight, "int8", ("fp16",), head="exl3_6" if match[1] == "3" else "exl2_6")
    return None
