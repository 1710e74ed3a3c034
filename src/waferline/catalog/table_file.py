"""Reading long files of lines that somebody else wrote: tables, traces and stores, a line at a time in bounded memory."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from waferline.catalog.text_file import check_regular
from waferline.errors import FileFormatError

MAX_LINE_BYTES = 1 << 20
MAX_CELLS = 1 << 12  # of a row
MAX_LINES = 1 << 22  # four million: some ten seconds; a compressed file may hold a thousand times more


def raw_lines(path: Path, most_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a regular file, decompressed where its name ends in `.gz`, each with its end.

    Raises: FileFormatError naming the line where it cannot be read, is longer than `most_bytes` or one too many.
    """
    where, number = str(path), 0
    check_regular(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(most_bytes + 1):
                number += 1
                if len(line) > most_bytes:
                    raise FileFormatError(f"line {number}: longer than {most_bytes >> 10} KiB", where=where)
                if number > MAX_LINES:
                    raise FileFormatError(f"more than {MAX_LINES:,} lines", where=where)
                yield line
    except gzip.BadGzipFile:
        raise FileFormatError("not gzip data, whatever its name says", where=where) from None
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror or error}", where=where) from None
    except (EOFError, zlib.error):
        raise FileFormatError(f"the compressed data end early, after line {number}", where=where) from None


def text_lines(path: Path, most_bytes: int = MAX_LINE_BYTES) -> Iterator[str]:
    """As `raw_lines`, of UTF-8 text; a byte-order mark at its beginning is left out."""
    for number, line in enumerate(raw_lines(path, most_bytes), start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise FileFormatError(f"line {number}: not UTF-8 text", where=str(path)) from None


def cells_of(path: Path, most_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, cells) of every row of a CSV file that has any. Raises: as `text_lines`, for malformed CSV too."""
    reader = csv.reader(text_lines(path, most_bytes))
    try:
        for cells in reader:
            if len(cells) > MAX_CELLS:
                raise FileFormatError(f"line {reader.line_num}: more than {MAX_CELLS:,} cells", where=str(path))
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise FileFormatError(f"line {reader.line_num + 1}: malformed CSV: {error}", where=str(path)) from None


def records_of(path: Path, most_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of every row below a header. A row has as many cells as the header, whose names differ."""
    rows, where = cells_of(path, most_bytes), str(path)
    _, header = next(rows, (0, []))
    names = [name.strip() for name in header]
    check_once(names, where)
    for line, cells in rows:
        if len(cells) != len(names):
            raise FileFormatError(f"line {line}: {len(cells)} cells under {len(names)} columns", where=where)
        yield line, dict(zip(names, cells, strict=True))


def check_once(names: Sequence[str], where: str) -> None:
    """Raises: FileFormatError for a column whose name another has, too."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise FileFormatError(f"line 1: column '{twice[0]}' appears twice", where=where)


def number_in(cells: Mapping[str, str], name: str) -> float | None:
    """A stated number; None where the cell is empty or its column is not there. Raises: FileFormatError for another text."""
    text = cells.get(name) or ""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise FileFormatError(f"row {cells.get('id')}: {name} is not a number: '{text}'")
    return value
