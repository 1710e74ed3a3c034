"""The one table: typed columns and rows that become terminal text, Markdown, HTML, CSV or data."""

from __future__ import annotations

import csv
import html
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from waferline.text import MISSING, csv_cell, markdown_cell, metric, printable

Style = str  # of a line on a terminal: "title", "header", "note", "alarm" or "" for plain text
GAP = "  "
_WORD = 24  # the longest word that keeps a text column from shrinking; names, in the first column, may be longer


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, how a value is written, and its name in data.

    `show` is a format (`".3g"`) or a function from value to text; `unit` writes a number with a metric prefix (`"B/s"`).
    With neither the column is text and stands left; numbers stand right, and `left` overrules both. A cell that is text
    already is written as it is. `markup`: the cells are Markdown of our own and are not escaped there.
    """

    header: str
    show: str | Callable[[Any], str] = ""
    unit: str = ""
    left: bool | None = None
    key: str = ""
    markup: bool = False

    @property
    def is_left(self) -> bool:
        return not (self.show or self.unit) if self.left is None else self.left

    @property
    def name(self) -> str:
        """The key of this column in JSON and CSV."""
        return self.key or self.header.lower().replace(" ", "_")

    def text(self, value: Any) -> str:
        """One cell; what is not there is a dash among numbers and empty among words."""
        if isinstance(value, str):
            return value
        if value is None:
            return "" if self.is_left else MISSING
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        if isinstance(value, float) and not math.isfinite(value):
            return MISSING
        if self.unit:
            return metric(value, self.unit)
        return self.show(value) if callable(self.show) else format(value, self.show)


def right(*headers: str) -> tuple[Column, ...]:
    """Columns of numbers that are written already."""
    return tuple(Column(header, left=False) for header in headers)


@dataclass(frozen=True)
class Table:
    """A title, columns (a plain text is a text column of that name), rows of raw SI values, and notes below."""

    title: str
    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()

    def typed(self) -> list[Column]:
        return [Column(c) if isinstance(c, str) else c for c in self.columns]

    def cells(self) -> list[list[str]]:
        """Every row as written text."""
        columns = self.typed()
        return [[column.text(value) for column, value in zip(columns, row, strict=True)] for row in self.rows]

    def to_json(self) -> list[dict[str, Any]]:
        """A mapping a row, with raw values."""
        names = [column.name for column in self.typed()]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """Raw values under the columns' names; text that a spreadsheet would run is made text."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.name for column in self.typed()])
        writer.writerows([csv_cell(v) if isinstance(v, str) else v for v in row] for row in self.rows)
        return out.getvalue()

    def markdown(self) -> str:
        """The grid and its notes: a page has its own headings."""
        columns = self.typed()
        lines = [[markdown_cell(c.header) for c in columns], ["---" if c.is_left else "---:" for c in columns]]
        for row in self.cells():
            lines.append([cell if c.markup else markdown_cell(cell) for c, cell in zip(columns, row, strict=True)])
        grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join([grid, *map(markdown_cell, self.notes)])

    def html(self) -> str:
        """A `<table>` and its notes; cells of text columns have the class `words`."""
        kinds = [' class="words"' if c.is_left else "" for c in self.typed()]
        head = "".join(f"<th{k}>{html.escape(c.header)}</th>" for k, c in zip(kinds, self.typed(), strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{k}>{html.escape(cell)}</td>" for k, cell in zip(kinds, row, strict=True)) + "</tr>"
            for row in self.cells()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def text(self, width: int) -> str:
        """The table as plain text at most `width` wide."""
        return "\n".join(line for line, _ in self.lines(width))

    def lines(self, width: int) -> Iterator[tuple[str, Style]]:
        """Lines with their styles, none wider than `width` and none with blanks at its end.

        Text columns are wrapped; columns that still do not fit follow below, beside the first column again.
        """
        columns = self.typed()
        rows = [[printable(cell) for cell in row] for row in self.cells()]
        if self.title:
            yield from ((line, "title") for line in wrapped(self.title, width))
        for i, (picked, widths) in enumerate(_blocks(columns, rows, width)):
            if i:
                yield "", ""
            heads = [columns[c].header for c in picked]
            if any(heads):
                yield from ((line, "header") for line in _row(heads, picked, widths, columns))
            for row in rows:
                yield from ((line, "") for line in _row([row[c] for c in picked], picked, widths, columns))
        for note in self.notes:
            yield from ((line, "note") for line in wrapped(note, width))


Line = tuple[str, Style]
Block = Table | Line | str  # what a report is made of, in order


def block_lines(blocks: Iterable[Block], width: int) -> Iterator[Line]:
    """Tables, each with a blank line after it, and lines between them, none wider than `width`."""
    for block in blocks:
        if isinstance(block, Table):
            yield from (*block.lines(width), ("", ""))
        else:
            text, style = (block, "") if isinstance(block, str) else block
            yield from ((line, style) for line in wrapped(text, width))


def wrapped(text: str, width: int) -> list[str]:
    """A text of ours or others in lines of at most `width`; a word that is longer (an address) stays whole."""
    return textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False) or [""]


def _row(cells: Sequence[str], picked: Sequence[int], widths: Sequence[int], columns: Sequence[Column]) -> list[str]:
    """One row as its lines: cells wrapped to their widths, left or right in their columns."""
    folded = [textwrap.wrap(cell, w, break_on_hyphens=False) or [""] for cell, w in zip(cells, widths, strict=True)]
    lines = []
    for i in range(max(map(len, folded))):
        parts = [
            (part[i] if i < len(part) else "").ljust(w)
            if columns[c].is_left
            else (part[i] if i < len(part) else "").rjust(w)
            for part, w, c in zip(folded, widths, picked, strict=True)
        ]
        lines.append(GAP.join(parts).rstrip())
    return lines


def _blocks(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Which columns stand side by side, and how wide each is: as many as fit, the rest in further blocks."""
    longest = [max([len(c.header), *(len(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    least = [_least(c, [row[i] for row in rows], _WORD if i else width // 2) for i, c in enumerate(columns)]
    least[0] = max(least[0], min(longest[0], width // 3))  # what a row is about is read first
    picked = [0]
    for i in range(1, len(columns)):
        if len(picked) > 1 and sum(least[c] + len(GAP) for c in picked) + least[i] > width:
            yield picked, _widths([least[c] for c in picked], [longest[c] for c in picked], width)
            picked = [0]
        picked.append(i)
    yield picked, _widths([least[c] for c in picked], [longest[c] for c in picked], width)


def _least(column: Column, cells: Sequence[str], longest_word: int) -> int:
    """The least width: of words one word, of numbers the whole number; headings may break at blanks."""
    head = max(map(len, column.header.split()), default=1)
    if not column.is_left:
        return max([head, *map(len, cells)])
    words = max((len(word) for cell in cells for word in cell.split()), default=1)
    return max(head, min(words, longest_word))


def _widths(least: Sequence[int], longest: Sequence[int], width: int) -> list[int]:
    """`least` widened towards `longest`: those that need little first, the others share what is left."""
    widths = list(least)
    spare = max(width - sum(least) - len(GAP) * (len(least) - 1), 0)
    order = sorted(range(len(least)), key=lambda i: longest[i] - least[i])
    for done, i in enumerate(order):
        more = min(longest[i] - least[i], spare // (len(order) - done))
        widths[i] += more
        spare -= more
    return widths
