"""Published measurements as records: one row is one value of one metric, with its configuration and its source."""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

from waferline.catalog.table_file import cells_of, check_once
from waferline.errors import FileFormatError, nearest
from waferline.files import replacing

PHASES = ("prefill", "decode", "generate", "serve", "train")
KINDS = ("measured", "simulated", "claimed")
# Engines that do not batch by default: mlcommons/inference, the implementations that a benchmark is defined by.
REFERENCES = ("mlcommons reference", "mlcommons python reference")


@dataclass(frozen=True, slots=True)
class Row:
    """One published value in SI units. `None` or empty text is *not stated*; nothing is ever filled in here.

    devices: AWS counts chips, CPU rows sockets. batch: concurrent sequences; in training the global batch in sequences.
    input_tokens, output_tokens: per sequence; in training the sequence length is in `input_tokens`. complete: all that
    a first-principles model needs is stated. suspect: why the value must not be scored against, else empty.
    """

    id: str
    hardware: str
    model: str
    phase: str
    metric: str
    value: float
    source: str = ""
    url: str = ""
    locator: str = ""
    kind: str = "measured"
    devices: float | None = None
    weight_format: str = ""
    activation_format: str = ""
    kv_format: str = ""
    batch: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    tp: float | None = None
    pp: float | None = None
    ep: float | None = None
    dp: float | None = None
    engine: str = ""
    engine_version: str = ""
    complete: bool = False
    notes: str = ""
    missing: str = ""
    suspect: str = ""
    operation: str = ""
    cores_or_grid: str = ""
    unit: str = ""


COLUMNS = tuple(f.name for f in fields(Row))
REQUIRED = ("hardware", "model", "phase", "metric", "value")
_POSITIVE = ("devices", "batch", "tp", "pp", "ep", "dp")
_NOT_NEGATIVE = ("input_tokens", "output_tokens")
_NUMBERS = (*_POSITIVE, *_NOT_NEGATIVE)
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*[-–]\s*(\d+(?:\.\d+)?)")  # "292-717"; an exponent is none
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")

# What a row of each phase must state for a first-principles model to need no guess; used without a `complete` column.
_NEEDS_SERVING = ("devices", "weight_format", "activation_format", "kv_format", "batch", "tp", "pp", "ep", "dp")
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "prefill": (*_NEEDS_SERVING, "input_tokens"),
    "decode": (*_NEEDS_SERVING, "input_tokens", "output_tokens"),
    "generate": (*_NEEDS_SERVING, "input_tokens", "output_tokens"),
    "serve": (*_NEEDS_SERVING, "input_tokens", "output_tokens"),
    "train": ("devices", "weight_format", "batch", "input_tokens", "tp", "pp", "ep", "dp"),
}


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a `.csv` or `.csv.gz` file (UTF-8, header line).

    Raises: FileFormatError naming the file, the line and what is wrong there.
    """
    return list(iterate_rows(path))


def iterate_rows(path: str | Path) -> Iterator[Row]:
    """As `read_rows`, one row at a time. Ids must be unique in a file; rows without one are named after their line."""
    return (row for row, _ in rows_of(path))


def rows_of(path: str | Path, more: Sequence[str] = ()) -> Iterator[tuple[Row, dict[str, str]]]:
    """Each row with its cells by column. more: columns that the file has beside those of a row. Raises: as `read_rows`."""
    path = Path(path)
    lines, seen = cells_of(path), set[str]()
    header = _checked_header(next(lines, (0, None))[1], path, more)
    for line, cells in lines:
        row, raw = _row(header, cells, path, line)
        if row.id in seen:
            raise FileFormatError(f"line {line}: the id '{row.id}' appears twice", where=str(path))
        seen.add(row.id)
        yield row, raw


def header_of(path: str | Path) -> list[str]:
    """The column names of a file; none where it has no readable first line."""
    try:
        return [name.strip() for name in next(cells_of(Path(path)), (0, []))[1]]
    except FileFormatError:
        return []


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Rows as CSV, compressed when the name ends in `.gz` (byte for byte the same for the same rows)."""
    path = Path(path)
    lines: list[list[str]] = [list(COLUMNS)]
    lines += [[_text(getattr(row, name)) for name in COLUMNS] for row in rows]
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    data = buffer.getvalue().encode("utf-8")
    with replacing(path) as own:
        own.write_bytes(gzip.compress(data, compresslevel=9, mtime=0) if path.suffix == ".gz" else data)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _checked_header(header: list[str] | None, path: Path, more: Sequence[str] = ()) -> list[str]:
    """The column names, or an error that names every unknown and missing one with its nearest relative."""
    if not header:
        raise FileFormatError("no header line", where=str(path), hint="the columns are " + ", ".join(REQUIRED))
    names = [name.strip() for name in header]
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS and name not in more]
    if missing:
        near = {name: nearest(name, unknown, 1) for name in missing}
        told = [f"{name} (is it '{found[0]}'?)" if found else name for name, found in near.items()]
        raise FileFormatError(f"line 1: missing columns {', '.join(told)}", where=str(path))
    if unknown:
        near = {name: nearest(name, COLUMNS, 1) for name in unknown}
        told = [f"'{name}' (did you mean {found[0]}?)" if found else f"'{name}'" for name, found in near.items()]
        raise FileFormatError(f"line 1: unknown columns {', '.join(told)}", where=str(path))
    check_once(names, str(path))
    return names


