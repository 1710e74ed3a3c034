"""The packaged facts compiled: what bytecode is to a module, the index is to the YAML files of this folder.

A command reads JSON from `facts.index`, one line a file, and neither parses YAML nor imports a parser. A file that is new or has
another time, size and content than its line is read and compiled on the spot; the index is then written again where that is
allowed. It is built into wheels (`python -m waferline.catalog.index`), and is no part of a checkout.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, replace
from functools import cache

from waferline.catalog import ROOT
from waferline.catalog.text_file import parse_yaml, read_text

INDEX = ROOT / "facts.index"
_ENDING = ".yaml"
_UNPACKING_NS = 60 * 10**9  # an installer writes the files of a wheel within this time of each other


@dataclass(frozen=True, slots=True)
class _Line:
    """A compiled file: `time:size` when it was read, a digest of its text, and its data as JSON.

    In a wheel the time is 0: files that are not newer than the index are as they were shipped.
    """

    stamp: str
    digest: str
    data: str


@cache
def _lines() -> dict[str, _Line]:
    """Path → compiled file, as the index has them; empty when there is none or it cannot be understood."""
    try:
        rows = [line.split("\t", 3) for line in INDEX.read_bytes().decode("ascii").split("\n")[:-1]]
        return {path: _Line(*rest) for path, *rest in rows}
    except (OSError, ValueError, TypeError):
        return {}


@cache
def _newest_shipped_ns() -> int:
    return INDEX.stat().st_mtime_ns + _UNPACKING_NS


@cache
def compiled(folder: str) -> dict[str, str]:
    """File name without ending → its data as JSON text, for every YAML file right in `folder` (`""`: of this one).

    Raises: FileFormatError when a file that is not compiled yet cannot be read.
    """
    lines = _lines()
    within = f"{folder}/" if folder else ""
    with os.scandir(ROOT / folder) as entries:
        files = {within + entry.name: entry for entry in entries if entry.name.endswith(_ENDING)}
    found = {path: _current(path, entry, lines.get(path)) for path, entry in sorted(files.items())}
    before = {path: line for path, line in lines.items() if path.rpartition("/")[0] == folder}
    if found != before:
        for path in before:
            del lines[path]
        lines.update(found)
        _save(lines)
    return {path[len(within) : -len(_ENDING)]: line.data for path, line in found.items()}


def _current(path: str, entry: os.DirEntry[str], known: _Line | None) -> _Line:
    """The line of a file as it is now: the known one when nothing changed, compiled anew when the text did."""
    status = entry.stat()
    stamp = f"{status.st_mtime_ns}:{status.st_size}"
    if known is not None and known.stamp == stamp:
        return known
    if known is not None and known.stamp == f"0:{status.st_size}" and status.st_mtime_ns <= _newest_shipped_ns():
        return known
    from hashlib import blake2b  # rarely needed

    text = read_text(ROOT / path)
    digest = blake2b(text.encode(), digest_size=16).hexdigest()
    if known is not None and known.digest == digest:
        return _Line(stamp, digest, known.data)
    return _Line(stamp, digest, json.dumps(parse_yaml(text, path), default=str))


def _save(lines: dict[str, _Line]) -> None:
    """Write the index whole or not at all; a folder that may not be written stays as it is."""
    text = "".join(f"{path}\t{line.stamp}\t{line.digest}\t{line.data}\n" for path, line in sorted(lines.items()))
    own = INDEX.with_name(f"{INDEX.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        with own.open("x", encoding="ascii") as file:
            file.write(text)
        own.replace(INDEX)


def ship() -> None:
    """Write the index of all files as a wheel holds it.

    Raises: FileFormatError for a file that cannot be read.
    """
    for folder in ("", *(p.name for p in ROOT.iterdir() if any(p.glob(f"*{_ENDING}")))):
        compiled(folder)
    _save({path: replace(line, stamp=f"0:{line.stamp.partition(':')[2]}") for path, line in _lines().items()})


if __name__ == "__main__":
    ship()
