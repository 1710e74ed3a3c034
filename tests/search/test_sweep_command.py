"""`waferline sweep` from the outside: points, resuming, refusals and mistakes in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import waferline as wl
from waferline.cli import run

STUDY = """
models: [qwen3-0.6b, llama-3-8b]
machines: [l4, a100]
axes:
  precision: [fp16, int4]
  batch_size: {start: 1, stop: 4}
  seq_len: [128, 1024]
"""


def _study(folder: Path, text: str = STUDY) -> str:
    path = folder / "study.yaml"
    path.write_text(text)
    return str(path)


def test_every_point_is_the_model_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "points.parquet"
    assert run(["sweep", _study(tmp_path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2 * 2 * 2 * 4 * 2
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 64 and not list(tmp_path.glob(".*part"))
    row = next(r for r in rows if r["model"] == "llama-3-8b" and r["batch_size"] == 3 and r["precision"] == "int4")
    alone = wl.ServingModel().solve("llama-3-8b", row["machine"], row["seq_len"], 3, "int4")
    assert row["itl_s"] == pytest.approx(float(alone["itl_s"]))


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    from waferline.search.parts import part_of, solve_pair
    from waferline.search.study_file import read_sweep

    out, study = tmp_path / "points.parquet", _study(tmp_path)
    todo = read_sweep(study)
    part = part_of(out, todo, "qwen3-0.6b", "l4")
    solve_pair(todo, "qwen3-0.6b", "l4", part, done=lambda n: None)
    before = part.stat().st_mtime_ns
    assert part.is_file() and part.stat().st_mtime_ns == before
    assert run(["sweep", study, "--out", str(out)]) == 0
    assert pq.read_table(out).num_rows == 64 and not part.exists()


def test_what_a_machine_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = STUDY.replace("[fp16, int4]", "[fp8]")
    assert run(["sweep", _study(tmp_path, text), "--out", str(tmp_path / "p.parquet"), "--json"]) == 0
    refused = json.loads(capsys.readouterr().out)["refused"]
    assert set(refused) == {"qwen3-0.6b on a100", "llama-3-8b on a100"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("machines:", "machins:", "machines"),
        ("seq_len", "seqlen", "seq_len"),
        ("[128, 1024]", "[]", "seq_len"),
        ("{start: 1, stop: 4}", "{start: 1, end: 4}", "end"),
        ("llama-3-8b", "llama-3-8c", "llama-3-8b"),
        ("start: 1", "start: 0", "batch_size"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str) -> None:
    assert run(["sweep", _study(tmp_path, STUDY.replace(old, new)), "--out", str(tmp_path / "p.parquet")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not (tmp_path / "p.parquet").exists()