def _row(header: list[str], cells: list[str], path: Path, line: int) -> tuple[Row, dict[str, str]]:
    if len(cells) != len(header):
        raise FileFormatError(f"line {line}: {len(cells)} cells under {len(header)} columns", where=str(path))
    raw = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    texts = set(COLUMNS) - {*_NUMBERS, "value", "complete"}
    values: dict[str, Any] = {k: v for k, v in raw.items() if k in texts}
    if not raw["metric"]:
        raise FileFormatError(f"line {line}: metric is empty", where=str(path))
    for name in _NUMBERS:
        if raw.get(name):
            values[name] = _number(name, raw[name], path, line)
    if between := _RANGE.fullmatch(raw["value"]):
        low, high = (_number("value", end, path, line) for end in between.groups())
        values["value"] = (low + high) / 2.0
        values["suspect"] = values.get("suspect") or f"published as a range, {raw['value']}"
    else:
        values["value"] = _number("value", raw["value"], path, line)
    values["id"] = raw.get("id") or f"line-{line}"
    values["kind"] = _kind(raw.get("kind", ""), path, line)
    return _with_complete(Row(**values), raw.get("complete"), path, line), raw


def _kind(text: str, path: Path, line: int) -> str:
    kind = text or "measured"
    if kind not in KINDS:
        raise FileFormatError(f"line {line}: kind '{text}' is none of {', '.join(KINDS)}", where=str(path))
    return kind


def _with_complete(row: Row, stated: str | None, path: Path, line: int) -> Row:
    if stated is None:
        lacking = [name for name in _NEEDS.get(row.phase, ()) if getattr(row, name) in (None, "")]
        return replace(row, complete=not lacking and row.phase in _NEEDS, missing=row.missing or " ".join(lacking))
    if stated.lower() in _TRUE:
        return replace(row, complete=True)
    if stated.lower() in _FALSE:
        return row
    raise FileFormatError(f"line {line}: complete is 0 or 1, not '{stated}'", where=str(path))


def _number(name: str, text: str, path: Path, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        raise FileFormatError(f"line {line}: {name} is not a number: '{text}'", where=str(path)) from None
    if not math.isfinite(number):
        raise FileFormatError(f"line {line}: {name} is not finite: '{text}'", where=str(path))
    if (name in _POSITIVE and number <= 0) or (name in _NOT_NEGATIVE and number < 0):
        least = "above 0" if name in _POSITIVE else "0 or more"
        raise FileFormatError(f"line {line}: {name} must be {least}, got {text}", where=str(path))
    return number
