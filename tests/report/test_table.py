"""One table, five forms: nothing wider than the terminal, nothing of others' text that acts, no raw value lost."""

from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.report.table import Column, Table, right
from waferline.text import percent

MACHINES = Table(
    "Machines",
    ("name", Column("peak", unit="FLOP/s"), Column("share", percent), Column("fits"), *right("written")),
    [("h100", 9.89e14, 0.25, True, "1 ms"), ("m2", None, math.nan, False, "")],
    notes=("peaks are dense",),
)
HOSTILE = "[red]\x1b]0;x\x07<script>=|`a\nb"


def test_cells_are_written_by_their_columns() -> None:
    assert MACHINES.cells() == [["h100", "989 TFLOP/s", "25 %", "yes", "1 ms"], ["m2", "–", "–", "no", ""]]
    assert MACHINES.text(80).splitlines() == [
        "Machines",
        "name         peak  share  fits  written",
        "h100  989 TFLOP/s   25 %  yes      1 ms",
        "m2              –      –  no",
        "peaks are dense",
    ]
    assert MACHINES.to_json()[0]["peak"] == 9.89e14
    assert MACHINES.markdown().splitlines()[:2] == [
        "| name | peak | share | fits | written |",
        "| --- | ---: | ---: | --- | ---: |",
    ]


def test_columns_that_do_not_fit_stand_below_beside_the_first() -> None:
    table = Table("", ("name", *right(*(f"figure {i}" for i in range(12)))), [["a"] + ["123456789 TB/s"] * 12])
    lines = table.text(60).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("a") for line in lines) == 4 and table.text(60).count("123456789") == 12


words = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.lists(st.tuples(words, words, st.floats(), words), max_size=5), st.integers(60, 200))
def test_no_line_is_too_wide_or_ends_in_blanks(rows: list[tuple[str, str, float, str]], width: int) -> None:
    table = Table("t", ("name", "about", Column("value", unit="B"), "note"), rows)
    for line in table.text(width).splitlines():
        assert len(line) <= width and line == line.rstrip() and line.isprintable()
    assert len(table.markdown().splitlines()) == 2 + len(rows)
    assert table.html().count("<tr>") == 1 + len(rows)


def test_text_of_others_does_nothing() -> None:
    table = Table("", ("name", "other"), [(HOSTILE, "=cmd|'/C calc'!A0")])
    assert "\x1b" not in table.text(120) and "[red]" in table.text(120)
    assert "<script>" not in table.html() and "<script>" not in table.markdown()
    assert table.markdown().splitlines()[2].replace("\\|", "").count("|") == 3
    cells = list(csv.reader(io.StringIO(table.csv())))[1]
    assert "\x1b" not in cells[0] and cells[1].startswith("'=")


@pytest.mark.parametrize("start", "=+-@")
def test_no_cell_of_a_csv_is_a_formula(start: str) -> None:
    assert Table("", ("a",), [(f"{start}1+1",)]).csv() == f"a\n'{start}1+1\n"
    assert Table("", (Column("a", ".3g"),), [(-1.5,)]).csv() == "a\n-1.5\n"


def test_a_name_is_not_broken_while_half_a_line_has_room() -> None:
    name = "gpt-hidden-3072-layers-32-vocab-51200"
    assert any(
        line.startswith(name) for line in Table("", ("name", "title"), [(name, "x " * 99)]).text(80).splitlines()
    )
