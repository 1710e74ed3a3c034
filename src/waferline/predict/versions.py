"""Versions of engines as text, such as `0.11` and `v1`: their first two numbers count."""

from __future__ import annotations

import re

_VERSION = re.compile(r"\s*v?(\d+)(?:\.(\d+))?")


def is_version(text: str) -> bool:
    """Whether a text begins as versions do: `0.11`, `v1`."""
    return _VERSION.match(text) is not None


def earlier(version: str, limit: str) -> bool:
    """Whether a version comes before another; never where it is not a number."""
    numbers, bound = _VERSION.match(version), _VERSION.match(limit)
    if numbers is None or bound is None:
        return False
    return tuple(int(x or 0) for x in numbers.groups()) < tuple(int(x or 0) for x in bound.groups())
