"""The evidence commands as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs.pages.accuracy import card
from plotly.offline import get_plotlyjs

from waferline.cli import run
from waferline.evidence.folder import PACKAGED
from waferline.evidence.report import Report
from waferline.evidence.rows import read_rows, write_rows
from waferline.report.evidence import document
from waferline.report.evidence_html import page


@pytest.fixture
def few(tmp_path: Path) -> Path:
    path = tmp_path / "few.csv"
    write_rows(path, read_rows(PACKAGED)[::200])
    return path


def test_check_prints_a_table_for_every_grouping(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evidence", "check", str(few), "--by", "machine", "--by", "metric", "--worst", "3"]) == 0
    out = capsys.readouterr().out
    assert "by machine" in out and "by metric" in out and "worst rows" in out and "all rows" in out


def test_json_lists_every_row(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evidence", "check", str(few), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in data["rows"]] == [r.id for r in read_rows(few)]
    wanted = {"id", "value", "predicted", "low90", "high90", "tier", "complete", "suspect", "refused"}
    assert all(wanted <= set(row) for row in data["rows"])
    assert data["total"]["rows"] == len(data["rows"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "no-such-file.csv"], "cannot be read"),
        (["report", "--shared", "no-such-folder"], "holds no"),
        (["check", str(PACKAGED), "--by", "machin"], "did you mean machine"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evidence", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err


def test_errors_are_data_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evidence", "check", "no-such-file.csv", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "file-format"


def test_the_page_needs_no_network_and_shows_every_scored_metric(packaged: Report) -> None:
    text = page(packaged, ["complete.csv.gz"])
    own = text.replace(get_plotlyjs(), "")
    assert len(own) < len(text) and "http" not in own.replace("http://www.w3.org", "")
    assert f"{packaged.total.rows:,} published values" in text
    assert ">nan" not in own and "NaN" not in own


def test_document_and_card_state_the_same_figures(packaged: Report) -> None:
    total = f"{packaged.total.scored:,}"
    for text in (document(packaged, ["complete.csv.gz"]), card(packaged, ["complete.csv.gz"])):
        assert total in text and "## Worst rows" in text
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert all(line.endswith("|") for line in lines)
