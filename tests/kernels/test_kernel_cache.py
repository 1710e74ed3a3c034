"""The disk cache of compiled kernels: damage and read-only folders cost a compilation and one line, never a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from waferline.kernels.cpu.jit import cache_directory, jit

@jit
def inner(x):
    return x + 1

@jit
def outer(x):
    return 2 * inner(x)

print(outer(3), cache_directory(), sum(outer.stats.cache_hits.values()))
"""
DAMAGE = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "text": lambda raw: b"not a kernel",
    "flipped in the middle": lambda raw: (
        raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 255]) + raw[len(raw) // 2 + 1 :]
    ),
    "flipped at the start": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
}


def run(folder: Path, script: Path) -> tuple[list[str], str]:
    """Words printed, and standard error."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "two_kernels.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_heals_and_says_so_in_one_line(tmp_path: Path, script: Path, damage: str) -> None:
    first, silent = run(tmp_path, script)
    assert first[0] == "8" and first[2] == "0" and silent == ""
    files = [p for p in Path(first[1]).rglob("*") if p.suffix in (".nbi", ".nbc")]
    assert len(files) == 4
    for file in files:
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
    healed, said = run(tmp_path, script)
    assert healed == first and said.count("\n") == 1 and "damaged and compiled anew" in said
    again, silent = run(tmp_path, script)
    assert again == [*first[:2], "1"] and silent == ""


def test_a_folder_that_cannot_be_written_says_that_kernels_are_compiled_anew(tmp_path: Path, script: Path) -> None:
    (tmp_path / "waferline").write_text("a file where the folder should be")
    words, said = run(tmp_path, script)
    assert words[0] == "8" and said.count("\n") == 1 and "kernels are compiled anew" in said
