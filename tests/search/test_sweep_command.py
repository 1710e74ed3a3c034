"""`waferline sweep` from the outside: points, resuming, refusals and mistakes in the file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import waferline as wl
from waferline.catalog import ROOT as CATALOG
from waferline.cli import run
from waferline.predict.profile import KIND
from waferline.search import pairs, parts
from waferline.search.frontier import pareto
from waferline.search.pairs import pairs_of, tried
from waferline.search.parts import parts_of, solve_part
from waferline.search.study_file import read_sweep

STUDY = """
models: [qwen3-0.6b, llama-3-8b]
machines: [l4, a100]
axes:
  precision: [fp16, int4]
  batch: {start: 1, stop: 4}
  prompt: [128, 1024]
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
    row = next(r for r in rows if r["model"] == "llama-3-8b" and r["batch"] == 3 and r["precision"] == "int4")
    asked = wl.Scenario(model="llama-3-8b", machine=row["machine"], prompt=row["prompt"], batch=3, precision="int4")
    assert row["itl_s"] == pytest.approx(float(wl.run(asked).result["itl_s"]))


def _begun(folder: Path, study: str) -> tuple[Path, Path]:
    """The output of a sweep that was interrupted after its first pair, and the part of that pair."""
    out, todo = folder / "points.parquet", read_sweep(study)
    answered = tried(todo, pairs_of(todo))
    part = next(parts_of(todo, answered, out))
    solve_part(todo, part, answered.missing, None, done=lambda n: None)
    return out, part.path


def test_an_interrupted_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study(tmp_path)
    out, part = _begun(tmp_path, study)
    solved = []
    monkeypatch.setattr(parts, "solve_part", lambda *args, **more: [solved.append(args[1]), solve_part(*args, **more)])
    assert run(["sweep", study, "--out", str(out)]) == 0
    assert len(solved) == 3 and pq.read_table(out).num_rows == 64 and not part.exists()


@pytest.mark.parametrize("what", ["machine", "version", "profile"])
def test_a_part_of_yesterday_s_contents_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    mine = tmp_path / "mine.yaml"
    text = (CATALOG / "hardware" / "nvidia-l4.yaml").read_text().replace("name: nvidia-l4", "name: mine")
    mine.write_text(text)
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        yaml.safe_dump({"kind": KIND, "engine": "vllm", "hardware": "mine", "constants": {"step_s": 1e-3}})
    )
    study = _study(tmp_path, STUDY.replace("[l4, a100]", f"['{mine}']") + f"engine: vllm\nprofile: '{profile}'\n")
    out, part = _begun(tmp_path, study)
    assert pairs_of(read_sweep(study))[0].part(out, read_sweep(study), 0) == part
    if what == "machine":
        mine.write_text(text.replace("3.0e+11", "1.5e+11").replace("300e9", "150e9"))
        assert mine.read_text() != text
    elif what == "profile":
        profile.write_text(profile.read_text().replace("0.001", "0.002"))
    else:
        monkeypatch.setattr(pairs, "__version__", "9.9.9")
    assert pairs_of(read_sweep(study))[0].part(out, read_sweep(study), 0) != part


