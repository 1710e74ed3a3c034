"""Pages whose blocks run: commands and Python are executed in order, and what they print is written below them.

A fence ```console holds `$ waferline …` lines and what they answer; a fence ```python is followed by one ```text with what
it printed. Comments before a fence: `<!-- exit: 3 -->` for another exit code than 0, `<!-- lines: REGEX -->` for the lines that
a reader is shown. What a page claims in words, its Python asserts. Fences of other languages are left alone.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.pages.markdown import DOCS
from waferline.cli import run

RUN = ("lessons", "guide", "reference")  # folders of such pages
_BLOCK = re.compile(
    r"(?P<notes>(?:<!-- (?:exit|lines): .*? -->\n)*)```(?P<kind>console|python)\n(?P<body>.*?)```\n"
    r"(?P<printed>(?:\n?```text\n.*?```\n)?)",
    re.S,
)
_NOTE = re.compile(r"<!-- (exit|lines): (.*?) -->")


def pages() -> list[Path]:
    """Every page with blocks that run."""
    return sorted(p for name in RUN for p in (DOCS / name).glob("*.md") if _BLOCK.search(p.read_text(encoding="utf-8")))


def executed(text: str) -> str:
    """The page with every answer as it is now. Raises: AssertionError for a claim that does not hold, or another exit code."""
    space: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return _BLOCK.sub(lambda found: _block(found, space), text)


def _block(found: re.Match[str], space: dict[str, Any]) -> str:
    notes, kind, body = found["notes"], found["kind"], found["body"]
    said = dict(_NOTE.findall(notes))
    if kind == "console":
        parts = [part for line in body.splitlines() if line.startswith("$ ") for part in _answer(line, said)]
        return notes + "```console\n" + "\n".join(parts) + "\n```\n"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, "a block of the page", "exec"), space)
    printed = _tidy(out.getvalue(), said)
    return f"{notes}```python\n{body}```\n" + (f"\n```text\n{printed}\n```\n" if printed else "")


def _answer(line: str, said: dict[str, str]) -> Iterator[str]:
    """A command and what it prints, errors too."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(shlex.split(line.removeprefix("$ waferline ")))
    assert code == int(said.get("exit", 0)), f"{line}: exit code {code}\n{out.getvalue()}"
    yield line
    yield _tidy(out.getvalue(), said)


def _tidy(printed: str, said: dict[str, str]) -> str:
    """What a reader is shown, without the working folder and the lines of progress."""
    lines = [line.rstrip() for line in printed.replace(str(Path.cwd()), ".").splitlines()]
    lines = [line for line in lines if not re.match(r"waferline: .*\(\d+ s\)$", line)]
    if "lines" in said:
        lines = [line for line in lines if re.search(said["lines"], line)]
        assert lines, f"no line has '{said['lines']}':\n{printed}"
    return "\n".join(lines).strip("\n")


def build() -> list[Path]:
    """Run every page and write its answers into it."""
    for path in pages():
        path.write_text(executed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return pages()
