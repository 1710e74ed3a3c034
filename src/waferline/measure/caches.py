"""The cache levels of this processor, as the operating system lists them."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

_LINUX = Path("/sys/devices/system/cpu/cpu0/cache")
_SUFFIXES = {"K": 2**10, "M": 2**20, "G": 2**30}
_MAC = (("L1", "hw.perflevel0.l1dcachesize"), ("L2", "hw.perflevel0.l2cachesize"))


@dataclass(frozen=True, slots=True)
class Cache:
    """One level: bytes of one instance, and how many of this process's cores share one."""

    name: str
    bytes: int
    shared_by: int

    def total_bytes(self, cores: int) -> int:
        """Bytes of all the instances that `cores` cores have."""
        return self.bytes * -(-cores // self.shared_by)


def caches() -> tuple[Cache, ...]:
    """Data caches, nearest first; empty where the system does not say."""
    return _mac() if platform.system() == "Darwin" else _linux()


def _linux() -> tuple[Cache, ...]:
    found: dict[int, Cache] = {}
    for folder in sorted(_LINUX.glob("index[0-9]*")):
        try:
            kind, level, size, shared = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind != "Instruction":
            found[int(level)] = Cache(f"L{level}", _bytes(size), _count(shared))
    return tuple(found[level] for level in sorted(found) if found[level].bytes)


def _mac() -> tuple[Cache, ...]:
    sizes = [(name, _sysctl(key)) for name, key in _MAC]
    shared = {"L1": 1, "L2": max(1, _sysctl("hw.perflevel0.cpusperl2"))}
    return tuple(Cache(name, size, shared[name]) for name, size in sizes if size)


def _sysctl(key: str) -> int:
    try:
        text = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(text) if text.strip().isdigit() else 0


def _bytes(text: str) -> int:
    """`48K` as a number."""
    return int(text[:-1]) * _SUFFIXES[text[-1]] if text and text[-1] in _SUFFIXES else int(text or 0)


def _count(cpu_list: str) -> int:
    """How many CPUs `0-3,8` names."""
    total = 0
    for part in cpu_list.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total