def test_two_sweeps_on_one_output_leave_one_whole_file(tmp_path: Path) -> None:
    study, out = _study(tmp_path), tmp_path / "points.parquet"
    command = [sys.executable, "-m", "waferline", "sweep", study, "--out", str(out)]
    for _ in range(3):
        out.unlink(missing_ok=True)
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
        told = [process.communicate(timeout=120)[1] for process in running]
        codes = [process.returncode for process in running]
        assert 0 in codes and set(codes) <= {0, 2}, told
        assert all(b"another process" in err for code, err in zip(codes, told, strict=True) if code == 2)
        assert pq.read_table(out).num_rows == 64
        assert sorted(p.name for p in tmp_path.iterdir()) == ["points.parquet", "study.yaml"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A real Dask scheduler and two workers on the loopback: its address and the workers."""
    address_file = tmp_path / "scheduler.json"
    dask = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True}
    scheduler = subprocess.Popen([*dask, "--no-show", "--scheduler-file", str(address_file)], **quiet)
    while not address_file.is_file():
        assert scheduler.poll() is None
        time.sleep(0.1)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
    worker += ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)]
    workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]
    yield json.loads(address_file.read_text())["address"], workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


LONG = STUDY.replace("{start: 1, stop: 4}", "{start: 1, stop: 400}").replace("[128, 1024]", "{start: 1, stop: 1000}")


def test_workers_and_a_cluster_that_loses_one_write_the_same_points(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[str]]]
) -> None:
    study = _study(tmp_path, LONG.replace("[l4, a100]", "[l4]"))
    alone, pool, dask = (str(tmp_path / f"{name}.parquet") for name in ("alone", "pool", "dask"))
    assert run(["sweep", study, "--out", alone]) == 0
    assert run(["sweep", study, "--out", pool, "--workers", "2"]) == 0
    address, workers = cluster
    command = [sys.executable, "-m", "waferline", "sweep", study, "--out", dask, "--cluster", address]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not list(tmp_path.glob(".dask.parquet*")):
        time.sleep(0.05)
    workers[0].kill()
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    whole = pq.read_table(alone)
    assert whole.num_rows == 2 * 2 * 400 * 1000
    assert whole.equals(pq.read_table(pool)) and whole.equals(pq.read_table(dask))
    assert whole.schema.field("itl_s").metadata == {b"unit": b"second"}


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in (["--cluster", "tcp://127.0.0.1:1"], ["--cluster", "nonsense://x"], ["--workers", "0"]):
        assert run(["sweep", _study(tmp_path), "--out", str(tmp_path / "p.parquet"), *extra]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_table_of_another_kind_is_refused_before_anything_is_solved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that ends in .csv and holds Parquet would be believed to be CSV."""
    for command in (
        ["sweep", _study(tmp_path)],
        ["simulate", "serving", "llama-3-8b", "--on", "h100", "--rate", "1/s"],
    ):
        assert run([*command, "--out", str(tmp_path / "points.csv")]) == 2
        assert "points.parquet" in capsys.readouterr().err and not (tmp_path / "points.csv").exists()


def test_any_field_of_a_scenario_is_an_axis(tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    text = """
models: [qwen3-0.6b]
machines: [l4, h100]
axes: {phase: [serve, train], tp: [1, 2, 3], batch: [8, 16]}
fields: [itl_s, step_time_s, bottleneck]
"""
    assert run(["sweep", _study(tmp_path, text), "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert {(r["machine"], r["phase"], r["tp"]) for r in rows} >= {("h100", "serve", 2), ("h100", "train", 1)}
    assert not [r for r in rows if r["tp"] == 3]  # 16 heads
    assert all(np.isnan(r["itl_s"]) == (r["phase"] == "train") == (r["bottleneck"] != "") for r in rows)


@pytest.mark.parametrize(
    ("model", "machine", "name", "values", "answer"),
    [("flux.1-dev", "h100", "ring", [1, 2, 4], "latency_s"), ("wan2.1-t2v-1.3b", "h100", "frames", [17, 33], "latency_s"),
     ("llama-3-8b", "epyc-9755", "threads", [8, 64], "itl_s")],
)  # fmt: skip
def test_whole_numbers_that_are_no_arrays_are_axes(
    tmp_path: Path, model: str, machine: str, name: str, values: list[int], answer: str
) -> None:
    """They had been taken for names, and refused."""
    fixed = {"devices": 4, "engine": "pytorch"} if name == "ring" else {}
    study = {"models": [model], "machines": [machine], "axes": {name: values}, "fields": [answer], **fixed}
    out = tmp_path / "points.parquet"
    assert run(["sweep", _study(tmp_path, yaml.safe_dump(study)), "--out", str(out)]) == 0
    for row in pq.read_table(out).to_pylist():
        alone = wl.run(wl.Scenario(model=model, machine=machine, **fixed, **{name: row[name]}))  # type: ignore[arg-type]
        assert row[answer] == float(alone.result[answer])


def test_what_a_sweep_asserts_is_held_against_its_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.parquet"
    study = _study(tmp_path, STUDY + "assert: [tpot<=10s, some ttft<=1us, batch<=3, energy>=0]\n")
    assert run(["sweep", study, "--out", str(out), "--json"]) == 3
    held = {v["text"]: v for v in json.loads(capsys.readouterr().out)["asserted"]}
    assert [v["holds"] for v in held.values()] == [True, False, False, True]
    rows = [row for row in pq.read_table(out).to_pylist() if row["feasible"]]
    assert held["batch<=3"]["points"] == len(rows) and held["batch<=3"]["misses"] == sum(r["batch"] > 3 for r in rows)
    assert held["batch<=3"]["first"]["batch"] == 4 and "energy_j_per_token" in rows[0]
    assert run(["sweep", _study(tmp_path, STUDY + "assert: [tpot<=10s]\n"), "--out", str(out)]) == 0
    assert "holds: tpot<=10s" in capsys.readouterr().out
    for bad, word in (("[tpot=3]", "form"), ("[speed<=3]", "speed"), ("[tpot<=3GB]", "second"), ("{a: 1}", "assert")):
        assert run(["sweep", _study(tmp_path, STUDY + f"assert: {bad}\n"), "--out", str(out)]) == 2
        assert word in capsys.readouterr().err


def test_a_sweep_that_is_all_refused_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.parquet"
    text = STUDY.replace("[fp16, int4]", "[fp8]").replace("[l4, a100]", "[a100]")
    assert run(["sweep", _study(tmp_path, text), "--out", str(out)]) == 3
    said = capsys.readouterr().out
    assert "every pair was refused" in said and "fp8" in said and not out.exists()


def test_everything_is_checked_before_the_first_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "solve_part", lambda *_, **__: pytest.fail("solved a point"))
    out = str(tmp_path / "p.parquet")
    for old, new in (
        ("llama-3-8b]", "llama-3-8c]"),
        ("a100]", "a1000]"),
        ("axes:", "fields: [ttft_s, itl_z]\naxes:"),
        ("axes:", "engine: vlm\naxes:"),
        ("int4]", "int5]"),
    ):
        assert run(["sweep", _study(tmp_path, STUDY.replace(old, new)), "--out", out]) == 2


def test_a_field_that_one_machine_lacks_is_empty_there(tmp_path: Path) -> None:
    text = STUDY.replace("[l4, a100]", "[m2-ultra, l4]") + "fields: [itl_s, cost_usd_per_mtoken]\n"
    out = tmp_path / "p.parquet"
    assert run(["sweep", _study(tmp_path, text.replace("fp16, int4", "int4")), "--out", str(out)]) == 0
    for row in pq.read_table(out).to_pylist():
        assert np.isnan(row["cost_usd_per_mtoken"]) == (row["machine"] == "m2-ultra")


def test_frontier_is_what_no_point_beats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.parquet"
    assert run(["sweep", _study(tmp_path), "--out", str(out)]) == 0
    capsys.readouterr()
    line = ["frontier", str(out), "--x", "itl_s", "--y", "throughput_tokens_per_s"]
    assert run([*line, "--json"]) == 0
    front = json.loads(capsys.readouterr().out)["front"]
    rows = [row for row in pq.read_table(out).to_pylist() if row["feasible"]]
    best = [
        row
        for row in rows
        if not any(
            o["itl_s"] <= row["itl_s"] and o["throughput_tokens_per_s"] > row["throughput_tokens_per_s"] for o in rows
        )
    ]
    assert {r["itl_s"] for r in front} <= {r["itl_s"] for r in best} and front
    assert [r["itl_s"] for r in front] == sorted(r["itl_s"] for r in front)
    assert run(line) == 0 and "low itl_s and high throughput" in " ".join(capsys.readouterr().out.split())
    assert run(["frontier", str(out), "--x", "itl", "--y", "ttft_s"]) == 2 and "itl_s" in capsys.readouterr().err
    assert run(["frontier", str(tmp_path / "study.yaml"), "--x", "itl_s", "--y", "ttft_s"]) == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_two_scores_are_sorted_as_any_number_is_searched(points: list[tuple[int, int]]) -> None:
    a, b = np.array(points, dtype=float).T
    two = pareto({"a": a, "b": b}, least=["a"], most=["b"])
    many = pareto({"a": a, "b": b, "c": a * 0}, least=["a", "c"], most=["b"])
    assert {points[i] for i in two} == {points[i] for i in many}


def test_what_a_machine_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = STUDY.replace("[fp16, int4]", "[fp8]")
    assert run(["sweep", _study(tmp_path, text), "--out", str(tmp_path / "p.parquet"), "--json"]) == 0
    refused = json.loads(capsys.readouterr().out)["refused"]
    assert set(refused) == {f"{model} on a100, precision fp8" for model in ("qwen3-0.6b", "llama-3-8b")}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("machines:", "machins:", "machines"),
        ("prompt", "promt", "prompt"),
        ("[128, 1024]", "[]", "prompt"),
        ("{start: 1, stop: 4}", "{start: 1, end: 4}", "end"),
        ("llama-3-8b", "llama-3-8c", "llama-3-8b"),
        ("start: 1", "start: 0", "batch"),
        ("machines:", "engine: 1\nmachines:", "engine"),
        ("{start: 1, stop: 4}", "{start: 1, stop: .inf}", "batch"),
        ("{start: 1, stop: 4}", "{start: 1, stop: 1e12}", "10,000,000"),
        ("{start: 1, stop: 4}", "{start: 1, stop: 4, step: 0}", "batch"),
        ("{start: 1, stop: 4}", "[[1, 2], [3]]", "batch"),
        ("{start: 1, stop: 4}", "[1, 2.5]", "2.5"),
        ("{start: 1, stop: 4}", "[1, true]", "batch"),
        ("{start: 1, stop: 4}", "{}", "batch"),
        ("[fp16, int4]", "[16, 4]", "precision"),
        ("[fp16, int4]", "{start: 1, stop: 2}", "precision"),
        ("[l4, a100]", "{l4: 1}", "machines"),
        ("[l4, a100]", "[l4, '']", "machines"),
        ("machines:", "models: [gpt2]\nmachines:", "twice"),
        ("  prompt", "  batch: [2]\n  prompt", "twice"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str) -> None:
    assert run(["sweep", _study(tmp_path, STUDY.replace(old, new)), "--out", str(tmp_path / "p.parquet")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.parametrize("out", ["", ".", "no/such/folder/p.parquet", "x" * 300, "a\0b"])
def test_an_output_that_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["sweep", _study(tmp_path), "--out", out]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["study.yaml"]
