"""Compile kernels once and keep them: `numba.njit` with a disk cache that a changed kernel can never hit by mistake.

Numba's cache key holds the function and the target, but not the modules the function calls. The directory therefore
carries a hash of the kernel sources and the instruction set; editing any of them starts a fresh one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import config

from waferline.kernels.cpu.isa import current_isa

# Reductions may be reordered and contracted; NaN and infinity keep their meaning (no `nnan`, no `ninf`).
FAST: frozenset[str] = frozenset({"nsz", "contract", "reassoc", "arcp"})

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
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="waferline-kernels-"))
    return folder


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
            return numba.njit(
                cache=True, nogil=True, error_model="numpy", parallel=parallel, fastmath=set(FAST) if fast else False
            )(f)

    return decorate if function is None else decorate(function)


def specialise(template: Callable[..., Any], name: str, *, parallel: bool = False, **names: Any) -> Any:
    """`template` compiled with some of its global names bound to other things, under its own `name`.

    This is how one readable loop serves every format and width: a closure could not be cached on disk (its cells are
    hashed, and an intrinsic has a new identity in each process), a copy with other globals can.
    """
    assert isinstance(template, FunctionType)
    copy = FunctionType(template.__code__, {**template.__globals__, **names}, name, template.__defaults__)
    copy.__qualname__ = name
    copy.__module__ = template.__module__
    return jit(copy, parallel=parallel)
