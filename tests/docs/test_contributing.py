"""`docs/contributing.md` is done as it is written, in a copy of the package: every example is answered by the command line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from waferline.catalog import ROOT

PAGE = Path(__file__).parents[2] / "docs" / "contributing.md"
MOST_LINES = 20


@dataclass(frozen=True)
class Section:
    """A heading and its fenced blocks: (what the fence says after the language, text)."""

    title: str
    blocks: tuple[tuple[str, str], ...]


def sections() -> list[Section]:
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    fence = re.compile(r"^```(\w+ ?.*)\n((?:.*\n)*?)```$", re.MULTILINE)
    return [Section(part.partition("\n")[0], tuple(fence.findall(part))) for part in parts]


def write(home: Path, where: str, text: str) -> None:
    """Put a block where its fence says: a whole file, or lines after the one that is named."""
    path = home / re.search(r'title="([^",]+)', where)[1]
    after = re.search(r"after '(.*)'", where)
    if after is None:
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (place,) = (i for i, line in enumerate(lines) if line.rstrip() == after[1])
    path.write_text("".join([*lines[: place + 1], text, *lines[place + 1 :]]), encoding="utf-8")


def answers(home: Path, console: str, code: int) -> None:
    """Run each `$ waferline …` of a block; every other line stands in what the last command printed.

    code: the exit code, in the fence where it is not 0 (`console title="exit code 2"`).
    """
    printed = ""
    for line in console.splitlines():
        if line.startswith("$ waferline "):
            arguments = [sys.executable, "-m", "waferline", *shlex.split(line)[2:]]
            environment = os.environ | {
                "PYTHONPATH": str(home / "src"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "COLUMNS": "200",
            }
            run = subprocess.run(arguments, capture_output=True, text=True, cwd=home, env=environment, check=False)
            printed = run.stdout + run.stderr
            assert run.returncode == code, printed
        else:
            assert " ".join(line.split()) in " ".join(printed.split()), printed


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT.parent, home / "src" / "waferline", ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    return home


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.title)
def test_what_the_page_says_can_be_done(package: Path, section: Section) -> None:
    consoles = 0
    for where, text in section.blocks:
        if where.startswith("console"):
            answers(package, text, int((re.findall(r"exit code (\d)", where) or [0])[0]))
            consoles += 1
        elif "title=" in where:
            write(package, where, text)
    assert consoles


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.title)
def test_every_addition_is_short(section: Section) -> None:
    """Lines with something in them; Python's style asks for a third of blank ones."""
    added = sum(
        bool(line.strip())
        for where, text in section.blocks
        if where.partition(" ")[0] != "console"
        for line in text.splitlines()
    )
    assert added <= MOST_LINES, f"{section.title}: {added} lines"


def test_the_page_names_what_can_be_added() -> None:
    titles = " ".join(section.title for section in sections())
    for what in ("machine", "model", "family", "operator", "engine", "study"):
        assert what in titles
