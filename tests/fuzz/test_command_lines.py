"""The contract of every command, whatever is typed: a documented exit code, one line, JSON with --json, and no bug.

The cases are made from the tree of commands: a new command or option is under the contract without a line here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from benchmarks.fuzz.commands import LASTING, Line, case, lines
from benchmarks.fuzz.contract import breach, run
from benchmarks.fuzz.options import nonsense, silent
from benchmarks.fuzz.places import make

CASES, SEEDS = 1_000, 10
BRIEF = [line for line in lines() if " ".join(line.words) not in LASTING]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _named(line: Line) -> str:
    return " ".join(line.args)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_contract_holds(place: Path, seed: int) -> None:
    draw = random.Random(seed)
    compiled = [line for line in BRIEF if line.words[0] != "generate"]  # its kernels take a minute where none is kept
    for _ in range(CASES // SEEDS):
        ending = run(case(draw, compiled))
        assert breach(ending) is None, (breach(ending), ending)


@pytest.mark.parametrize("line", BRIEF, ids=_named)
def test_every_option_is_read_or_refused(place: Path, line: Line) -> None:
    for check in (nonsense, silent):
        if line.words[0] == "generate" and check is silent:
            continue
        for ending, wrong in check(line):
            assert wrong is None and breach(ending) is None, (wrong or breach(ending), ending)


@pytest.mark.parametrize(
    "args",
    [
        "calibrate rows.csv --profile-out loop --json",
        "sweep study.yaml --out / --json",
        "measure export --store store.jsonl --output fifo --json",
    ],
)
def test_what_no_file_can_be_is_refused(place: Path, args: str) -> None:
    ending = run(args.split())
    assert ending.code == 2 and breach(ending) is None, ending
