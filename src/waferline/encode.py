"""The one way from records, arrays and numbers to JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import Any


def encode(value: Any) -> Any:
    """`value` as plain JSON data: mappings, lists, text, numbers, booleans and None.

    A record (dataclass) becomes a mapping of its fields unless it has a `to_json` of its own; NumPy scalars and arrays
    become numbers and nested lists; a number that is not finite becomes None; tuples and sets become lists, an enum its
    value, a path its text.

    Raises: TypeError for anything else: data that nobody has thought of is a bug, not text.
    """
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "to_json"):
        return encode(value.to_json())
    if isinstance(value, Mapping):
        return {str(encode(key)): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays, without importing NumPy for those who have none
        return encode(value.tolist())
    if isinstance(value, PurePath | date):
        return str(value)
    if isinstance(value, Set):
        return sorted(encode(item) for item in value)
    if isinstance(value, Iterable):
        return [encode(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def dumps(value: Any, *, indent: int | None = 2) -> str:
    """`value` as JSON text that any terminal and any parser takes: ASCII, no NaN."""
    return json.dumps(encode(value), indent=indent, allow_nan=False)
