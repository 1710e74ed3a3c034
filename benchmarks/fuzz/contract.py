"""What a command line may never break, whatever is typed."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

CODES = (0, 2, 3, 4, 130)
_STOPPED = -1
MOST_S = 20.0  # of a processor, a case; refusals are held to less where they are measured alone
_WAITS = 6  # times as long may pass on a machine that does other things
_MOST_CHARACTERS = 700  # of a line of an error
_BESIDE = re.compile(r"waferline: (.*\(\d+ s\)$|not kept: |http://.*Ctrl-C ends it)")  # long work says how far it is


class TooLong(BaseException):
    """Raised by the clock; nothing catches it but the fuzz itself."""


@dataclass(frozen=True, slots=True)
class Ending:
    args: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def told(self) -> list[str]:
        """Lines of standard error without heartbeats, and without the warning that a store could not be written."""
        return [line for line in self.err.split("\n") if line and not _BESIDE.match(line)]


@contextlib.contextmanager
def clock(seconds: float) -> Iterator[None]:
    """Raise TooLong in the block after `seconds` of work, or many more of waiting, where the clock can (in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TooLong

    clocks = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, ring) for number in clocks.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WAITS * seconds)
    try:
        yield
    finally:
        for timer, number in clocks.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


class _Stream(io.StringIO):
    """A standard stream in memory that takes any character, as the real ones do."""

    def reconfigure(self, **_: Any) -> None: ...


def run(args: Sequence[str], most_s: float = MOST_S) -> Ending:
    """Run one command line in this process. An exception that leaves `cli.run` is the exit code 1 that a shell would see."""
    import uvicorn

    from waferline.cli import run as command

    out, err, started = _Stream(), _Stream(), time.perf_counter()
    serves = mock.patch.object(uvicorn, "run")  # `app` ends where the server would begin
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), serves:
        try:
            with clock(most_s):
                code = command(list(args))
        except TooLong:
            code = _STOPPED
        except BaseException as error:
            code, _ = 1, err.write(f"Traceback: {type(error).__name__}: {error}")
    if "TooLong" in err.getvalue():  # `cli.run` ends everything, this too
        code = _STOPPED
    return Ending(tuple(args), code, out.getvalue(), err.getvalue(), time.perf_counter() - started)


def breach(e: Ending) -> str | None:
    """What of the contract this ending breaks, or None."""
    if e.code == _STOPPED:
        return "over time"
    if e.code not in CODES:
        return f"exit code {e.code}"
    if "this is a bug" in e.err or ("Traceback" in e.err and "--debug" not in e.args):
        return "a bug"
    if "not enough memory" in e.err:
        return "memory"
    if e.code in (2, 4) and "--debug" not in e.args and len(e.told) != 1:
        return f"{len(e.told)} lines"
    if any(len(line) > _MOST_CHARACTERS for line in e.told) and "--debug" not in e.args:
        return "a long line"
    if not all(c.isprintable() or c in "\n\t" for c in e.out + e.err):
        return "a control character"
    return _json_breach(e)


def _json_breach(e: Ending) -> str | None:
    asked = "--json" in e.args and not {"-h", "--help", "--version"} & set(e.args)
    if not asked or (e.code == 0 and not e.out):
        return "no JSON" if asked else None
    try:
        data = json.loads(e.out)
    except ValueError:
        return "no JSON"
    if e.code in (2, 4) and (not isinstance(data, dict) or set(data) != {"error"}):
        return "JSON without an error"
    return None
