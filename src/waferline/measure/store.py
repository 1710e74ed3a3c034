"""Measurements kept: one JSON line each, only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from waferline.errors import FileFormatError
from waferline.measure.contract import Outcome

_VARIABLE = "WAFERLINE_MEASUREMENTS"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/waferline`, or `~/.cache/waferline`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "waferline"


def default_store() -> Path:
    """`$WAFERLINE_MEASUREMENTS`, or `measurements.jsonl` in the user's cache folder."""
    named = os.environ.get(_VARIABLE)
    return Path(named) if named else cache_folder() / "measurements.jsonl"


def append(outcomes: Iterable[Outcome | Mapping[str, Any]], path: Path | None = None) -> Path:
    """Add records, refusals too, at the end of `path`; returns where.

    All lines go out in one write of a file opened for appending, so that two processes never mix theirs.
    Raises: FileFormatError when the file cannot be written.
    """
    where = path or default_store()
    records = [dict(o) if isinstance(o, Mapping) else o.to_json() for o in outcomes]
    text = "".join(json.dumps(r, allow_nan=False, separators=(",", ":")) + "\n" for r in records)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise FileFormatError(f"cannot append: {error.strerror}", where=str(where)) from error
    return where


def read(path: Path | None = None) -> Iterator[dict[str, Any]]:
    """Every record of a store, oldest first.

    Raises: FileFormatError naming the line that is no record (a line cut short by a crash, say).
    """
    where = path or default_store()
    try:
        with where.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _record(line, f"{where}, line {number}")
    except OSError as error:
        raise FileFormatError(f"cannot read: {error.strerror}", where=str(where)) from error
    except UnicodeDecodeError as error:
        raise FileFormatError("not UTF-8 text", where=str(where)) from error


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"not JSON: {error.msg}", where=where) from error
    if not isinstance(record, dict) or "engaged" not in record:
        raise FileFormatError("not a measurement: no key 'engaged'", where=where)
    return record
