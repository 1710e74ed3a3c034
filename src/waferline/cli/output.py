"""What commands print: tables and lines for people, JSON for programs, a bar on standard error meanwhile."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from waferline.report.table import Table, wrapped

_STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "header": {"dim": True},
    "note": {"dim": True},
    "alarm": {"bold": True, "fg": "red"},
}
Line = tuple[str, str]  # a text and its style
Block = Table | str | Line


def emit(as_json: bool, data: Any, blocks: Callable[[], Iterable[Block]]) -> None:
    """The answer of a command: `data` with --json, else its `blocks`."""
    if as_json:
        from waferline.encode import dumps

        typer.echo(dumps(data))
    else:
        show(blocks())


def show(blocks: Iterable[Block]) -> None:
    """Print tables, each with a blank line after it, and lines between them."""
    width = shutil.get_terminal_size().columns
    for block in blocks:
        if isinstance(block, Table):
            lines: Iterable[Line] = [*block.lines(width), ("", "")]
        else:
            text, style = (block, "") if isinstance(block, str) else block
            lines = [(line, style) for line in wrapped(text, width)]
        for line, style in lines:
            typer.echo(typer.style(line, **_STYLES[style]) if style else line)


Advance = Callable[..., None]


@contextmanager
def progress(what: str, total: float | None = None, *, hidden: bool = False) -> Iterator[Advance]:
    """A bar on the error stream of a terminal, and nothing in a pipe; `advance(n, description=...)` moves it.

    `advance(completed=..., total=...)` sets it outright.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda *_, **__: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance(by: float | None = None, **changes: Any) -> None:
            if "description" in changes:
                changes["description"] = escape(str(changes["description"]))
            bar.update(task, advance=by, **changes)

        yield advance
