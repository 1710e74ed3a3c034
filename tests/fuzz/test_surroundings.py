"""Surroundings that a command does not choose: no home, one that cannot be written, a plain locale, a disk that ends."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "waferline"]
PREDICT = [*COMMAND, "predict", "llama-3-8b", "--on", "h100"]
STUDY = "models: [llama-3-8b]\nmachines: [h100]\naxes: {batch: {start: 1, stop: 2000}}\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"HOME": None, "XDG_CACHE_HOME": None},
        {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["no home", "a home that cannot be written", "a plain locale"],
)
def test_an_answer_does_not_need_them(changes: dict[str, str | None]) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in changes}
    given = {k: v for k, v in changes.items() if v is not None}
    ended = subprocess.run(PREDICT, capture_output=True, env=kept | given, timeout=120)
    assert ended.returncode == 0 and b"TPOT" in ended.stdout
    assert b"Traceback" not in ended.stderr


def test_a_disk_that_ends_costs_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    out = tmp_path / "points.parquet"
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    ended = subprocess.run(
        [*COMMAND, "sweep", str(tmp_path / "study.yaml"), "--out", str(out)],
        capture_output=True,
        preexec_fn=full,
        timeout=120,
    )
    said = ended.stderr.decode().strip().splitlines()
    assert ended.returncode in (2, 4) and not out.exists()
    assert said and "cannot be written" in said[-1] and not any("Traceback" in line for line in said)
    again = subprocess.run(
        [*COMMAND, "sweep", str(tmp_path / "study.yaml"), "--out", str(out)], capture_output=True, timeout=120
    )
    assert again.returncode == 0 and out.exists()
