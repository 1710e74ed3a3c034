"""What is written when the disk fails: the n-th open, the n-th rename, the disk full after so many bytes, for every n and writer.

A writer is a command with an option that names a file to write, so that a new one is under the test without a line here. An
audit hook of the interpreter fails the call itself; a limit of the operating system fills the disk. Either way what was there
before is there still or the new file is whole, the command ends by the contract, and nothing else is left behind.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz.commands import LASTING, lines
from benchmarks.fuzz.contract import Ending, breach, run

OLD = b"what was here before\n"
_ENDINGS = {"--out": "parquet", "--output": "csv", "--plot": "html", "--profile-out": "yaml", "--store": "jsonl"}
_ELSEWHERE = (
    "generate",
    "quantize",
    "plan",
    "measure server",
    "measure export",
)  # said below, or no writer of their own
_EXPORT = ("measure", "export", "--store", "store.jsonl", "--output", "target.csv")
_APPENDS = ("--store",)  # to what is there
_QUANTIZES = (
    ("tensors.safetensors", "target.gguf", "q8_0"),
    ("tensors.safetensors", "target.safetensors", "bf16"),
    ("model.gguf", "target.gguf", "q8_0"),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_COMPILES_S = 300.0  # of a processor, the first time
_SIZES = (0, 1, 100)  # bytes that fit on the disk, beside shares of what a whole file takes
_SHARES = (0.25, 0.5, 0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Writer:
    words: tuple[str, ...]
    args: tuple[str, ...]
    target: str
    appends: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: open, rename or full; at: which of them fails, or the bytes that fit."""

    kind: str
    at: int


class _Disk:
    """The one audit hook: counts what a command does to files of a folder, and fails what it is told to."""

    def __init__(self) -> None:
        self.folder, self.fault = "", Fault("", 0)
        self.seen = {"open": 0, "rename": 0}
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.folder or event not in ("open", "os.rename"):
            return
        if event == "open" and (not isinstance(args[2], int) or not args[2] & _WRITES):
            return
        place = args[0] if event == "open" else args[1]
        if not isinstance(place, str | bytes | os.PathLike):
            return
        if not str(Path(os.fsdecode(place)).absolute()).startswith(self.folder):
            return
        kind = "open" if event == "open" else "rename"
        self.seen[kind] += 1
        if self.fault == Fault(kind, self.seen[kind]):
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsdecode(place))


_disks: list[_Disk] = []


@contextmanager
def broken(folder: Path, fault: Fault) -> Iterator[dict[str, int]]:
    """In the block the disk that holds `folder` fails once; what was done to it is counted."""
    if not _disks:
        _disks.append(_Disk())
    disk, limits = _disks[0], resource.getrlimit(resource.RLIMIT_FSIZE)
    disk.seen.update(open=0, rename=0)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if fault.kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.at, limits[1]))
    disk.fault, disk.folder = fault, str(folder)
    try:
        yield disk.seen
    finally:
        disk.folder = ""
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def writers() -> list[Writer]:
    """Every command with every option that names a file to write."""
    found: list[Writer] = []
    for line in lines():
        if line.words in {writer.words for writer in found} or " ".join(line.words) in (*LASTING, *_ELSEWHERE):
            continue
        for option in line.options:
            name = option.opts[0]
            if name in _ENDINGS and option.type_descriptor.annotation is Path:
                target, args = f"target.{_ENDINGS[name]}", [*line.args]
                if name in args:
                    del args[args.index(name) : args.index(name) + 2]
                found.append(Writer(line.words, (*args, name, target), target, name in _APPENDS))
    for source, target, fmt in _QUANTIZES:
        args = ["quantize", source, "-o", target, "--format", fmt, "--force"]
        found.append(Writer(("quantize",), tuple(args), target))
    found.append(Writer(("measure", "export"), _EXPORT, "target.csv"))
    return found


def tried(writer: Writer, place: Path) -> Iterator[tuple[Fault, str | None, Ending]]:
    """Every fault of a writer, and what it breaks. place: a folder that `places.make` filled, where the process works."""
    target = place / writer.target
    ending, done, good = _whole(writer, place)
    if ending.code == 2 and f"{writer.args[-2]}:" in ending.err:  # nothing to write there
        return
    if ending.code != 0 or good is None:
        yield Fault("none", 0), f"a writer that works does not: {ending.err}", ending
        return
    faults = [Fault(kind, n) for kind, most in done.items() for n in range(1, most + 1)]
    faults += [Fault("full", n) for n in sorted({*_SIZES, *(int(len(good) * share) for share in _SHARES)})]
    again = _whole(writer, place)[2]
    for fault in faults:
        _reset(writer, place)
        before = _names(place)
        with broken(place, fault):
            ending = run(writer.args)
        yield fault, _wrong(writer, place, ending, before, good if again == good else None), ending
    for path in place.glob(f".{target.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _whole(writer: Writer, place: Path) -> tuple[Ending, dict[str, int], bytes | None]:
    _reset(writer, place)
    with broken(place, Fault("none", 0)) as seen:
        ending = run(writer.args, most_s=_COMPILES_S)
    target = place / writer.target
    return ending, dict(seen), target.read_bytes() if target.is_file() else None


def _reset(writer: Writer, place: Path) -> None:
    for path in place.glob(f".{writer.target}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    target = place / writer.target
    target.unlink(missing_ok=True)
    if not writer.appends:
        target.write_bytes(OLD)


def _names(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def _wrong(writer: Writer, place: Path, ending: Ending, before: set[str], good: bytes | None) -> str | None:
    target = place / writer.target
    content = target.read_bytes() if target.is_file() else None
    if breach(ending) is not None:
        return breach(ending)
    if writer.appends:
        return None if ending.out else "the measurement is lost"
    if content == OLD:
        return _left(place, before, writer) if ending.code != 0 else "exit code 0, and nothing was written"
    if content is None:
        return "what was there before is gone"
    if good is not None and content != good:
        return "half a file"
    return _left(place, before, writer)


def _left(place: Path, before: Sequence[str] | set[str], writer: Writer) -> str | None:
    """Files that nobody asked for; the parts of a sweep that was stopped are asked for, to go on from."""
    more = _names(place) - set(before) - {writer.target}
    more = {name for name in more if not name.endswith(".part")}
    return f"left behind: {', '.join(sorted(more))[:120]}" if more else None
