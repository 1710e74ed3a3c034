"""Printing what a lesson shows: `table(headers, rows)`, `info(title, **fields)` and `banner(text)`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from waferline.door import checked
from waferline.encode import encode
from waferline.errors import InvalidInputError
from waferline.predict.result import Result
from waferline.report.table import Column, Table
from waferline.text import number, told

_RULE = 44  # characters that a title and its rule take


@checked
def table(headers: Sequence[str], rows: Iterable[Any]) -> None:
    """Print one table. A row is a sequence of cells, or a result, record or mapping of which `headers` names the fields.

    Pint quantities are written with their unit, numbers with four digits. Raises: InvalidInputError for a row of another
    length than `headers`.
    """
    if isinstance(headers, str) or not all(isinstance(h, str) for h in headers):
        raise InvalidInputError(f"headers are a list of texts, not {headers!r}", hint="table(headers, rows)")
    cells = [_cells(headers, row) for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) and bool(cells) for i in range(len(headers))]
    columns = [Column(h, left=not (right and i)) for i, (h, right) in enumerate(zip(headers, numeric, strict=True))]
    _print(Table("", columns, [[_text(v) for v in row] for row in cells]))


@checked
def info(title: Any = None, /, **fields: Any) -> None:
    """Print one block of fields, one a line, under its title; a result, record or mapping as `title` prints its own."""
    if title is not None and not isinstance(title, str):
        title, fields = "", {**_mapping(title), **fields}
    if title:
        print(f"── {title} ".ljust(_RULE, "─"))
    if fields:
        rows = [(f"{name.replace('_', ' ')}:", _text(value)) for name, value in fields.items()]
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))


@checked
def banner(text: str) -> None:
    """Print the heading of a section."""
    print(f"\n=== {text} ===")


def _cells(headers: Sequence[str], row: Any) -> list[Any]:
    if isinstance(row, list | tuple | np.ndarray):
        if len(row) != len(headers):
            raise InvalidInputError(f"a row has {len(row)} cells where there are {len(headers)} headers: {list(row)!r}")
        return list(row)
    fields = _mapping(row)
    return [fields.get(name, "") for name in headers]


def _mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Result):
        return {**row.about, **encode(row.values)}
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    if isinstance(row, Mapping):
        return row
    raise InvalidInputError(f"a row is a list of cells, a result, a record or a mapping, not {type(row).__name__}")


def _is_number(value: Any) -> bool:
    """Whether a cell stands right: a number, a quantity, or text that begins as one, such as `1.4x`."""
    return not isinstance(value, str) or value.lstrip(" +-−$~<>")[:1].isdigit()


def _text(value: Any) -> str:
    if hasattr(value, "magnitude") and hasattr(value, "units"):
        return f"{_text(value.magnitude)} {value.units:~P}".strip()
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return number(float(value))
    try:
        return str(value)
    except Exception:  # a number of thousands of digits, an object that raises
        return told(value)


def _print(table: Table) -> None:
    print(table.text(shutil.get_terminal_size().columns))
