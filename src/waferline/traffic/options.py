"""What is asked of a simulated server beside the scenario: the engine's options by its names, and what stands around replicas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.errors import InvalidInputError, unknown
from waferline.simulate.serving.state import ROUTERS
from waferline.simulate.serving.traffic import LATEST_S, one_number
from waferline.units import to_si

MOST_REPLICAS = 4096
LEAST_INTERVAL_S = 1e-3
_FAILURE = re.compile(r"(\d+)@([^+]+)(?:\+(.+))?")
_SIZES = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, slots=True)
class Failure:
    """Replica `replica` goes down at `at_s`, and is back after `for_s`, its start included."""

    replica: int
    at_s: float
    for_s: float = float("inf")

    @staticmethod
    def of(text: str) -> Failure:
        """`0@60s+30s`, or `0@60s` for one that stays down. Raises: InvalidInputError."""
        match = _FAILURE.fullmatch(text.strip())
        if match is None:
            raise InvalidInputError(f"failure '{text}' is not of the form REPLICA@TIME+TIME, such as 0@60s+30s")
        times = [_seconds("failure", part) for part in match.groups()[1:] if part]
        return Failure(int(match[1]), *times)


@dataclass(frozen=True, slots=True)
class Autoscale:
    """Between `least` and `most` replicas: one for every `target` requests in the system, looked at every `interval_s`.

    One starts at a look and takes `start_s` until it serves; one stops after `patience_s` in which fewer would have done.
    """

    least: int
    most: int
    target: float = 32.0
    start_s: float = 60.0
    interval_s: float = 15.0
    patience_s: float = 300.0

    @staticmethod
    def of(text: str) -> Autoscale:
        """`1..8`, and after commas `target=32`, `start=60s`, `interval=15s`, `patience=300s`. Raises: InvalidInputError."""
        first, *rest = (part.strip() for part in text.split(","))
        sizes = _SIZES.fullmatch(first)
        if sizes is None or not 1 <= int(sizes[1]) <= int(sizes[2]) <= MOST_REPLICAS:
            raise InvalidInputError(f"autoscale '{text}' does not begin with LEAST..MOST replicas, such as 1..8")
        found: dict[str, float] = {}
        for part in rest:
            name, _, value = part.partition("=")
            if name not in ("target", "start", "interval", "patience"):
                raise unknown("part of autoscale", name, ("target", "start", "interval", "patience"))
            if name == "target":
                try:
                    found["target"] = one_number("target", float(value), least=0.01, most=1e6, counts=False)
                except ValueError:
                    raise InvalidInputError(f"autoscale target '{value}' is not a number") from None
            else:
                found[f"{name}_s"] = _seconds(f"autoscale {name}", value)
        if found.get("interval_s", 1.0) < LEAST_INTERVAL_S:
            raise InvalidInputError(f"autoscale interval must be {LEAST_INTERVAL_S:g} s or more")
        return Autoscale(int(sizes[1]), int(sizes[2]), **found)


def _seconds(what: str, text: str | float) -> float:
    value = float(to_si(what, text, "second"))
    if not 0.0 <= value <= LATEST_S:
        raise InvalidInputError(f"{what} '{text}': a time is not below 0, nor above {LATEST_S:g} s")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """None is the engine's default on the machine.

    policy: a variant of the engine's scheduler (`catalog/schedulers.yaml`). slo: goals as in `slo.goals_of`. router: one of
    `ROUTERS`, over the scenario's `dp` replicas. prefill_replicas: so many more that only read prompts; those of `dp` then only
    generate, and caches move over `kv_link` (bytes a second of one device; None is the machine's link between nodes).
    engine_version: an older one, whose steps take other times; None is the newest that is known.
    chunked: prompts are cut, and share steps with decodes, whatever the engine does. hit: the share of every prompt that is one
    text for all, read once by each replica. front: CPU time of the process in front of each replica (HTTP, chat template,
    tokens), a request; it takes turns over those that it has.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    prefix_caching: bool | None = None
    chunked: bool = False
    hit: float = 0.0
    policy: str | None = None
    async_scheduling: bool | None = None
    engine_version: str | None = None
    front: str | float | None = None
    slo: str | None = None
    router: str | None = None
    prefill_replicas: int = 0
    prefill_tp: int | None = None
    prefill_ep: int | None = None
    kv_link: str | float | None = None
    failures: tuple[str, ...] = ()
    autoscale: str | None = None

    def checked(self) -> ServerOptions:
        """Itself. Raises: InvalidInputError for numbers that no engine takes, UnknownNameError."""
        for name, most in (("max_num_seqs", 65_536), ("max_num_batched_tokens", 1_048_576)):
            if getattr(self, name) is not None:
                one_number(name, getattr(self, name), least=1, most=most)
        one_number("prefill_replicas", self.prefill_replicas, least=0, most=MOST_REPLICAS)
        if self.router is not None and self.router not in ROUTERS:
            raise unknown("router", str(self.router), ROUTERS)
        if self.autoscale is not None and self.prefill_replicas:
            raise InvalidInputError("autoscale of two pools is not simulated")
        for name in ("kv_link", "prefill_tp", "prefill_ep"):
            if getattr(self, name) is not None and not self.prefill_replicas:
                raise InvalidInputError(f"{name} would not be read without prefill replicas")
        for name in ("prefill_tp", "prefill_ep"):
            if getattr(self, name) is not None:
                one_number(name, getattr(self, name), least=1, most=MOST_REPLICAS)
        return self

    def front_s(self, usual_s: float) -> float:
        """Raises: InvalidInputError for no time."""
        return usual_s if self.front is None else _seconds("front", self.front)

    def link_bytes_per_s(self) -> float | None:
        """Raises: InvalidInputError for a link without a rate."""
        if self.kv_link is None:
            return None
        value = float(to_si("kv_link", self.kv_link, "byte / second"))
        if not 0.0 < value < np.inf:
            raise InvalidInputError(f"kv_link must be above 0, got {self.kv_link}")
        return value

    def fleet(self, replicas: int) -> tuple[int, Autoscale | None, tuple[Failure, ...]]:
        """(replicas in all, how they are scaled, what fails). Raises: InvalidInputError."""
        scaled = None if self.autoscale is None else Autoscale.of(self.autoscale)
        if scaled is not None and replicas > 1:
            raise InvalidInputError("replicas would not be read: autoscale says how many")
        total = self.prefill_replicas + (replicas if scaled is None else scaled.most)
        failures = tuple(Failure.of(text) for text in self.failures)
        for failure in failures:
            if failure.replica >= total:
                raise InvalidInputError(f"failure of replica {failure.replica}: there are {total}, the first is 0")
        return total, scaled, failures


def tenant_fields(text: str) -> Mapping[str, Any]:
    """`chat;share=0.7;priority=0;prompt=lognormal:512,cv=1;output=100` as fields of a `Tenant`. Raises: InvalidInputError."""
    name, *rest = (part.strip() for part in text.split(";"))
    found: dict[str, Any] = {"name": name}
    for part in rest:
        key, _, value = part.partition("=")
        if not value or key not in ("share", "priority", "prompt", "output") or key in found:
            raise InvalidInputError(
                f"tenant '{text}': '{part}' is none of share=, priority=, prompt= and output=, once each"
            )
        try:
            found[key] = float(value) if key == "share" else int(value) if key == "priority" else value
        except ValueError:
            raise InvalidInputError(f"tenant '{name}': {key} '{value}' is not a number") from None
    if not name or "=" in name:
        raise InvalidInputError(f"tenant '{text}' begins with its name, such as chat;share=0.7")
    return found
