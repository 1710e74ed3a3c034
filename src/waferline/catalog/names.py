"""Forgiving names: `H100`, `llama3-8b`, `Llama 3 8B` and `org/Llama-3-8B` find what they mean, or the nearest ones.

Two names are the same when their `key` is: lower-case letters and digits; spaces, `-`, `_`, `.` and `/` never matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from waferline.errors import InvalidInputError, unknown

_NOT_A_SLUG = re.compile(r"[^a-z0-9.+]+")
_NOT_A_KEY = re.compile(r"[^a-z0-9+]+")
_NOT_AN_IDENTIFIER = re.compile(r"\W+")


def slug(text: str) -> str:
    """`text` as a catalogue name: lower case words of letters, digits, `.` and `+`, joined by `-`."""
    return _NOT_A_SLUG.sub("-", text.strip().lower()).strip("-")


def key(text: str) -> str:
    """What two spellings of one name have in common: lower-case letters, digits and `+`."""
    return _NOT_A_KEY.sub("", text.lower())


def identifier(text: str) -> str:
    """`text` as a Python attribute name (`Qwen2.5 7B` → `Qwen2_5_7B`); an underscore leads where a digit would."""
    name = _NOT_AN_IDENTIFIER.sub("_", text).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


def resolve(name: str, names: Iterable[str], aliases: Mapping[str, str], what: str) -> str:
    """The catalogue name that `name` means.

    `names` are the catalogue names, `aliases` maps other spellings to them; both are compared by `key`, names first.
    A leading `owner/` (as on a model hub) is dropped when the whole text finds nothing.
    Raises `UnknownNameError` naming the nearest valid ones, `InvalidInputError` for what is no text.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"a {what} name is text, not {type(name).__name__} {name!r}")
    names = list(names)
    table = {key(alias): target for alias, target in aliases.items()} | {key(known): known for known in names}
    for text in (name, name.rsplit("/", 1)[-1]):
        found = table.get(key(text))
        if found is not None:
            return found
    raise unknown(what, name, {*names, *aliases})
