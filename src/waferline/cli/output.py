"""What commands print: tables and lines for people, JSON for programs, a bar on standard error meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from waferline.report.table import Block, Line, Table, wrapped
from waferline.text import one_line

_STYLES = {"title": "1", "header": "2", "note": "2", "alarm": "1;31"}  # SGR codes: bold, faint, red


def emit(as_json: bool, data: Any, blocks: Callable[[], Iterable[Block]]) -> None:
    """The answer of a command: `data` with --json, else its `blocks`."""
    if as_json:
        from waferline.encode import dumps

        print(dumps(data))
    else:
        show(blocks())


def show(blocks: Iterable[Block], stream: TextIO | None = None) -> None:
    """Print tables, each with a blank line after it, and lines between them."""
    stream = stream or sys.stdout
    width, styled = shutil.get_terminal_size().columns, stream.isatty() and not os.environ.get("NO_COLOR")
    for block in blocks:
        if isinstance(block, Table):
            lines: Iterable[Line] = [*block.lines(width), ("", "")]
        else:
            text, style = (block, "") if isinstance(block, str) else block
            lines = [(line, style) for line in wrapped(text, width)]
        for line, style in lines:
            print(f"\x1b[{_STYLES[style]}m{line}\x1b[0m" if line and style and styled else line, file=stream)


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
        task = bar.add_task(escape(what), total=total)

        def advance(by: float | None = None, **changes: Any) -> None:
            if "description" in changes:
                changes["description"] = escape(str(changes["description"]))
            bar.update(task, advance=by, **changes)

        yield advance


FIRST_S, SLOWER = 2.0, 0.1  # in a pipe: a line after so long, then after so much of the time that has passed


@contextmanager
def telling(doing: str) -> Iterator[Callable[[str], None]]:
    """Says on the error stream what is being done: `tell(what)`. On a terminal on one line that changes; in a pipe a line
    whenever nothing was said for two seconds, later for longer, so that no long work is silent and no log is full of it."""
    if sys.stderr.isatty():
        with progress(doing) as advance:
            yield lambda what: advance(description=f"{doing} {what}")
        return
    started, now, done = time.monotonic(), "", threading.Event()

    def heartbeat() -> None:
        while not done.wait(max(FIRST_S, SLOWER * (time.monotonic() - started))):
            warn(f"{doing} {now} ({time.monotonic() - started:.0f} s)")

    def tell(what: str) -> None:
        nonlocal now
        now = what

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        done.set()
        thread.join()


def warn(message: str) -> None:
    """One line on the error stream that is no error."""
    with suppress(OSError):  # nobody listens
        print(f"waferline: {one_line(message)}", file=sys.stderr, flush=True)
