"""What users send: when requests come, how long they are, and what they share. Deterministic by seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.errors import InvalidInputError, unknown
from waferline.simulate.serving.state import Requests, requests_of
from waferline.workloads.scenario import real

MOST_REQUESTS = 20_000_000  # about 2 GB of state
MOST_TOKENS = 10_000_000  # of one request
_LATEST_S = 1e12  # an arrival: thirty thousand years
ARRIVALS = ("poisson", "gamma", "constant", "burst", "closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests and when they come.

    rate_per_s: requests a second of an open load; `arrival` says how they are spread: poisson, gamma (gaps with coefficient of
    variation `cv`) or constant. Without a rate: `burst` (all at once) or `closed` (`clients` that send a request when theirs is
    done, `think_s` later). prompt, output: tokens, as a number or a distribution (see `lengths`). shared: prompt tokens that a
    prefix cache holds from requests before. trace: requests as they were (arrival_s, prompt_tokens, output_tokens), instead of all
    that.
    """

    requests: int = 1000
    rate_per_s: float | None = None
    arrival: str | None = None
    cv: float = 1.0
    clients: int | None = None
    think_s: float = 0.0
    prompt: str | int = 1024
    output: str | int = 256
    shared: int = 0
    seed: int = 0
    trace: Mapping[str, AnyArray] | None = None

    def how(self) -> str:
        """The kind of arrivals. Raises: UnknownNameError, InvalidInputError for parts that contradict each other."""
        usual = "closed" if self.clients is not None else "poisson" if self.rate_per_s is not None else "burst"
        arrival = self.arrival or ("gamma" if usual == "poisson" and self.cv != 1.0 else usual)
        if arrival not in ARRIVALS:
            raise unknown("arrival", str(arrival), ARRIVALS)
        if (arrival in ("poisson", "gamma", "constant")) != (self.rate_per_s is not None):
            raise InvalidInputError(f"{arrival} arrivals {'need' if self.rate_per_s is None else 'read no'} rate")
        if (arrival == "closed") != (self.clients is not None):
            raise InvalidInputError(f"{arrival} arrivals {'need' if self.clients is None else 'read no'} clients")
        return arrival

    def checked(self) -> Traffic:
        """Itself. Raises: InvalidInputError for numbers that no load has, and for a trace that is none."""
        for name, least, most, counts in _LIMITS:
            value = getattr(self, name)
            if value is not None or name not in ("rate_per_s", "clients"):
                one_number(name, value, least=least, most=most, counts=counts)
        if self.trace is not None:
            _check_trace(self.trace)
        self.how()
        return self

    def sent(self) -> Requests:
        """The requests, fresh."""
        if self.trace is not None:
            columns = (self.trace[name] for name in ("arrival_s", "prompt_tokens", "output_tokens"))
            return requests_of(*columns, shared=self.trace.get("shared_tokens"))
        random = np.random.default_rng(self.seed)
        n = self.requests
        prompt, output = lengths(self.prompt, n, random, "prompt"), lengths(self.output, n, random, "output")
        arrival, then = np.zeros(n), np.full(n, -1)
        how = self.how()
        if how == "closed":
            assert self.clients is not None
            then[: max(n - self.clients, 0)] = np.arange(self.clients, max(n, self.clients))
            arrival[self.clients :] = self.think_s
        elif how != "burst":
            assert self.rate_per_s is not None
            arrival = np.cumsum(_GAPS[how](random, n, self.cv)) / self.rate_per_s
        return requests_of(arrival, prompt, output, shared=np.minimum(self.shared, prompt - 1), then=then)


# Field, least, most, whether it is whole.
_LIMITS = (
    ("requests", 1, MOST_REQUESTS, True),
    ("rate_per_s", 1e-6, 1e6, False),
    ("cv", 1e-3, 100.0, False),
    ("clients", 1, MOST_REQUESTS, True),
    ("think_s", 0.0, 1e6, False),
    ("shared", 0, MOST_TOKENS, True),
    ("seed", 0, 2**53, True),
)


def one_number(name: str, value: Any, *, least: float, most: float, counts: bool = True) -> Any:
    """A single number between `least` and `most`, whole where it counts. Raises: InvalidInputError."""
    if np.ndim(value):
        raise InvalidInputError(f"{name} must be one number, got several")
    number = real(name, value, least=least, most=most)
    if counts and number != int(number):
        raise InvalidInputError(f"{name} must be a whole number, got {number:g}")
    return int(number) if counts else float(number)


