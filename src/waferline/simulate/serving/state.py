"""What a simulated fleet is made of: arrays of requests, replicas and their prefix caches, for loops that Numba compiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from waferline.arrays import AnyArray, FloatArray

MOST_CLASSES = 16  # of priority


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
    wait_for_all: bool = False  # nothing is admitted until all that run have ended (static batches)
    pass_tokens: int = 1 << 60  # a step is computed in passes of at most so many tokens (llama.cpp's n_ubatch)
    stages: int = 1  # of a pipeline, through which as many steps pass at once
    ahead: bool = False  # a step is filled when the one before begins: who comes in between takes the next but one
    hop_s: float = 0.0  # from a stage to the next, for each token of a step
    positions: int = 1  # rows of a decode: drafted tokens that are verified, and the one before
    gain: float = 1.0  # tokens that a decode yields, in the mean


class Memory(NamedTuple):
    """Bytes that a sequence of t tokens holds: `full` a token, `window` for up to `window_tokens` of them, `state` whatever t."""

    capacity: float
    block: int
    full: float
    window: float
    window_tokens: float
    state: float


class Requests(NamedTuple):
    """Requests, and what happens to them. Times in seconds; -1 where something has not happened.

    A prompt is a path of nodes, of which a prefix cache knows those read before: `node_from[r]` to `node_from[r + 1]` of `node`
    (its number) and `node_tokens`. `grows`: what is generated belongs to the last node, too, as in a conversation.
    """

    arrival: FloatArray  # when it is sent; where another comes before it, the pause after that one's end
    prompt: AnyArray  # int64
    output: AnyArray
    then: AnyArray  # the request that is sent after the end of this one, or -1
    priority: AnyArray  # its class: lower ones go first
    node_from: AnyArray
    node: AnyArray
    node_tokens: AnyArray
    grows: AnyArray
    first: FloatArray
    last: FloatArray
    admitted: FloatArray
    due: FloatArray  # what the process in front of its replica will have done for each request when it lets this one go
    computed: AnyArray  # tokens in the cache
    made: AnyArray  # tokens generated
    held: FloatArray  # bytes of memory that are its own
    preempted: AnyArray
    hits: AnyArray  # prompt tokens that it found when it was first admitted
    shared: AnyArray  # tokens that stand in nodes of the cache, not in `held`
    pinned: AnyArray  # nodes of its path that it keeps in the cache
    taken: AnyArray  # tokens of the step under way
    under_way: AnyArray  # 1 while a step carries it
    moved: AnyArray  # 1 when its cache came from a replica that read the prompt
    home: AnyArray  # the replica, or -1
    behind: AnyArray  # the next in the queue, or -1


class Fleet(NamedTuple):
    """Replicas: their scheduler's lists and their memory. Rows are replicas."""

    running: AnyArray  # (replica, place) in the order of admission
    active: AnyArray  # how many run
    head: (
        AnyArray  # (row, class) of waiting requests: a row a replica, one for those that no replica takes, and a row a
    )
    # replica for those that came when its next step was filled, and a row a replica for those that the process in front has
    tail: AnyArray
    waiting: AnyArray
    batch: AnyArray  # (replica, step under way, place)
    batch_size: AnyArray  # (replica, step under way), 0 where there is none
    free: FloatArray  # bytes that no request holds
    cached: FloatArray  # of these, bytes of nodes that may be dropped
    reserve: FloatArray
    budget: AnyArray
    role: AnyArray  # BOTH, PREFILL or DECODE
    status: AnyArray  # DOWN, STARTING, UP or DRAINING
    epoch: AnyArray  # how often it failed, or its start was called off
    stage_free: FloatArray  # when the first stage takes another step
    last_end: FloatArray
    began: FloatArray  # when the step before the last one ended
    link_free: FloatArray
    front_free: FloatArray  # when the process in front has sent the last token
    front_done: FloatArray  # seconds that it has worked for each request it has, until `front_at`
    front_at: FloatArray
    front_turn: AnyArray  # which of its events counts
    since: FloatArray  # when it was started
    sums: FloatArray  # (replica, SUMS)


class Cache(NamedTuple):
    """Prefix caches: (replica, node). `before`, `after`: a ring of nodes that nobody uses, the oldest first."""

    tokens: AnyArray
    users: AnyArray
    before: AnyArray
    after: AnyArray


