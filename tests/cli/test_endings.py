"""How a command ends: codes 0, 2, 3, 4 and 130 only, one clear line, and JSON where JSON was asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import waferline.cli as cli
from waferline.cli import run
from waferline.errors import InvalidInputError, RefusedError

LIST = ("catalog", "models")


def waferline(*args: str, **changes: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **changes.pop("env", {})}  # type: ignore[dict-item]
    command = [sys.executable, "-m", "waferline", *args]
    return subprocess.run(command, stderr=subprocess.PIPE, env=environment, timeout=60, **changes)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InvalidInputError("no such thing", where="--batch"), 2, "--batch: no such thing"),
        (RefusedError("no device"), 4, "no device"),
        (FileNotFoundError(2, "No such file or directory", "/a/b"), 2, "/a/b: No such file"),
        (MemoryError(), 2, "not enough memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        (OverflowError("int too large"), 2, "too large"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "text that cannot be read"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "'torch', which is not installed"),
        (KeyError("spam"), 2, "this is a bug in waferline"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    def fails(args: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_command", fails)
    assert cli.run(["predict"]) == code
    out, err = capsys.readouterr()
    assert not out and words in err and len(err.splitlines()) == 1
    assert cli.run(["predict", "--json"]) == code
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["exit_code"] == code and set(told) == {"kind", "message", "where", "hint", "exit_code"}
    assert cli.run(["predict", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_arguments_are_not_echoed_raw(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("\x1b]0;evil\x07", "a\nb", "x" * 5000, "\x9b31m", "a \udcff b"):
        for line in (["predict", name, "--on", "h100"], ["predict", "gpt2", "--on", "h100", "--batch", name], [name]):
            assert cli.run(line) == 2
            err = capsys.readouterr().err
            assert len(err.splitlines()) == 1 and err.strip().isprintable() and len(err) < 700


@pytest.mark.parametrize("value", ["--debug", "--json", "-h"])
def test_no_option_is_taken_for_the_value_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["calibrate", "rows.csv", "--profile-out", value]) == 2
    assert f"--profile-out: needs a value, and '{value}' is " in capsys.readouterr().err
    assert cli.run(["predict", "gpt2", "--on", "l4", "--precision", value, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["where"] == "--precision" and f"'{value}' is an option" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [(), ("catalog",), ("simulate",), ("--help",), ("predict", "-h")])
def test_help_is_help(capsys: pytest.CaptureFixture[str], line: tuple[str, ...]) -> None:
    assert cli.run(list(line)) == 0
    assert "Usage: waferline" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_output_is_said(options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = waferline(*LIST, *options, stdout=full)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr


def test_a_closed_output_is_said() -> None:
    done = waferline(*LIST, preexec_fn=lambda: os.close(1))
    assert done.returncode == 2 and b"closed" in done.stderr


def test_head_has_what_it_wants() -> None:
    done = subprocess.run(
        f"{sys.executable} -m waferline catalog hardware --json | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"[", b"0"] and not done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_few_characters_are_enough(encoding: str) -> None:
    for line in (LIST, ("predict", "llama-3-8b", "--on", "h100"), ("--help",)):
        done = waferline(*line, stdout=subprocess.PIPE, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0 and not done.stderr
        assert done.stdout.decode(encoding)


def test_ctrl_c_ends_long_work_with_130(tmp_path: Path) -> None:
    study = tmp_path / "long.yaml"
    axes = "axes: {batch: {start: 1, stop: 30000}, prompt: {start: 1, stop: 30000}}"
    study.write_text(f"models: [qwen3-0.6b]\nmachines: [l4]\n{axes}\n")
    command = [sys.executable, "-m", "waferline", "sweep", str(study), "--out", str(tmp_path / "p.parquet")]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # jobs of a shell's background ignore it
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heard)
    assert running.stderr is not None
    assert b"points" in running.stderr.readline()  # long work says how far it is
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130 and b"Traceback" not in err and b"waferline: interrupted" in err, err
    assert not (tmp_path / "p.parquet").exists()


@pytest.mark.parametrize(
    "command",
    ["evidence check {}.csv", "frontier {}.parquet --x itl_s --y ttft_s", "predict {}.onnx --on h100",
     "predict {}.tflite --on h100", "predict {}.gguf --on h100", "simulate serving llama-3-8b --on h100 --trace {}.csv"],
)  # fmt: skip
def test_a_pipe_is_refused_and_not_waited_for(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.format(tmp_path / "pipe").split()
    os.mkfifo(next(word for word in words if word.startswith(str(tmp_path))))
    assert cli.run(words) == 2
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--strategy", "--kv", "--engine", "--with"])
def test_an_option_without_a_value_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([option, ""], [f"{option}="]):
        assert run(["predict", "llama-3-8b", "--on", "h100", *given]) == 2
        assert "needs a value" in capsys.readouterr().err
