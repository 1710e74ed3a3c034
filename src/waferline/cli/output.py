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

from waferline.report.table import Block, block_lines
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
    for line, style in block_lines(blocks, width):
        print(f"\x1b[{_STYLES[style]}m{line}\x1b[0m" if line and style and styled else line, file=stream)


Advance = Callable[..., None]


FIRST_S, SLOWER = 2.0, 0.1  # in a pipe: a line after so long, then after so much of the time that has passed


@contextmanager
def progress(what: str, total: float | None = None, *, hidden: bool = False) -> Iterator[Advance]:
    """How far a long work is, on the error stream: a bar with its rate on a terminal; in a pipe a line whenever nothing was said
    for two seconds, later for longer, so that no long work is silent and no log is full of it.

    `advance(n, description=...)` moves it; `advance(completed=..., total=...)` sets it outright.
    """
    if hidden:
        yield lambda *_, **__: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        with _lines(what, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, total: float | None) -> Iterator[Advance]:
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


@contextmanager
def _lines(what: str, total: float | None) -> Iterator[Advance]:
    started, ended = time.monotonic(), threading.Event()
    now: dict[str, Any] = {"description": what, "completed": 0.0, "total": total}

    def advance(by: float | None = None, **changes: Any) -> None:
        now["completed"] += by or 0.0
        now.update(changes)

    def heartbeat() -> None:
        while not ended.wait(max(FIRST_S, SLOWER * (time.monotonic() - started))):
            far = f": {now['completed']:,.0f} of {now['total']:,.0f}" if now["total"] else ""
            warn(f"{now['description']}{far} ({time.monotonic() - started:.0f} s)")

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()


@contextmanager
def telling(doing: str) -> Iterator[Callable[[str], None]]:
    """As `progress`, of a work without a total: `tell(what)` says what is being done now."""
    with progress(doing) as advance:
        yield lambda what: advance(description=f"{doing} {what}")


def warn(message: str) -> None:
    """One line on the error stream that is no error."""
    with suppress(OSError):  # nobody listens
        print(f"waferline: {one_line(message)}", file=sys.stderr, flush=True)
