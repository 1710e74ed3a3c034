"""Forgiving names: `H100`, `llama3-8b`, `Llama 3 8B` and `org/Llama-3-8B` find what they mean, or the nearest ones.

Case, spaces, `-`, `_`, `.` and `/` do not matter, but something must part two numbers: `opt-1.3b` is not `opt-13b`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from waferline.errors import InvalidInputError, unknown

_NOT_A_SLUG = re.compile(r"[^a-z0-9.+]+")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[^a-z0-9+]+(?=\d)")
_NOT_SPOKEN = re.compile(r"[^a-z0-9:]")
_NOT_COMPACT = re.compile(r"[^a-z0-9]")
_SPELLINGS = 16384  # remembered: every name of the catalogue is compared with every name asked
_NOT_AN_IDENTIFIER = re.compile(r"\W+")


@lru_cache(maxsize=_SPELLINGS)
def compact(name: str) -> str:
    """The letters and digits of a name, lower case; `+` counts as `plus` (8592+ is 8592plus)."""
    return _NOT_COMPACT.sub("", name.lower().replace("+", "plus"))


@lru_cache(maxsize=_SPELLINGS)
def spoken(name: str) -> str:
    """As `compact`, with a `:` wherever two numbers are parted: `opt-1.3b` and `OPT_1_3B` are `opt1:3b`."""
    return _NOT_SPOKEN.sub("", _BETWEEN_DIGITS.sub(":", name.lower().replace(":", "-")).replace("+", "plus"))


def slug(text: str) -> str:
    """`text` as a catalogue name: lower-case words of letters, digits, `.` and `+`, joined by `-`."""
    return _NOT_A_SLUG.sub("-", text.strip().lower()).strip("-")


def identifier(text: str) -> str:
    """`text` as a Python attribute name (`Qwen2.5 7B` → `Qwen2_5_7B`); an underscore leads where a digit would."""
    name = _NOT_AN_IDENTIFIER.sub("_", text).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


def resolve(name: str, names: Iterable[str], aliases: Mapping[str, str], what: str) -> str:
    """The catalogue name that `name` means.

    `names` are the catalogue names, `aliases` maps other spellings to them; names win over aliases.
    A leading `owner/` (as on a model hub) is dropped when the whole text finds nothing.
    Raises: UnknownNameError naming the nearest valid ones; InvalidInputError for what is no text.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"a {what} name is text, not {type(name).__name__} {name!r}")
    names = list(names)
    if name in names:  # what most callers say
        return name
    targets = {**aliases, **{known: known for known in names}}
    for text in (name, name.rsplit("/", 1)[-1]):
        for form in (spoken, compact):
            found = {target for known, target in targets.items() if form(known) == form(text)}
            if form(text) and len(found) == 1:
                return found.pop()
    raise unknown(what, name, {*names, *aliases}, meant=targets)
