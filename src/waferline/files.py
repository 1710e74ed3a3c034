"""Writing files: all of a file or nothing of it, whoever else writes the same one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from waferline.errors import FileFormatError, InvalidInputError

_NAME_BYTES = 100  # of the target's name that a temporary one keeps; a whole name may leave no room for more


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A new file of our own beside `path`, to be written in the block; it takes the place of `path` when the block is done.

    Until then `path` stays as it was, and it does so when the block fails. What is no regular file (`/dev/stdout`) is
    written itself. Raises: FileFormatError naming `path` when it cannot be written.
    """
    target = _path(path)
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with _heard(target):
                yield target
            return
        try:
            real = target.resolve()
        except RuntimeError:  # Python 3.11 and 3.12 say so of links that lead to each other
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        with _beside(real) as own:
            yield own
    except OSError as error:
        raise FileFormatError(f"cannot be written: {error.strerror or error}", where=str(path)) from None


@contextmanager
def _heard(target: Path) -> Iterator[None]:
    """Raises: OSError for a pipe that nobody reads, which would be waited for without end."""
    held = os.open(target, os.O_WRONLY | os.O_NONBLOCK) if target.is_fifo() else None
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def check_parquet(path: str | Path | None) -> None:
    """Raises: InvalidInputError where the name says another kind of table than the one that is written."""
    name = Path(path or "").name
    if Path(name).suffix not in ("", ".parquet", ".pq"):
        raise InvalidInputError(
            f"'{name}' is no name of a Parquet table, which is what is written", hint=f"{Path(name).stem}.parquet"
        )


def _path(path: str | Path) -> Path:
    if not str(path) or "\0" in str(path):
        raise FileFormatError("cannot be written: no such path", where=str(path))
    return Path(path)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    if target.is_dir():
        raise IsADirectoryError(21, "is a folder")
    prefix = "." + os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES]) + "."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".partial", dir=target.parent)
    own = Path(name)
    try:
        os.fchmod(handle, _mode(target))
        yield own
        with own.open("rb") as written:
            os.fsync(written.fileno())
        own.replace(target)
    finally:
        os.close(handle)
        own.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or what a new file gets."""
    with suppress(OSError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, all of it or nothing. Raises: FileFormatError."""
    with replacing(path) as own:
        own.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Nobody else is in such a block for the file `path` meanwhile; the lock ends with its process, however it ends.

    Raises: InvalidInputError when somebody is, FileFormatError when no such file can be made.
    """
    import fcntl

    target = _path(path).absolute()
    lock = target.parent / f".{target.name[:_NAME_BYTES]}.lock"
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "is a folder")
        handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise FileFormatError(f"cannot be written: {error.strerror}", where=str(path)) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not lock.exists() or os.fstat(handle).st_ino != lock.stat().st_ino:  # its owner has just removed it
            raise BlockingIOError
    except BlockingIOError:
        os.close(handle)
        raise InvalidInputError(
            "another process is writing it", where=str(path), hint="wait, or name another"
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of bytes, all of it or nothing. Raises: FileFormatError."""
    with replacing(path) as own:
        own.write_bytes(data)
