"""What a checkpoint says of its formats: a default for matrices, rules for some, and the KV cache it was calibrated for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from reprlib import repr as shown

from waferline.errors import InvalidInputError

_LONGEST_PATTERN = 2000
_GLOB = frozenset("*?")
_REGEX = frozenset("*+?^$()[]{}|\\")


@dataclass(frozen=True, slots=True)
class Storage:
    """How a matrix is kept, and the format of the activations it is multiplied with (None: 16 bits)."""

    weights: str
    activations: str | None = None


WIDE = Storage("bf16")  # not quantised


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules that `names` match are kept as `storage`. `text` is the pattern as given.

    names: a test of all names that one module may have, as `spelt` makes one text of them.
    layered: the test looks at the number of the layer, so each has to be asked, or layer `only` where it names one.
    """

    text: str
    names: Callable[[str], bool]
    storage: Storage
    layered: bool = True
    only: int | None = None

    def among(self, layers: Sequence[int]) -> list[int]:
        """The layers that have to be asked."""
        return [i for i in layers if self.only in (None, i)]


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


def spelt(names: Iterable[str]) -> str:
    """Names as one text, a line each, with a dot before and after: rules look through all of them at once."""
    return "\n".join(f".{name}." for name in names)


def _each(names: str) -> list[str]:
    return names[1:-1].split(".\n.")


def named(patterns: Iterable[str], storage: Storage, where: str) -> Iterator[Rule]:
    """Rules for module names as lists of modules spell them: full names, parts of one, `*` globs, and `re:` regexes."""
    exact: dict[int, set[str]] = {}
    for pattern in patterns:
        numbers = [int(part) for part in pattern.split(".") if part.isdecimal() and len(part) < 6]
        if pattern.startswith("re:"):
            yield regex(pattern.removeprefix("re:"), storage, where)
        elif _GLOB & set(pattern):
            yield _glob(pattern, storage, numbers[0] if numbers else None)
        elif numbers:
            exact.setdefault(numbers[0], set()).add(pattern.strip("."))
        else:
            yield _part(pattern.strip("."), storage)
    for layer, modules in exact.items():
        yield Rule(f"{len(modules)} modules", _exactly(modules), storage, only=layer)


def _exactly(modules: set[str]) -> Callable[[str], bool]:
    return lambda names: any(f".{module}." in names and _leads(module, names) for module in modules)


def _leads(module: str, names: str) -> bool:
    """Whether a name is that of `module`, or of one within it."""
    return names.startswith(f".{module}.") or f"\n.{module}." in names


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
    return Rule(pattern, lambda names: any(match(n) for n in _each(names)), storage, _numbered(pattern))


def is_regex(text: str) -> bool:
    """Whether a module's name is spelt as a regular expression."""
    return bool(_REGEX & set(text))


def _glob(pattern: str, storage: Storage, only: int | None) -> Rule:
    """`*` globs match a whole name, the start of one (`layers.0.*`) or a run of its parts (`layers.*.self_attn`)."""
    inner = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    compiled = re.compile(rf"^\.(?:.*\.)?{inner}\.(?:.*\.)?$", re.MULTILINE)
    return Rule(pattern, lambda names: bool(compiled.search(names)), storage, _numbered(pattern), only)


def _part(pattern: str, storage: Storage) -> Rule:
    """A name without the number of a layer: `lm_head`, `mlp.gate`, `self_attn`."""
    return Rule(pattern, lambda names: f".{pattern}." in names, storage, layered=False)


def _numbered(pattern: str) -> bool:
    return any(c.isdigit() for c in pattern) or "\\d" in pattern
