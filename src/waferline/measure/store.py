"""Measurements kept: one JSON line each, only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from waferline.catalog.table_file import raw_lines
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


class Kept(NamedTuple):
    """What a store holds: records, oldest first, and how many lines are none."""

    records: list[dict[str, Any]]
    skipped: int


def append(outcomes: Iterable[Outcome | Mapping[str, Any]], path: Path | None = None) -> Path:
    """Add records, refusals too, at the end of `path`; returns where.

    All lines go out at once to a file opened for appending, so that two processes never mix theirs; where the last line was cut
    short by a crash they begin on a line of their own. Raises: FileFormatError when the file cannot be written.
    """
    where = path or default_store()
    records = [dict(o) if isinstance(o, Mapping) else o.to_json() for o in outcomes]
    text = "".join(json.dumps(r, allow_nan=False, separators=(",", ":")) + "\n" for r in records)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(where, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            left = (b"\n" if torn else b"") + text.encode()
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise FileFormatError(f"cannot append: {error.strerror}", where=str(where)) from error
    return where


def read(path: Path | None = None) -> Kept:
    """Every record of a store; lines that are none (one cut short by a crash, say) are counted and skipped.

    Raises: FileFormatError when the file cannot be read.
    """
    where = path or default_store()
    found = [_record(line) for line in raw_lines(where)]
    records = [record for record in found if record is not None]
    return Kept(records, len(found) - len(records))


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("engaged"), bool):
        return None
    return record
