"""The units boundary: pint quantities and text in, pint quantities out, bare SI floats everywhere between."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.text import told

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 3.6e6


_COUNTS = (
    "token = [token]", "sample = [sample]", "flop = [flop] = _ = FLOP", "param = [param]", "usd = [money]", "cycle = [cycle]",
    "KB = 1000 byte",
)  # fmt: skip


@cache
def registry() -> Any:
    """The one unit registry: SI and binary prefixes, plus `token`, `sample`, `flop`, `param` and `usd` as counts of their own."""
    import pint

    units: Any = pint.UnitRegistry(cache_folder=":auto:")
    for definition in _COUNTS:
        units.define(definition)
    pint.set_application_registry(units)
    return units


def quantity(value: Any, unit: str) -> Any:
    """A bare SI number or array as a pint quantity; a zero-dimensional array becomes a plain number."""
    array = np.asarray(value)
    return registry().Quantity(array.item() if array.ndim == 0 else array, unit)


def to_si(name: str, value: Any, unit: str) -> FloatArray:
    """A number, text such as `"80 GB"` or a pint quantity, as a bare array in the SI unit `unit`.

    Raises: InvalidInputError when the text has no such unit, naming the argument.
    """
    if not isinstance(value, str) and not hasattr(value, "dimensionality"):
        return plain_numbers(name, value)
    units = registry()
    try:
        parsed = units.Quantity(value) if isinstance(value, str) else value
        if parsed.unitless and isinstance(value, str):
            return np.asarray(parsed.magnitude, dtype=np.float64)
        return np.asarray(parsed.to(unit).magnitude, dtype=np.float64)
    except Exception as error:  # pint raises a family of unrelated types
        raise InvalidInputError(f"{name} must be a quantity in {unit} such as '1 {unit}', got {told(value)}") from error


def plain_numbers(name: str, value: Any) -> FloatArray:
    """Numbers and arrays of them: no text, truth values, dates, quantities with a unit, complex or masked numbers.

    Raises: InvalidInputError naming the argument and what it was given.
    """
    try:
        plain = value if isinstance(value, np.ndarray | np.generic) else np.asarray(value)
        if hasattr(value, "dimensionality"):  # a pint quantity: counts have no unit
            plain = np.asarray(value.to("dimensionless").magnitude)
        if plain.dtype.kind == "O" and all(isinstance(v, int | float) for v in plain.flat):  # beyond 64 bits
            plain = plain.astype(np.float64)
    except Exception:  # whatever an object raises that is asked for its numbers
        plain = np.asarray("")
    if plain.dtype.kind not in "iuf" or np.ma.is_masked(plain):
        raise InvalidInputError(f"{name} must be a number or an array of numbers, got {told(value)}")
    return np.asarray(plain, dtype=np.float64)


# A field's unit is read from the end of its name; the first suffix that fits wins.
SUFFIXES: tuple[tuple[str, str], ...] = (
    ("_tokens_per_s", "token/s"),
    ("_samples_per_s", "sample/s"),
    ("_bytes_per_s", "byte/s"),
    ("_flops_per_s", "flop/s"),
    ("_flops_per_byte", "flop/byte"),
    ("_j_per_token", "joule/token"),
    ("_j_per_sample", "joule/sample"),
    ("_usd_per_mtoken", "usd/megatoken"),
    ("_per_s", "1/s"),
    ("_bytes", "byte"),
    ("_flops", "flop"),
    ("_cycles", "cycle"),
    ("_tokens", "token"),
    ("_usd", "usd"),
    ("_hz", "hertz"),
    ("_w", "watt"),
    ("_j", "joule"),
    ("_s", "second"),
)


def unit_of(name: str) -> str:
    """The unit that a field's name ends in; empty for a pure number."""
    return next((unit for suffix, unit in SUFFIXES if f"_{name}".endswith(suffix)), "")


ureg: Any  # made when somebody asks, as both take a while
Q_: Any


def __getattr__(name: str) -> Any:
    """`ureg` and `Q_`, as lessons call the registry and its quantities."""
    if name not in ("ureg", "Q_"):
        raise AttributeError(f"module 'waferline.units' has no attribute '{name}'")
    return registry() if name == "ureg" else registry().Quantity