def _check_trace(trace: Mapping[str, AnyArray]) -> None:
    """Raises: InvalidInputError where columns are missing, differ in length or hold what no request has."""
    if not isinstance(trace, Mapping):
        raise InvalidInputError(f"a trace is a mapping of columns, not {type(trace).__name__}")
    sizes = set()
    for name, least in (("arrival_s", 0.0), ("prompt_tokens", 1.0), ("output_tokens", 1.0)):
        if name not in trace:
            raise InvalidInputError(f"the trace has no column '{name}'")
        sizes.add(
            np.shape(
                real(name, np.atleast_1d(trace[name]), least=least, most=_LATEST_S if least == 0.0 else MOST_TOKENS)
            )
        )
    if len(sizes) != 1:
        raise InvalidInputError("the columns of the trace differ in length")


_GAPS: Mapping[str, Callable[[np.random.Generator, int, float], FloatArray]] = {
    "poisson": lambda random, n, cv: random.exponential(1.0, n),
    "gamma": lambda random, n, cv: random.gamma(1.0 / cv**2, cv**2, n),
    "constant": lambda random, n, cv: np.ones(n),
}


def _lognormal(random: np.random.Generator, n: int, mean: float, cv: float) -> FloatArray:
    spread = np.log1p(cv**2)
    return random.lognormal(np.log(mean) - spread / 2.0, np.sqrt(spread), n)


# Distribution → (what its numbers are called, with defaults; how it is drawn)
_DRAWN: Mapping[str, tuple[Mapping[str, float | None], Callable[..., FloatArray]]] = {
    "constant": ({"mean": None}, lambda random, n, mean: np.full(n, mean)),
    "lognormal": ({"mean": None, "cv": 1.0}, _lognormal),
    "exponential": ({"mean": None}, lambda random, n, mean: random.exponential(mean, n)),
    "normal": ({"mean": None, "cv": 0.25}, lambda random, n, mean, cv: random.normal(mean, cv * mean, n)),
    "uniform": ({"low": None, "high": None}, lambda random, n, low, high: random.uniform(low, high + 1.0, n)),
}
_SPEC = re.compile(r"(?:([a-z]+):)?([^:]*)")


def lengths(spec: str | int, n: int, random: np.random.Generator, what: str) -> AnyArray:
    """`n` lengths in tokens, each at least 1: `1024`, `lognormal:1024,cv=1`, `uniform:100,2000`, `exponential:300`,
    `normal:512,cv=0.2`.

    Raises: InvalidInputError or UnknownNameError that name what is wrong in `spec`.
    """
    name, numbers = parsed(spec, what)
    drawn: Any = _DRAWN[name][1](random, n, **numbers)
    return np.clip(np.floor(drawn + (0.0 if name == "uniform" else 0.5)), 1, MOST_TOKENS).astype(np.int64)


def parsed(spec: str | int, what: str) -> tuple[str, dict[str, float]]:
    """The distribution that a text names, and its numbers."""
    match = _SPEC.fullmatch(str(spec).strip())
    name = match[1] or "constant" if match else ""
    if match is None or name not in _DRAWN:
        raise unknown(f"distribution of {what} lengths", name or str(spec), _DRAWN)
    names, found = _DRAWN[name][0], {}
    for place, part in enumerate(p.strip() for p in match[2].split(",")):
        key, _, text = part.rpartition("=")
        key = key.strip() or list(names)[min(place, len(names) - 1)]
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if key not in names or key in found or not 0.0 < value <= MOST_TOKENS:
            raise InvalidInputError(f"{what} length '{spec}': '{part}' is not one of {', '.join(names)} above 0")
        found[key] = value
    numbers = {key: found.get(key, usual) for key, usual in names.items()}
    missing = [key for key, value in numbers.items() if value is None]
    if missing:
        raise InvalidInputError(f"{what} length '{spec}' lacks {missing[0]}")
    return name, {key: value for key, value in numbers.items() if value is not None}


def mean_length(spec: str | int, what: str) -> float:
    """The mean that a distribution is meant to have."""
    name, numbers = parsed(spec, what)
    return (numbers["low"] + numbers["high"]) / 2.0 if name == "uniform" else numbers["mean"]
