"""Remembering what follows from a record: answers by identity of the arguments, for records that hold mappings and do not hash."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Answer = TypeVar("Answer")
_PLAIN = (str, float, int, bool)  # these count by value
_MOST = 4096  # answers kept for one function before it forgets them all


def by_identity(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """`function`, asked once for each set of positional arguments; those that do not hash count by identity.

    The arguments are kept with the answer, so an identity is never that of another record.
    """
    known: dict[tuple[Any, ...], tuple[tuple[Any, ...], Answer]] = {}

    @wraps(function)
    def remembered(*arguments: Any) -> Answer:
        key = tuple([(a,) if type(a) in _PLAIN else id(a) for a in arguments])
        found = known.get(key)
        if found is not None:
            return found[1]
        answer = function(*arguments)
        if len(known) >= _MOST:
            known.clear()
        known[key] = (arguments, answer)
        return answer

    return remembered
