"""Every kind of file that is read, damaged in a seeded way: sane numbers or a typed error, in bounded time."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from benchmarks.fuzz import files
from benchmarks.fuzz.places import make

EACH = 12


def test_damaged_files_are_refused_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path))
    warnings.simplefilter("ignore")
    good = files.contents(tmp_path)
    for name, read in files.READERS.items():
        assert read(tmp_path / name) is not None, name  # undamaged
    cases = [files.Damaged(name, seed) for name in good for seed in range(EACH)]
    wrong = {str(case): files.breach(case, tmp_path, good) for case in cases}
    assert {case: what for case, what in wrong.items() if what is not None} == {}
