"""Reading rows: what is stated is kept, and every mistake is one line that says where."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import FileFormatError
from waferline.evidence.folder import PACKAGED, evidence_folder
from waferline.evidence.names import hardware_name
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row, read_rows, write_rows
from waferline.machines.hardware import load_hardware

HEADER = "id,hardware,devices,model,phase,weight_format,batch,input_tokens,output_tokens,metric,value"
GOOD = "a,nvidia-h100-sxm-80gb,1,llama-3-8b,decode,fp16,4,128,128,tpot_s,0.01"


def write(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_row_keeps_what_is_stated_and_nothing_else(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / "rows.csv", GOOD))
    assert (row.id, row.hardware, row.batch, row.value) == ("a", "nvidia-h100-sxm-80gb", 4.0, 0.01)
    assert row.tp is None and row.kv_format == "" and not row.complete
    assert "kv_format" in row.missing and "tp" in row.missing


def test_a_row_without_an_id_is_named_after_its_line(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "rows.csv", GOOD[1:], "", GOOD[1:]))
    assert [row.id for row in rows] == ["line-2", "line-4"]


BAD_FILES = {
    "no header": ("", "no header line"),
    "missing column": (HEADER.replace("value", "valeu"), "missing columns value (is it 'valeu'?)"),
    "unknown column": (HEADER + ",batsh", "unknown columns 'batsh' (did you mean batch?)"),
    "column twice": (HEADER + ",value", "column 'value' appears twice"),
}
BAD_ROWS = {
    "text for a number": (GOOD.replace(",4,", ",four,"), "line 2: batch is not a number: 'four'"),
    "not finite": (GOOD.replace("0.01", "nan"), "line 2: value is not finite"),
    "negative": (GOOD.replace(",128,128", ",-1,128"), "line 2: input_tokens must be 0 or more"),
    "no devices": (GOOD.replace("80gb,1,", "80gb,0,"), "line 2: devices must be above 0"),
    "too few cells": (GOOD.rsplit(",", 1)[0], "line 2: 10 cells under 11 columns"),
    "no metric": (GOOD.replace("tpot_s", ""), "line 2: metric is empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_header_is_told(tmp_path: Path, name: str) -> None:
    header, message = BAD_FILES[name]
    with pytest.raises(FileFormatError, match=r"rows\.csv") as error:
        read_rows(write(tmp_path / "rows.csv", GOOD, header=header) if header else touch(tmp_path / "rows.csv"))
    assert message in str(error.value)


def touch(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    line, message = BAD_ROWS[name]
    with pytest.raises(FileFormatError) as error:
        read_rows(write(tmp_path / "rows.csv", line))
    assert message in str(error.value)


def test_the_same_id_twice_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="line 3: the id 'a' appears twice"):
        read_rows(write(tmp_path / "rows.csv", GOOD, GOOD))


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read: No such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "plain.csv.gz").write_text(HEADER)
    with pytest.raises(FileFormatError, match="not gzip data"):
        read_rows(tmp_path / "plain.csv.gz")
    whole = gzip.compress("\n".join([HEADER, *[GOOD.replace("a,", f"a{i},", 1) for i in range(500)]]).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="end early"):
        read_rows(tmp_path / "cut.csv.gz")
    (tmp_path / "bytes.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        read_rows(tmp_path / "bytes.csv")


positive = st.one_of(st.none(), st.integers(1, 4096).map(float))
text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=12).map(str.strip)


@given(value=st.floats(1e-6, 1e9), batch=positive, tp=positive, notes=text, name=text.filter(bool))
def test_rows_survive_a_round_trip(tmp_path_factory, value, batch, tp, notes, name) -> None:
    row = Row("x", name, "m", "decode", "tpot_s", float(f"{value:.10g}"), batch=batch, tp=tp, notes=notes)
    path = tmp_path_factory.mktemp("rows") / "rows.csv.gz"
    write_rows(path, [row])
    assert read_rows(path) == [row]


def test_the_packaged_rows_are_complete_unsuspected_and_sourced() -> None:
    rows = read_rows(PACKAGED)
    assert len(rows) > 3000 and PACKAGED.stat().st_size < 5_000_000
    assert all(r.complete and not r.suspect and r.source and r.url and r.kind == "measured" for r in rows)


def test_no_packaged_rate_is_beyond_its_machine() -> None:
    """A mark of a footnote once became digits of a figure: 475[^3-b200-4] is no 47,532,004."""
    for row in read_rows(PACKAGED):
        known = hardware_name(row.hardware)
        if row.metric == "tflops_per_device" and not isinstance(known, Refusal):
            assert row.value * 1e12 <= max(load_hardware(known[0]).peak_flops.values()), row.id


def test_a_figure_with_a_footnote_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "id,hardware,model,phase,metric,value\na,h100,llama-3-8b,train,tflops_per_device,475[^note-3-b200]\n"
    )
    with pytest.raises(FileFormatError, match=r"value is not a number: '475\[\^note"):
        read_rows(path)


def test_a_folder_without_measurements_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"holds no llm-inference\.csv\.gz"):
        evidence_folder(tmp_path)
