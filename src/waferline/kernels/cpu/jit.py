"""Compile kernels once and keep them: `numba.njit` with a disk cache that a changed kernel can never hit by mistake.

Numba's cache key holds the function and the target, but not the modules the function calls. The directory therefore
carries a hash of the kernel sources and the instruction set; editing any of them starts a fresh one. Numba believes what
lies in its files; here each begins with a checksum, and one that does not fit is compiled and written anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import config
from numba.core.caching import IndexDataCacheFile

from waferline.kernels.cpu.isa import current_isa

# Reductions may be reordered and contracted; NaN and infinity keep their meaning (no `nnan`, no `ninf`).
FAST: frozenset[str] = frozenset({"nsz", "contract", "reassoc", "arcp"})

_log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size
_HERE = Path(__file__).parent
# What compiled code is made of besides its own file, whose age Numba checks itself.
_SOURCES = (*sorted(_HERE.glob("*.py")), _HERE.parent / "runner" / "decode.py", _HERE.parent / "runner" / "weights.py")


@cache
def cache_directory() -> Path:
    """Where compiled kernels are kept: `$NUMBA_CACHE_DIR`, else the user's cache folder, else a temporary one."""
    digest = hashlib.sha256(f"{numba.__version__} {current_isa().name}".encode())
    for source in _SOURCES:
        digest.update(source.name.encode() + source.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    folder = Path(base) / "waferline" / "kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _log.warning("%s cannot be written (%s): kernels are compiled anew, about a minute", folder, error.strerror)
        folder = Path(tempfile.mkdtemp(prefix="waferline-kernels-"))
    return folder


@cache  # once a process, however many files it is about
def _say(message: str) -> None:
    _log.warning("%s: %s", cache_directory(), message)


class _CheckedFile(IndexDataCacheFile):
    """Numba's files of one function, a checksum in front of each: what is damaged counts as not there."""

    def _dump(self, obj: Any) -> bytes:
        data = super()._dump(obj)
        return hashlib.sha256(data).digest() + data

    def _checked(self, path: str) -> Any:
        """What a file holds; None when it is missing or damaged."""
        try:
            raw = Path(path).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(raw[_DIGEST:]).digest() != raw[:_DIGEST]:
            _say("kernels kept here are damaged and compiled anew")
            return None
        return pickle.loads(raw[_DIGEST:])

    def _load_index(self) -> dict[Any, str]:
        version, stamp, overloads = self._checked(self._index_path) or (None, None, {})
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        with self._open_for_write(self._index_path) as file:
            file.write(self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        return self._checked(self._data_path(name))

    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, data)
        except OSError as error:  # a full disk costs time at the next start, not this run
            _say(f"compiled kernels cannot be kept ({error.strerror})")


@contextmanager
def _numba_cache_in(folder: Path) -> Iterator[None]:
    # Numba reads the folder when a function is decorated; other people's functions keep their own.
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def jit(function: Callable[..., Any] | None = None, *, parallel: bool = False, fast: bool = False) -> Any:
    """`numba.njit` as every kernel wants it: cached in `cache_directory()`, without the GIL, C division.

    `fast` allows the reordering of sums (`FAST`); NaN and infinity keep IEEE meaning.
    """

    def decorate(f: Callable[..., Any]) -> Any:
        with _numba_cache_in(cache_directory()):
            compiled = numba.njit(
                cache=True, nogil=True, error_model="numpy", parallel=parallel, fastmath=set(FAST) if fast else False
            )(f)
        files = compiled._cache._cache_file
        files.__class__ = _CheckedFile  # same fields, other reading and writing
        return compiled

    return decorate if function is None else decorate(function)


def specialise(template: Callable[..., Any], name: str, *, parallel: bool = False, **names: Any) -> Any:
    """`template` compiled with some of its global names bound to other things, under its own `name`.

    Templates call what they leave open by a name in capitals (`SWEEP`, `PACK`, `ATTEND`, ...), declared as None at the top
    of their module; each copy gets a module's globals of its own in which the name is a kernel. That is how one readable
    loop serves every format and width: a closure could not be cached on disk (its cells are
    hashed, and an intrinsic has a new identity in each process), a copy with other globals can.
    """
    assert isinstance(template, FunctionType)
    copy = FunctionType(template.__code__, {**template.__globals__, **names}, name, template.__defaults__)
    copy.__qualname__ = name
    copy.__module__ = template.__module__
    return jit(copy, parallel=parallel)
