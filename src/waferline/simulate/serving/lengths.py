"""Numbers that are drawn: lengths in tokens and pauses in seconds, from a text such as `lognormal:1024,cv=1`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.errors import InvalidInputError, unknown

MOST_TOKENS = 10_000_000  # of one request
NO_PAUSE = ("0", "0.0")


def _lognormal(random: np.random.Generator, n: int, mean: float, cv: float) -> FloatArray:
    spread = np.log1p(cv**2)
    return random.lognormal(np.log(mean) - spread / 2.0, np.sqrt(spread), n)


# Distribution → (what its numbers are called, with defaults; how it is drawn)
_DRAWN: Mapping[str, tuple[Mapping[str, float | None], Callable[..., FloatArray]]] = {
    "constant": ({"mean": None}, lambda random, n, mean: np.full(n, mean)),
    "lognormal": ({"mean": None, "cv": 1.0}, _lognormal),
    "exponential": ({"mean": None}, lambda random, n, mean: random.exponential(mean, n)),
    "normal": ({"mean": None, "cv": 0.25}, lambda random, n, mean, cv: random.normal(mean, cv * mean, n)),
    "uniform": ({"low": None, "high": None}, lambda random, n, low, high: random.uniform(low, high, n)),
}
_SPEC = re.compile(r"(?:([a-z]+):)?([^:]*)")


def lengths(spec: str | int, n: int, random: np.random.Generator, what: str) -> AnyArray:
    """`n` lengths in tokens, each at least 1: `1024`, `lognormal:1024,cv=1`, `uniform:100,2000`, `exponential:300`,
    `normal:512,cv=0.2`; each with a longest one, where longer ones are cut: `lognormal:1024,cv=1,most=512`.

    Raises: InvalidInputError or UnknownNameError that name what is wrong in `spec`.
    """
    name, numbers = parsed(spec, f"{what} length")
    if name == "uniform":
        numbers["high"] += 1.0  # whole numbers, both ends among them
    most = numbers.pop("most")
    drawn: Any = _DRAWN[name][1](random, n, **numbers)
    return np.clip(np.floor(drawn + (0.0 if name == "uniform" else 0.5)), 1, max(most, 1.0)).astype(np.int64)


def pauses(spec: str | float, n: int, random: np.random.Generator) -> FloatArray:
    """`n` pauses in seconds, from the same texts; `0` is none."""
    if str(spec).strip() in NO_PAUSE:
        return np.zeros(n)
    name, numbers = parsed(spec, "think time")
    most = numbers.pop("most")
    drawn: FloatArray = _DRAWN[name][1](random, n, **numbers)
    return np.clip(drawn, 0.0, most)


def parsed(spec: str | float, what: str) -> tuple[str, dict[str, float]]:
    """The distribution that a text names, and its numbers."""
    match = _SPEC.fullmatch(str(spec).strip())
    name = match[1] or "constant" if match else ""
    if match is None or name not in _DRAWN:
        raise unknown(f"distribution of {what}s", name or str(spec), _DRAWN)
    names, found = {**_DRAWN[name][0], "most": float(MOST_TOKENS)}, {}
    for place, part in enumerate(p.strip() for p in match[2].split(",")):
        key, _, text = part.rpartition("=")
        key = key.strip() or list(names)[min(place, len(names) - 1)]
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if key not in names or key in found or not 0.0 < value <= MOST_TOKENS:
            raise InvalidInputError(f"{what} '{spec}': '{part}' is not one of {', '.join(names)} above 0")
        found[key] = value
    numbers = {key: found.get(key, usual) for key, usual in names.items()}
    missing = [key for key, value in numbers.items() if value is None]
    if missing:
        raise InvalidInputError(f"{what} '{spec}' lacks {missing[0]}")
    return name, {key: value for key, value in numbers.items() if value is not None}
