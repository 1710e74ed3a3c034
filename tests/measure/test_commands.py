"""`waferline measure` as a user types it: exit codes, JSON, one clear line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from waferline.cli import run
from waferline.measure import store

from . import loopback as toy


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's measurements; compiled kernels stay where they are."""
    monkeypatch.setenv("WAFERLINE_MEASUREMENTS", str(tmp_path / "m.jsonl"))


def test_another_kernel_stands_beside_the_usual_one(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["measure", "operator", "softmax", "999", "--algorithm", "two-pass", "--warm", "--repeats", "5"]
    assert run([*arguments, "--on", "xeon-8480", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["measured"]["name"].startswith("softmax:two-pass") and data["usual"]["name"].startswith("softmax 999")
    assert run(arguments) == 0
    assert "times as long" in " ".join(capsys.readouterr().out.split())
    assert store.read().records[-1]["predicted"] is None  # what predict knows is the usual one


def test_operator_prints_measured_and_predicted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["measure", "operator", "gemv", "64x512", "--threads", "1", "--warm", "--repeats", "5"]
    assert run([*arguments, "--on", "xeon-8480", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["measured"]["engaged"]
    assert data["predicted"]["expected_s"] >= data["predicted"]["light_s"]
    assert data["measured"]["check"]["error"] <= data["measured"]["check"]["tolerance"]
    assert run([*arguments, "--on", "xeon-8480"]) == 0
    assert "predicted" in capsys.readouterr().out
    assert len(store.read().records) == 2
    assert run(["measure", "show", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert (
        kept[1]["measured"] == data["measured"]["median_s"] and kept[1]["predicted"] == data["predicted"]["expected_s"]
    )
    assert run(["measure", "show"]) == 0
    assert "gemv 64x512" in capsys.readouterr().out
    assert run(["measure", "export", "-o", str(tmp_path / "rows.csv")]) == 0
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["operator", "gemx", "64x256"], 2, "gemv"),
        (["operator", "gemv", "64by256"], 2, "64by256"),
        (["operator", "softmax", "999", "--algorithm", "two"], 2, "two-pass"),
        (["operator", "gemv", "64x256", "--format", "q4"], 2, "q4"),
        (["operator", "gemv", "64x256", "--repeats", "1"], 2, "repeats"),
        (["operator", "gemv", "64x256", "--on", "h1000"], 2, "h100"),
        (["operator", "gemv", "1073741824x1073741824"], 3, "memory"),
        (["model", "absent.gguf"], 2, "absent.gguf"),
        (["resident", "--device", "tpu"], 2, "cpu"),
        (["resident", "--shape", "sae-2k"], 2, "sae-2k-2048"),
        (["resident", "--device", "cpu", "--reps", "2"], 2, "reps"),
        (["server", "127.0.0.1:1"], 2, "URL"),
        (["server", "http://127.0.0.1:1/v1"], 4, "did not answer"),
        (["server", "http://127.0.0.1:1/v1", "--concurrency", "many"], 2, "many"),
        (["server", "absent.json"], 2, "absent.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["measure", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert text in captured.err
    assert run(["measure", *arguments, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == code


def test_no_gpu_exits_four(capsys: pytest.CaptureFixture[str]) -> None:
    from waferline.kernels.gpu.available import unavailable

    if unavailable() is None:
        pytest.skip("a GPU is here")
    assert run(["measure", "resident"]) == 4
    assert "not measured" in capsys.readouterr().err
    assert [r["engaged"] for r in store.read().records] == [False]  # the refusal is on record too


def test_this_is_refused_until_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("waferline.measure.machine_file.this_machine_path", lambda: tmp_path / "none.yaml")
    assert run(["measure", "operator", "gemv", "64x512", "--threads", "1", "--warm", "--on", "this"]) == 4
    assert "waferline measure machine" in capsys.readouterr().err


def test_resident_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", "resident", "--device", "cpu", "--shape", "200x30", "--reps", "5", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["engaged"]
    assert result["verdict"] == "undetermined"  # the target is for a GPU: no CPU can pass it
    assert (result["reason"], result["target_device"]) == ("other-device", "cuda")


def test_server_beside_predicted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with toy.serving(toy.timed(0.0, 0.0)) as (url, _):
        arguments = [
            "measure",
            "server",
            url,
            "--concurrency",
            "1,2",
            "--prompt",
            "8",
            "--output",
            "4",
            "--requests",
            "5",
        ]
        assert run([*arguments, "--model", "llama3-8b", "--on", "h100", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert [r["detail"]["concurrency"] for r in data["results"]] == [1, 2]
        assert all(r["predicted"]["ttft_s"] > 0 for r in data["results"])
        assert run(arguments) == 0
    assert "tokens counted by server usage" in capsys.readouterr().out
