"""What users send: when requests come, how long they are, and what they share. Deterministic by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.errors import InvalidInputError, unknown
from waferline.simulate.serving.lengths import MOST_TOKENS, NO_PAUSE, lengths, pauses
from waferline.simulate.serving.paths import Paths, block_paths, repeated_paths, session_paths
from waferline.simulate.serving.state import MOST_CLASSES, Requests, requests_of
from waferline.workloads.scenario import real

MOST_REQUESTS = 20_000_000  # about 4 GB of state
LATEST_S = 1e12  # an arrival: thirty thousand years
ARRIVALS = ("poisson", "gamma", "weibull", "constant", "burst", "closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A share of the requests (shares are relative), with a class of priority (lower ones go first) and lengths of its own."""

    name: str
    share: float = 1.0
    priority: int = 0
    prompt: str | int | None = None
    output: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests and when they come.

    rate_per_s: requests a second of an open load; `arrival` says how they are spread: poisson, gamma or weibull (gaps with
    coefficient of variation `cv`), or constant. Without a rate: `burst` (all at once) or `closed` (`clients` that send a request
    when theirs is done). prompt, output: tokens, as a number or a distribution (see `lengths`). turns: requests of a conversation,
    each with all before it as its prefix and `prompt` new tokens; `think_s` passes from an answer to the next question. shared:
    tokens that all prompts begin with. distinct: so many different prompts, which come again and again (as load generators send
    them). tenants: who sends them. trace: requests as they were (arrival_s, prompt_tokens,
    output_tokens, block_hashes of `block_tokens`), instead of all that.
    """

    requests: int = 1000
    rate_per_s: float | None = None
    arrival: str | None = None
    cv: float = 1.0
    clients: int | None = None
    think_s: str | float = "0"
    prompt: str | int = 1024
    output: str | int = 256
    turns: str | int = 1
    shared: int = 0
    distinct: int | None = None
    tenants: tuple[Tenant, ...] = ()
    seed: int = 0
    trace: Mapping[str, AnyArray] | None = None

    def how(self) -> str:
        """The kind of arrivals. Raises: UnknownNameError, InvalidInputError for parts that contradict each other."""
        usual = "closed" if self.clients is not None else "poisson" if self.rate_per_s is not None else "burst"
        arrival = self.arrival or ("gamma" if usual == "poisson" and self.cv != 1.0 else usual)
        if arrival not in ARRIVALS:
            raise unknown("arrival", str(arrival), ARRIVALS)
        if (arrival in _GAPS) != (self.rate_per_s is not None):
            raise InvalidInputError(f"{arrival} arrivals {'need' if self.rate_per_s is None else 'read no'} rate")
        if (arrival == "closed") != (self.clients is not None):
            raise InvalidInputError(f"{arrival} arrivals {'need' if self.clients is None else 'read no'} clients")
        if self.cv != 1.0 and arrival not in ("gamma", "weibull"):
            raise InvalidInputError(f"{arrival} arrivals read no cv")
        if arrival != "closed" and str(self.turns) == "1" and str(self.think_s).strip() not in NO_PAUSE:
            raise InvalidInputError(f"{arrival} arrivals read no think_s: nobody waits for an answer to ask again")
        return arrival

    def checked(self) -> Traffic:
        """Itself. Raises: InvalidInputError for numbers that no load has, and for a trace that is none."""
        for name, least, most, counts in _LIMITS:
            value = getattr(self, name)
            if value is not None or name not in ("rate_per_s", "clients", "distinct"):
                one_number(name, value, least=least, most=most, counts=counts)
        if self.trace is not None:
            _check_trace(self.trace)
        for tenant in self.tenants:
            one_number(f"share of {tenant.name}", tenant.share, least=1e-9, most=1e9, counts=False)
            one_number(f"priority of {tenant.name}", tenant.priority, least=0, most=MOST_CLASSES - 1)
        if self.distinct is not None and str(self.turns) != "1":
            raise InvalidInputError("distinct would not be read: turns of a conversation differ")
        self.how()
        return self

    def sent(self) -> Requests:
        """The requests, fresh."""
        if self.trace is not None:
            return self._traced(self.trace)
        random = np.random.default_rng(self.seed)
        n = self.requests
        prompt, output = lengths(self.prompt, n, random, "prompt"), lengths(self.output, n, random, "output")
        first = self._session_starts(n, random)
        owner = self.owners(first)
        for i, tenant in enumerate(self.tenants):
            for spec, column, what in ((tenant.prompt, prompt, "prompt"), (tenant.output, output, "output")):
                if spec is not None:
                    column[owner == i] = lengths(spec, int(np.count_nonzero(owner == i)), random, what)
        starts = np.flatnonzero(first)
        then, pause = np.full(n, -1), pauses(self.think_s, n, random)
        then[:-1] = np.where(first[1:], -1, np.arange(1, n))
        arrival = np.where(first, 0.0, pause)
        how = self.how()
        if how == "closed":
            assert self.clients is not None
            ends = np.append(starts[1:], n) - 1
            follow = max(starts.size - self.clients, 0)
            then[ends[:follow]] = starts[self.clients : self.clients + follow]
            arrival[starts[self.clients :]] = pause[starts[self.clients :]]
        elif how != "burst":
            assert self.rate_per_s is not None
            gaps = _GAPS[how](random, starts.size, self.cv)
            arrival[starts] = np.cumsum(gaps) / self.rate_per_s * (n / starts.size)
        if self.distinct is not None:
            prompt = prompt[np.arange(n) % self.distinct]
            nodes: Paths | None
            nodes, grows = repeated_paths(prompt, self.shared, self.distinct), None
        else:
            prompt, nodes, grows = session_paths(first, prompt, output, self.shared)
        return requests_of(arrival, prompt, output, then=then, priority=self._classes(owner), nodes=nodes, grows=grows)

    def _session_starts(self, n: int, random: np.random.Generator) -> AnyArray:
        """Which of `n` requests begin a conversation."""
        if str(self.turns) == "1":
            return np.ones(n, bool)
        turns = lengths(self.turns, n, random, "turns")
        starts = np.concatenate([[0], np.cumsum(turns)])
        first = np.zeros(n, bool)
        first[starts[starts < n]] = True
        return first

    def owners(self, first: AnyArray) -> AnyArray:
        """The tenant of every request, by number; a conversation has one."""
        if not self.tenants:
            return np.zeros(first.size, np.int64)
        shares = np.array([t.share for t in self.tenants], dtype=float)
        random = np.random.default_rng((self.seed, 1))
        drawn = random.choice(len(self.tenants), size=first.size, p=shares / shares.sum())
        return drawn[np.maximum.accumulate(np.where(first, np.arange(first.size), 0))]

    def _classes(self, owner: AnyArray) -> AnyArray | None:
        return np.array([t.priority for t in self.tenants])[owner] if self.tenants else None

    def _traced(self, trace: Mapping[str, AnyArray]) -> Requests:
        arrival, prompt, output = (trace[name] for name in ("arrival_s", "prompt_tokens", "output_tokens"))
        owner = self.owners(np.ones(len(arrival), bool))
        paths = (
            block_paths(trace["block_hashes"], prompt, int(trace["block_tokens"])) if "block_hashes" in trace else None
        )
        return requests_of(arrival, prompt, output, priority=self._classes(owner), nodes=paths)


# Field, least, most, whether it is whole.
_LIMITS = (
    ("requests", 1, MOST_REQUESTS, True),
    ("rate_per_s", 1e-6, 1e6, False),
    ("cv", 1e-3, 100.0, False),
    ("clients", 1, MOST_REQUESTS, True),
    ("shared", 0, MOST_TOKENS, True),
    ("distinct", 1, MOST_REQUESTS, True),
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
    for name, least, most in (
        ("arrival_s", 0.0, LATEST_S),
        ("prompt_tokens", 1.0, MOST_TOKENS),
        ("output_tokens", 1.0, MOST_TOKENS),
    ):
        if name not in trace:
            raise InvalidInputError(f"the trace has no column '{name}'")
        sizes.add(np.shape(real(name, np.atleast_1d(trace[name]), least=least, most=most)))
    if "block_hashes" in trace:
        sizes.add(np.shape(trace["block_hashes"]))
        one_number("block_tokens", trace.get("block_tokens"), least=1, most=MOST_TOKENS)
    if len(sizes) != 1:
        raise InvalidInputError("the columns of the trace differ in length")


def _weibull(random: np.random.Generator, n: int, cv: float) -> FloatArray:
    """Gaps of mean 1: the shape that has this coefficient of variation."""
    from scipy.optimize import brentq
    from scipy.special import gammaln

    wanted = np.log1p(cv**2)
    shape = brentq(lambda k: gammaln(1.0 + 2.0 / k) - 2.0 * gammaln(1.0 + 1.0 / k) - wanted, 0.05, 2000.0)
    return random.weibull(shape, n) / np.exp(gammaln(1.0 + 1.0 / shape))


_GAPS: Mapping[str, Callable[[np.random.Generator, int, float], FloatArray]] = {
    "poisson": lambda random, n, cv: random.exponential(1.0, n),
    "gamma": lambda random, n, cv: random.gamma(1.0 / cv**2, cv**2, n),
    "weibull": _weibull,
    "constant": lambda random, n, cv: np.ones(n),
}
