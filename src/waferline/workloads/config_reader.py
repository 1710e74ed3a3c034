"""Reading a model configuration strictly: typed values, sane sizes, misspelt and missing keys named."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from reprlib import repr as shown
from typing import Any, TypeVar

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError

# No published model comes near these; larger values are mistakes and would only waste memory and time.
MAX_SIZE = 10**8
MAX_LAYERS = 10_000
_MAX_KEYS = 5_000
_ENDLESS = 10**300
_DECISIVE = ("tie_word_embeddings",)  # flags that are said also where they are off
_Value = TypeVar("_Value")
_MAX_EDITS = 2  # a key this close to one that was looked for and not found is a misspelling of it


class ConfigReader:
    """A mapping read key by key. It remembers what was asked for, so that `finish` can name misspelt keys.

    A key may be given with aliases (`n_embd` for `hidden_size`): the first present one counts. JSON null is "absent", and
    not even a default stands for it. `defaults`: what the configuration class assumes where the file is silent; `assumed`
    holds what was taken for keys that the file does not have.
    """

    __slots__ = ("_absent", "_alone", "_asked", "_data", "_defaults", "assumed", "where")

    def __init__(self, data: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        if len(data) > _MAX_KEYS:
            raise FileFormatError(f"{len(data)} keys, and no configuration has more than {_MAX_KEYS}", where=where)
        self._data, self._defaults, self.where = data, defaults or {}, where
        self._alone = (
            defaults is not None and not defaults
        )  # of a class without known defaults: the reader's own are said
        self._asked: set[str] = set()
        self._absent: set[str] = set()
        self.assumed: dict[str, Any] = {}

    def get(self, *keys: str) -> Any:
        """The first of `keys` that is present and not null, else the class's default; None when there is neither."""
        self._asked.update(keys)
        for key in keys:
            if self._data.get(key) is not None:
                return self._data[key]
        self._absent.update(key for key in keys if key not in self._data and len(key) > 4)
        if any(key in self._data for key in keys):
            return None
        for key in keys:
            if key in self._defaults:
                self.assumed[key] = self._defaults[key]
                return self._defaults[key]
        return None

    def said(self, *keys: str) -> bool:
        """Whether the file itself holds one of `keys`, null or not."""
        return any(key in self._data for key in keys)

    def need(self, *keys: str) -> Any:
        value = self.get(*keys)
        if value is None:
            self._missing(keys)
        return value

    def size(self, *keys: str, most: int = MAX_SIZE) -> int:
        """A required positive whole number."""
        return self._whole(self.need(*keys), self._present(keys), 1, most)

    def size_or(self, default: int, *keys: str, least: int = 1) -> int:
        """A whole number of at least `least`, or `default` when absent."""
        value = self.get(*keys)
        return self._own(default, keys) if value is None else self._whole(value, self._present(keys), least, MAX_SIZE)

    def optional(self, *keys: str) -> int | None:
        """A positive whole number, or None when absent."""
        value = self.get(*keys)
        return None if value is None else self._whole(value, self._present(keys), 1, MAX_SIZE)

    def flag(self, default: bool, *keys: str) -> bool:
        value = self.get(*keys)
        if value is None:
            return self.assume(keys[0], default) if keys[0] in _DECISIVE else self._own(default, keys)
        if not isinstance(value, bool):
            self._refuse(f"'{self._present(keys)}' must be true or false, not {shown(value)}")
        return value

    def number(self, default: float, *keys: str) -> float:
        value = self.get(*keys)
        if value is None:
            return self._own(default, keys)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            self._refuse(f"'{self._present(keys)}' must be a finite number, not {shown(value)}")
        return float(value)

    def text(self, default: str, *keys: str) -> str:
        value = self.get(*keys)
        if value is None:
            return self._own(default, keys)
        if not isinstance(value, str):
            self._refuse(f"'{self._present(keys)}' must be text, not {shown(value)}")
        return value

    def items(self, *keys: str, length: int | None = None) -> Sequence[Any] | None:
        """A list (of `length` entries), or None when absent."""
        value = self.get(*keys)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            self._refuse(f"'{self._present(keys)}' must be a list, not {shown(value)}")
        if length is not None and len(value) != length:
            self._refuse(f"'{self._present(keys)}' has {len(value)} entries for {length} layers")
        return list(value)

    def kinds(self, known: Collection[str], *keys: str, length: int | None = None) -> Sequence[str] | None:
        """A list of words, each of them `known` to who reads it, or None when absent.

        Raises: UnsupportedError for a word that is not.
        """
        values = self.items(*keys, length=length)
        odd = next((value for value in values or () if value not in known), None)
        if odd is not None:
            kind, key = shown(odd), self._present(keys)
            raise UnsupportedError(
                f"'{key}' has {kind}, which is not read", where=self.where, hint=", ".join(sorted(known))
            )
        return values

    def indices(self, key: str, layers: int) -> set[int] | None:
        """A list of layer numbers below `layers` as a set, or None when absent."""
        values = self.items(key)
        if values is None:
            return None
        return {self._whole(value, key, 0, layers - 1) for value in values}

    def section(self, *keys: str) -> ConfigReader | None:
        """A nested mapping as a `ConfigReader` of its own, or None when absent."""
        value = self.get(*keys)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._refuse(f"'{self._present(keys)}' must be a mapping, not {shown(value)}")
        return ConfigReader(value, f"{self.where}: {self._present(keys)}")

    def layers(self, *keys: str) -> int:
        """The number of layers, a required size."""
        return self.size(*keys, most=MAX_LAYERS)

    def merged(self, more: Mapping[str, Any]) -> ConfigReader:
        """The same section with more keys."""
        return ConfigReader({**self._data, **more}, self.where)

    def names(self) -> list[str]:
        """Every key, as text, that is present and not null."""
        return [str(key) for key, value in self._data.items() if value is not None]

    def unread(self, ignore: Iterable[str] = ()) -> list[str]:
        """Keys that nobody asked for, but those to `ignore`."""
        return sorted(set(self.names()) - self._asked - set(ignore))

    def finish(self, ignore: Iterable[str] = ()) -> None:
        """Refuse keys that look like a misspelling of one that was looked for and not found.

        Other unknown keys pass: a published configuration holds many that say nothing about sizes.
        """
        for key in sorted(str(k) for k in self._data.keys() - self._asked - set(ignore)):
            if key.startswith("_"):  # private keys of the configuration class
                continue
            close = next((known for known in sorted(self._absent) if _edits(key, known)), None)
            if close is not None:
                raise FileFormatError(f"unknown key {shown(key)}", where=self.where, hint=f"did you mean '{close}'?")

    def _own(self, default: _Value, keys: Sequence[str]) -> _Value:
        """The reader's own default, remembered where no class's stands behind it."""
        return self.assume(keys[0], default) if self._alone and default and not self.said(*keys) else default

    def assume(self, key: str, value: _Value) -> _Value:
        """`value`, remembered as what was taken for a key that the file does not have."""
        if not self.said(key):
            self.assumed[key] = value
        return value

    def _present(self, keys: Sequence[str]) -> str:
        found = next((key for key in keys if self._data.get(key) is not None), None)
        return found or next((key for key in keys if key in self._defaults), keys[0])

    def _missing(self, keys: Sequence[str]) -> None:
        self.finish()
        hint = f"also known as {', '.join(keys[1:])}" if len(keys) > 1 else None
        raise FileFormatError(f"missing key '{keys[0]}'", where=self.where, hint=hint)

    def _whole(self, value: Any, key: str, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(f"'{key}' must be a whole number, not {shown(value)}")
        if not _finite(value) or value != int(value):
            self._refuse(f"'{key}' must be a whole number, not {shown(value)}")
        if not least <= value <= most:
            self._refuse(f"'{key}' must be between {least} and {most}, not {shown(value)}")
        return int(value)

    def _refuse(self, message: str) -> None:
        raise InvalidInputError(message, where=self.where)


def _finite(value: float) -> bool:
    """Whether the value is a number that arithmetic can take: not infinite, not NaN, no integer of hundreds of digits."""
    return abs(value) < _ENDLESS if isinstance(value, int) else math.isfinite(value)


def _edits(a: str, b: str) -> bool:
    """Whether at most two insertions, deletions, substitutions or swaps of neighbours turn `a` into `b`."""
    if abs(len(a) - len(b)) > _MAX_EDITS:
        return False
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= _MAX_EDITS
