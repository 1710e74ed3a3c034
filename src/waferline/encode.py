"""JSON in and out: one encoder for every record, array and number, and one reader that refuses what is ambiguous."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import Any

from waferline.errors import FileFormatError


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


def loads(text: str | bytes, where: str) -> Any:
    """The data of a JSON text from outside; `where` names it in errors.

    Raises: FileFormatError for text that is no JSON, a key given twice in one mapping, NaN or Infinity, a number too long
    to be one, and nesting too deep to be data.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise FileFormatError(f"key '{twice}' is given twice", where=where)
        return found

    def constant(name: str) -> Any:
        raise FileFormatError(f"{name} is not a number in JSON", where=where)

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=constant)
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError("is nested too deeply", where=where) from None
    except UnicodeDecodeError:
        raise FileFormatError("is not UTF-8 text", where=where) from None
    except json.JSONDecodeError as error:
        raise FileFormatError(f"is not JSON: {error.msg}, line {error.lineno}", where=where) from None
    except ValueError:  # Python's limit on the digits of an integer
        raise FileFormatError("holds a number of too many digits", where=where) from None
