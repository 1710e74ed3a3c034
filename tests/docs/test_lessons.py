"""Every command and every block of Python on the pages runs, what they claim holds, and they print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import blocks

MOST_LINES = 60


def words(text: str) -> set[str]:
    """What a page says apart from figures, which move when a constant does (`python -m docs.build lessons` writes them anew)."""
    return set(re.findall(r"[A-Za-z]{4,}", text))


@pytest.mark.parametrize("page", blocks.pages(), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_page_runs_and_prints_what_it_shows(page: Path) -> None:
    shown = page.read_text(encoding="utf-8")
    now = blocks.executed(shown)
    assert words(now) == words(shown)
    assert now.count("```") == shown.count("```")


@pytest.mark.parametrize("page", blocks.pages(), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
