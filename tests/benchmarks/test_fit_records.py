"""Fitted constants as files: what is written is what YAML reads, under the head that the file had."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import yaml
from benchmarks.fit import record
from benchmarks.fit.__main__ import FITS, main
from hypothesis import given
from hypothesis import strategies as st

CATALOG = Path(__file__).parents[2] / "src" / "waferline" / "catalog"
FILES = {
    "efficiency/h100.yaml": ("records", 2, 4),
    "engine_fits.yaml": ("engines", 3, 9),
    "loads.yaml": ("engines", 0, 9),
    "training_stacks.yaml": ("stacks", 1, 9),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_written_again_says_the_same(name: str, tmp_path: Path) -> None:
    key, depth, digits = FILES[name]
    path = tmp_path / "again.yaml"
    shutil.copy(CATALOG / name, path)
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    record.write(path, key, before[key], depth, digits)
    after = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {**after, "date": ""} == {**before, "date": ""}
    head = (CATALOG / name).read_text(encoding="utf-8").split("date:")[0]
    assert path.read_text(encoding="utf-8").startswith(head)


TEXT = st.text(st.sampled_from("aZ09 .:,[]{}#&*!|>'\"%@-?µé/_\n\t"))
plain = st.recursive(
    TEXT
    | st.integers(-999, 999)
    | st.sampled_from([0.1, 1e-7, -2.5e8, float("inf"), "yes", "a: b", "[x", "nvidia gpu"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_a_line_of_plain_data_is_read_back(value: object) -> None:
    assert yaml.safe_load(f"a: {record.flow(value)}") == {"a": value}


@pytest.mark.parametrize("name", FITS)
def test_every_fit_is_a_module_with_a_main(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.fit.{name}").main)


def test_an_unknown_fit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine"]) == 2
    assert "unknown fit 'engine'" in capsys.readouterr().err
