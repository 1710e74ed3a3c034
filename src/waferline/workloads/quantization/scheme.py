"""What a checkpoint says of its formats: a default for matrices, rules for some, and the KV cache it was calibrated for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from reprlib import repr as shown

from waferline.errors import InvalidInputError

_LONGEST_PATTERN = 2000
_GLOB = frozenset("*?[")
_REGEX = frozenset("*+?^$()[]{}|\\")


@dataclass(frozen=True, slots=True)
class Storage:
    """How a matrix is kept, and the format of the activations it is multiplied with (None: 16 bits)."""

    weights: str
    activations: str | None = None


WIDE = Storage("bf16")  # not quantised


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules that `names` match (a test of one module's names) are kept as `storage`. `text` is the pattern as given.

    layered: the test looks at the number of the layer, so each has to be asked.
    """

    text: str
    names: Callable[[Sequence[str]], bool]
    storage: Storage
    layered: bool = True


@dataclass(frozen=True, slots=True)
class Scheme:
    """The formats of one checkpoint. The first rule that matches a module counts, else `default`.

    head, embedding: where no rule names them. kv: format of the KV cache. notes: what was assumed.
    """

    method: str
    default: Storage
    rules: tuple[Rule, ...] = ()
    head: Storage = WIDE
    embedding: Storage = WIDE
    kv: str | None = None
    notes: tuple[str, ...] = ()


def named(patterns: Iterable[str], storage: Storage, where: str) -> Iterable[Rule]:
    """Rules for module names as lists of modules spell them: full names, parts of one, `*` globs, and `re:` regexes."""
    exact: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("re:"):
            yield regex(pattern.removeprefix("re:"), storage, where)
        elif _GLOB & set(pattern):
            yield _glob(pattern, storage)
        elif any(part.isdigit() for part in pattern.split(".")):
            exact.add(pattern.strip("."))
        else:
            yield _part(pattern.strip("."), storage)
    if exact:
        yield Rule(f"{len(exact)} modules", lambda names: any(_ancestors(n) & exact for n in names), storage)


def regex(pattern: str, storage: Storage, where: str, *, anywhere: bool = False) -> Rule:
    """A rule of a regular expression that matches from the start of a module's name (or anywhere in it).

    Raises: InvalidInputError for what is no regular expression.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise InvalidInputError(f"a pattern of {len(pattern)} characters", where=where)
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInputError(f"{shown(pattern)} is no regular expression: {error}", where=where) from None
    match = compiled.search if anywhere else compiled.match
    return Rule(pattern, lambda names: any(match(n) for n in names), storage, _numbered(pattern))


def is_regex(text: str) -> bool:
    """Whether a module's name is spelt as a regular expression."""
    return bool(_REGEX & set(text))


def _glob(pattern: str, storage: Storage) -> Rule:
    """`*` globs match a whole name, the start of one (`layers.0.*`) or a run of its parts (`layers.*.self_attn`)."""
    ends = (pattern, f"{pattern}.*", f"*.{pattern}", f"*.{pattern}.*")
    return Rule(pattern, lambda names: any(fnmatchcase(n, p) for n in names for p in ends), storage, _numbered(pattern))


def _part(pattern: str, storage: Storage) -> Rule:
    """A name without the number of a layer: `lm_head`, `mlp.gate`, `self_attn`."""
    inner = f".{pattern}."
    return Rule(pattern, lambda names: any(inner in f".{n}." for n in names), storage, layered=False)


def _numbered(pattern: str) -> bool:
    return any(c.isdigit() for c in pattern) or "\\d" in pattern


def _ancestors(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
