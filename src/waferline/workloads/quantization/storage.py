"""Formats of a matrix from the numbers that sections of configurations give: bits, group size, kind of number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from reprlib import repr as shown

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, named

KEPT_KEYS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "skip_modules")
_WIDTHS = range(2, 9)


def integer(where: str, bits: int, group: int | None, zero: str = "") -> str:
    """`bits`-wide integers with a scale for each `group` weights of a row (None or below 1: one a row).

    zero: "" for a zero point as wide as the weight, "_sym" for none, "_affine" for one of 16 bits.
    Raises: UnsupportedError for a width that no format has.
    """
    if bits == 16:
        return WIDE.weights
    if bits not in _WIDTHS:
        raise UnsupportedError(f"no format for {bits}-bit integer weights", where=where, hint="2 to 8, or 16")
    if group is None or group < 1:
        return "int8" if bits == 8 else f"int{bits}_row"
    return f"int{bits}_g{group}{zero}"


def group_of(c: ConfigReader, *keys: str, usual: int | None = None) -> tuple[int | None, tuple[str, ...]]:
    """(group size or None for whole rows, a note where it was assumed)."""
    value = c.get(*keys)
    if value is None:
        said = () if usual is None else (f"{c.where}: '{keys[0]}' is not given: {usual} assumed",)
        return usual, said
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value != int(value):
        raise InvalidInputError(f"'{keys[0]}' must be a whole number, not {shown(value)}", where=c.where)
    if value == 0 or not -1 <= value <= 10**6:
        raise InvalidInputError(
            f"'{keys[0]}' must be positive, or -1 for whole rows, not {shown(value)}", where=c.where
        )
    return (None if value < 0 else int(value)), ()


def kept(c: ConfigReader, *keys: str) -> Iterator[Rule]:
    """Rules for the modules that lists of the section keep at 16 bits."""
    for key in keys or KEPT_KEYS:
        yield from named(texts(c, key), WIDE, c.where)


def texts(c: ConfigReader, key: str) -> Iterable[str]:
    """A list of text, empty when absent; lists in it are joined.

    Raises: InvalidInputError for what is no text.
    """
    found: list[str] = []
    for item in c.items(key) or ():
        for text in item if isinstance(item, list) else [item]:
            if not isinstance(text, str) or not text.strip("."):
                raise InvalidInputError(f"'{key}' must list names of modules, not {shown(text)}", where=c.where)
            found.append(text)
    return found


KV_FORMATS = {"fp8": "fp8", "nvfp4": "nvfp4", "int8": "int8", "int4": "int4"}


def cache_format(where: str, bits: int, kind: str) -> str | None:
    """Format of a KV cache of numbers of a kind (float or int) and width."""
    if bits == 16:
        return None
    name = {("float", 8): "fp8", ("int", 8): "int8", ("float", 4): "nvfp4", ("int", 4): "int4"}.get((kind, bits))
    if name is None:
        raise UnsupportedError(f"no format for a KV cache of {bits}-bit {kind}", where=where)
    return name
