"""What a served replica is made of while it runs: arrays of requests and queues, for loops that Numba compiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from waferline.arrays import AnyArray, FloatArray


class Rules(NamedTuple):
    """How a scheduler fills a step: see `catalog/schedulers.yaml` for the engines and their sources."""

    max_sequences: int
    max_tokens: int  # of one step
    mixed: bool  # decodes and prompts share a step; else a step is one or the other, prompts first
    chunked: bool  # the last prompt of a step may be cut
    decodes_first: bool  # running decodes before prompts under way; else in the order of admission
    reserve: float  # share of the tokens still to be generated that must find room when a request is admitted, at first
    reserve_least: float  # what it falls to
    reserve_steps: float  # in so many steps of decoding
    reserve_tokens: float  # of a request, at most so many tokens are reserved
    evict_fewest: bool  # what makes room is the request with the fewest tokens; else the newest
    watermark: float  # share of memory that admission leaves free


class Memory(NamedTuple):
    """Bytes that a sequence of t tokens holds: `full` a token, `window` for up to `window_tokens` of them, `state` whatever t."""

    capacity: float
    block: int
    full: float
    window: float
    window_tokens: float
    state: float


class Requests(NamedTuple):
    """Requests, and what happens to them. Times in seconds; -1 where something has not happened."""

    arrival: FloatArray  # when it is sent; where another comes before it, the pause after that one's end
    prompt: AnyArray  # int64
    output: AnyArray
    shared: AnyArray  # prompt tokens that a prefix cache holds from requests before, fewer than the prompt has
    then: AnyArray  # the request that is sent after the end of this one, or -1
    first: FloatArray
    last: FloatArray
    admitted: FloatArray
    computed: AnyArray  # tokens in the cache
    made: AnyArray  # tokens generated
    held: FloatArray  # bytes of memory
    preempted: AnyArray


class Replica(NamedTuple):
    """The scheduler's lists: running requests with the tokens each takes in this step, and those that wait."""

    running: AnyArray
    taken: AnyArray
    queue: AnyArray  # waiting ones stand in [head, tail); those put back go before the head
    at: AnyArray  # HEAD, TAIL, COUNT, BUDGET
    room: FloatArray  # FREE bytes of memory, RESERVE as it stands


HEAD, TAIL, COUNT, BUDGET = range(4)
FREE, RESERVE = range(2)


def requests_of(
    arrival: FloatArray,
    prompt: AnyArray,
    output: AnyArray,
    *,
    shared: AnyArray | None = None,
    then: AnyArray | None = None,
) -> Requests:
    """Fresh requests."""
    n = len(arrival)
    ints: Any = np.int64
    return Requests(
        arrival=np.array(arrival, dtype=float),
        prompt=np.asarray(prompt, dtype=ints),
        output=np.asarray(output, dtype=ints),
        shared=np.zeros(n, ints) if shared is None else np.asarray(shared, dtype=ints),
        then=np.full(n, -1, ints) if then is None else np.asarray(then, dtype=ints),
        first=np.full(n, -1.0),
        last=np.full(n, -1.0),
        admitted=np.full(n, -1.0),
        computed=np.zeros(n, ints),
        made=np.zeros(n, ints),
        held=np.zeros(n),
        preempted=np.zeros(n, ints),
    )
