"""Offering load: a closed loop keeps so many requests in flight, an open loop sends them at a rate, come what may."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from waferline.errors import InvalidInputError
from waferline.measure.server.stream import Answer, Failure

Sender = Callable[[int], Awaitable[Answer | Failure]]

MOST_REQUESTS = 100_000
MOST_IN_FLIGHT = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered. Closed loop: `concurrency` at a time. Open loop: Poisson arrivals at `rate_per_s`.

    requests: counted ones; warmups: sent before and not counted. most_s: nothing new is sent after it.
    """

    requests: int
    concurrency: int = 1
    rate_per_s: float | None = None
    warmups: int = 2
    most_s: float = 300.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= MOST_REQUESTS or self.warmups < 0:
            raise InvalidInputError(f"{self.requests} requests", where="requests", hint=f"1 to {MOST_REQUESTS}")
        if not 1 <= self.concurrency <= MOST_IN_FLIGHT:
            raise InvalidInputError(f"concurrency {self.concurrency}", hint=f"1 to {MOST_IN_FLIGHT}")
        if self.rate_per_s is not None and not 0 < self.rate_per_s < float("inf"):
            raise InvalidInputError(f"a rate of {self.rate_per_s} requests a second", hint="above 0")
        if not 0 < self.most_s < float("inf"):
            raise InvalidInputError(f"at most {self.most_s} s", hint="above 0")

    @property
    def label(self) -> str:
        return f"concurrency {self.concurrency}" if self.rate_per_s is None else f"{self.rate_per_s:g} requests/s"


def loads(concurrency: Sequence[int], rates: Sequence[float], requests: int | None = None) -> list[Load]:
    """A load for each rate, or where there is none for each number of requests in flight; as many requests as it takes to
    say something, unless told. Raises: InvalidInputError for what no load can be."""
    if rates:
        return [Load(_requests(requests, OPEN_S * rate), rate_per_s=rate) for rate in rates]
    return [Load(_requests(requests, EACH * streams), concurrency=streams) for streams in concurrency]


EACH, FEWEST, OPEN_S = 8, 16, 30.0  # requests a stream; of a load at least; seconds that an open loop lasts


def _requests(told: int | None, usual: float) -> int:
    if told is not None or math.isnan(usual):  # what is no number is refused with its load
        return FEWEST if told is None else told
    return int(min(max(FEWEST, usual), MOST_REQUESTS))


async def offer(load: Load, send: Sender) -> list[Answer | Failure]:
    """Send the counted requests; `send(i)` performs request i. Returns what came of each that was sent."""
    return await (_closed(load, send) if load.rate_per_s is None else _open(load, send))


async def _closed(load: Load, send: Sender) -> list[Answer | Failure]:
    results: list[Answer | Failure] = []
    numbers = iter(range(load.requests))
    deadline = time.perf_counter() + load.most_s

    async def worker() -> None:
        for i in numbers:
            if time.perf_counter() > deadline:
                return
            results.append(await send(i))

    await asyncio.gather(*(worker() for _ in range(min(load.concurrency, load.requests))))
    return results


async def _open(load: Load, send: Sender) -> list[Answer | Failure]:
    """Arrivals do not wait for answers; the next one's time is kept from the schedule, so lateness never accumulates."""
    assert load.rate_per_s is not None
    chance = random.Random(load.seed)
    start = time.perf_counter()
    due = 0.0
    flying: list[asyncio.Task[Answer | Failure]] = []
    for i in range(load.requests):
        due += chance.expovariate(load.rate_per_s)
        if due > load.most_s:
            break
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        flying.append(asyncio.ensure_future(send(i)))
    return list(await asyncio.gather(*flying))
