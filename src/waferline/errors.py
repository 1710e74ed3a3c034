"""Every error waferline raises on purpose: what is wrong, where, with which value, and the nearest valid one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from errno import ENOSPC
from typing import ClassVar

from waferline.text import one_line, told

_BUG = "this is a bug in waferline, not in what you typed; please report it to the project with its trace (--debug shows it)"

_MOST_CHARACTERS = 200  # of what was typed that are compared with names


class WaferlineError(Exception):
    """Base of every deliberate error. The text is one line: *what, where, nearest valid*.

    Texts of others in it steer no terminal and do not fill it: control characters are escaped and long values cut.
    `exit_code` is what the command line answers with; `kind` names the error in `--json` output.
    """

    exit_code: ClassVar[int] = 2
    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = one_line(message)
        self.where = None if where is None else one_line(where)
        self.hint = None if hint is None else one_line(hint)
        text = self.message if self.where is None else f"{self.where}: {self.message}"
        super().__init__(text if self.hint is None else f"{text} ({self.hint})")

    def to_json(self) -> dict[str, object]:
        """The error as data, as `--json` prints it under the key `error`."""
        return {
            "kind": self.kind,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class InvalidInputError(WaferlineError, ValueError):
    """A value that no machine or model can have: negative sizes, NaN, fractional batches, impossible shapes."""

    kind = "invalid-input"


class UnknownNameError(WaferlineError, KeyError):
    """A name that is not in the catalogue, a format list or a schema."""

    kind = "unknown-name"

    def __str__(self) -> str:  # KeyError would print the repr
        return Exception.__str__(self)


class FileFormatError(WaferlineError, ValueError):
    """A file that cannot be read or is not what its name promises: malformed, truncated, wrong keys."""

    kind = "file-format"


class UnsupportedError(WaferlineError):
    """A valid request that this machine or model cannot do, such as fp8 arithmetic on an A100."""

    kind = "unsupported"


class DoesNotFitError(WaferlineError):
    """The request needs more memory, cores or routes than the machine has (exit code 3)."""

    exit_code = 3
    kind = "does-not-fit"


class RefusedError(WaferlineError):
    """A measurement was asked for and cannot honestly be made: no device, device lost, wrong result (exit code 4)."""

    exit_code = 4
    kind = "refused"


class BugError(WaferlineError):
    """What nobody foresaw. Its cause is the error itself."""

    kind = "bug"


def typed(error: BaseException) -> WaferlineError:
    """Any error as one of ours: the limits of the machine and of Python in words, the rest as the bug that it is."""
    if isinstance(error, WaferlineError):
        return error
    if isinstance(error, MemoryError):
        return InvalidInputError("not enough memory for what was asked", hint="ask for less at once")
    if isinstance(error, RecursionError):
        return InvalidInputError("the input is nested too deeply")
    if isinstance(error, OverflowError):
        return InvalidInputError(f"a number is too large: {error}")
    if isinstance(error, UnicodeError):
        return FileFormatError(f"text that cannot be read or written: {error}")
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("waferline"):
        return UnsupportedError(f"this needs the Python package '{error.name}', which is not installed")
    if isinstance(error, OSError):
        place = error.filename if error.filename is not None else "standard output" if error.errno == ENOSPC else ""
        return FileFormatError(error.strerror or str(error), where=str(place) or None)
    return BugError(f"{type(error).__name__}: {error}", hint=_BUG)


def nearest(name: str, valid: Iterable[str], n: int = 3) -> list[str]:
    """The `n` valid names closest to `name`, best first; empty when nothing is close.

    Names that hold what was typed come first (`5090`: rtx-5090), then those with the same number (`rtx2080ti`: the
    rtx-2080-ti), for a wrong number is another machine, then those of similar spelling.
    """
    name = name[:_MOST_CHARACTERS]
    typed = _plain(name)
    by_key = {v.lower(): v for v in valid}
    words = [w for w in re.split(r"[^a-z0-9.]+", name.lower()) if w]
    across = len(typed) > 3  # shorter texts are found everywhere
    holding = [k for k in by_key if words and (all(w in k for w in words) or (across and typed in _plain(k)))]
    number = max(re.findall(r"\d{3,}", typed), key=len, default="")
    numbered = [k for k in by_key if number and number in _plain(k)]
    ranked = (*sorted(holding, key=len), *difflib.get_close_matches(name.lower(), numbered, n=n, cutoff=0))
    if not ranked:
        ranked = tuple(difflib.get_close_matches(name.lower(), by_key, n=n, cutoff=0.5))
    return [by_key[k] for k in dict.fromkeys(ranked)][:n]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def unknown(
    what: str, name: str, valid: Iterable[str], *, where: str | None = None, meant: Mapping[str, str] | None = None
) -> UnknownNameError:
    """An `UnknownNameError` that names the nearest valid choices (or some of them when none is near).

    `meant` maps spellings to the name they stand for: that is what is proposed, once.
    """
    valid, name = sorted(valid), name if isinstance(name, str) else told(name)
    close = nearest(name, valid, 3 if meant is None else 12)
    if meant is not None:
        close = list(dict.fromkeys(meant.get(c, c) for c in close))[:3]
    if close:
        hint = "did you mean " + ", ".join(close) + "?"
    elif len(valid) <= 12:
        hint = "valid: " + ", ".join(valid)
    else:
        hint = f"{len(valid)} are known, such as " + ", ".join(valid[:3])
    return UnknownNameError(f"unknown {what} '{name}'", where=where, hint=hint)
