"""A disk that fails: the n-th open, the n-th rename, full after so many bytes. What was there stays, or the new file is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.fuzz import faults
from benchmarks.fuzz.places import make

TRIED = ("frontier", "quantize", "sweep")  # one of each way to write; `python -m benchmarks.fuzz faults` tries all


def test_every_command_that_writes_is_found() -> None:
    found = {" ".join(writer.words) for writer in faults.writers()}
    assert {*TRIED, "measure export", "predict", "compare", "simulate mesh gemm"} <= found


@pytest.mark.parametrize("words", TRIED)
def test_nothing_is_lost_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.chdir(make(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [w for w in faults.writers() if " ".join(w.words) == words]
    tried = [(writer.target, fault, wrong) for writer in found for fault, wrong, _ in faults.tried(writer, tmp_path)]
    assert {fault.kind for _, fault, _ in tried} == {"open", "rename", "full"}
    assert [case for case in tried if case[2] is not None] == []