class Plan(NamedTuple):
    """What stands around the replicas. Times in seconds."""

    router: int  # index in ROUTERS
    prefill: int  # replicas that only read prompts; the others then only generate
    link_latency_s: float  # of a cache that moves from the one kind to the other
    link_s_per_byte: float
    least: int  # replicas of a fleet that is scaled
    target: float  # requests for each of them; 0 where the fleet is not scaled
    start_s: float
    interval_s: float
    patience_s: float  # before one is stopped
    front_s: float  # work of the process in front, a request
    chunk_s: float  # and a token that is sent
    fail_at: FloatArray
    fail_replica: AnyArray
    fail_for: FloatArray
    stop: AnyArray  # of one number: the loop ends where somebody else makes it 1


ROUTERS = ("round-robin", "least-loaded", "prefix", "session")
BOTH, PREFILL, DECODE = range(3)
DOWN, STARTING, UP, DRAINING = range(4)
SUMS = 10
STEPS, BUSY_S, RUNNING_S, MEMORY_S, PROMPT_TOKENS, DECODES, UP_S, MOVED_BYTES, FULL_S, FULL_TOKENS = range(SUMS)


def requests_of(
    arrival: FloatArray,
    prompt: AnyArray,
    output: AnyArray,
    *,
    then: AnyArray | None = None,
    priority: AnyArray | None = None,
    nodes: tuple[AnyArray, AnyArray, AnyArray] | None = None,
    grows: AnyArray | None = None,
) -> Requests:
    """Fresh requests. nodes: (node_from, node, node_tokens) of the paths of their prompts."""
    n = len(arrival)
    ints: Any = np.int64
    fresh = lambda value: np.full(n, value, ints)  # noqa: E731
    path = (np.zeros(n + 1, ints), np.zeros(0, ints), np.zeros(0, ints)) if nodes is None else nodes
    return Requests(
        np.array(arrival, dtype=float),
        np.asarray(prompt, dtype=ints),
        np.asarray(output, dtype=ints),
        fresh(-1) if then is None else np.asarray(then, dtype=ints),
        fresh(0) if priority is None else np.asarray(priority, dtype=ints),
        np.asarray(path[0], dtype=ints),
        np.asarray(path[1], dtype=ints),
        np.asarray(path[2], dtype=ints),
        fresh(0) if grows is None else np.asarray(grows, dtype=ints),
        first=np.full(n, -1.0),
        last=np.full(n, -1.0),
        admitted=np.full(n, -1.0),
        due=np.zeros(n),
        held=np.zeros(n),
        **{name: fresh(0) for name in ("computed", "made", "preempted", "hits", "shared", "pinned", "taken")},
        **{name: fresh(0) for name in ("under_way", "moved")},
        home=fresh(-1),
        behind=fresh(-1),
    )


def fleet_of(replicas: int, requests: Requests, rules: Rules, memory: Memory, plan: Plan) -> Fleet:
    """An empty fleet, all of it up, or the least of one that is scaled."""
    ints: Any = np.int64
    classes = int(requests.priority.max(initial=0)) + 1
    places = rules.max_sequences + 1
    number = np.arange(replicas)
    role = np.where(number < plan.prefill, PREFILL, DECODE) if plan.prefill else np.full(replicas, BOTH)
    up = (number < plan.least) | (plan.target == 0.0)
    zeros = lambda *shape: np.zeros(shape, ints)  # noqa: E731
    return Fleet(
        running=zeros(replicas, places),
        active=zeros(replicas),
        head=np.full((3 * replicas + 1, classes), -1, ints),
        tail=np.full((3 * replicas + 1, classes), -1, ints),
        waiting=zeros(3 * replicas + 1),
        batch=zeros(replicas, rules.stages, places),
        batch_size=zeros(replicas, rules.stages),
        free=np.full(replicas, memory.capacity),
        cached=np.zeros(replicas),
        reserve=np.full(replicas, rules.reserve),
        budget=zeros(replicas),
        role=role.astype(ints),
        status=np.where(up, UP, DOWN).astype(ints),
        epoch=zeros(replicas),
        stage_free=np.zeros(replicas),
        last_end=np.zeros(replicas),
        began=np.zeros(replicas),
        link_free=np.zeros(replicas),
        front_free=np.zeros(replicas),
        front_done=np.zeros(replicas),
        front_at=np.zeros(replicas),
        front_turn=zeros(replicas),
        since=np.zeros(replicas),
        sums=np.zeros((replicas, SUMS)),
    )


def cache_of(replicas: int, requests: Requests) -> Cache:
    """Empty prefix caches for all nodes that requests name; the last one of each row is the ring's end."""
    nodes = int(requests.node.max(initial=-1)) + 1
    small: Any = np.int32
    ring = np.full((replicas, nodes + 1), nodes, small)
    return Cache(np.zeros((replicas, nodes + 1), small), np.zeros((replicas, nodes + 1), small), ring, ring.copy())
