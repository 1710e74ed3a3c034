"""Printing rows: `waferline.show.table` for many, `waferline.show.info` for one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from waferline.encode import encode
from waferline.predict.result import Result
from waferline.report.table import Table
from waferline.text import number


def _mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Result):
        return {**row.about, **encode(row.values)}
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    return dict(row)


def _text(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _print(table: Table) -> None:
    print(table.text(shutil.get_terminal_size().columns))


def table(rows: Iterable[Any], columns: Iterable[str] | None = None, title: str = "") -> None:
    """Print results, records or mappings as one table, a row each; `columns` picks and orders fields."""
    data = [_mapping(r) for r in rows]
    names = list(columns) if columns is not None else list(dict.fromkeys(k for row in data for k in row))
    _print(Table(title, names, [[_text(row.get(n, "")) for n in names] for row in data]))


def info(row: Any, title: str = "") -> None:
    """Print one result, record or mapping, a field a line."""
    _print(Table(title, ("", ""), [(k, _text(v)) for k, v in _mapping(row).items()]))
