"""Does it keep up: what the fleet can do of this traffic, and whether its queue grew."""

from __future__ import annotations

import numpy as np

from waferline.simulate.serving.state import Plan, Requests
from waferline.traffic.server import Server

VERDICTS = ("stable", "backlogged", "overloaded", "all served")
ASKED = 3000  # requests that a replica is given to see what it can do
_FASTER = 1.5  # than those that come all at once are served
_MIDDLE = (0.3, 0.8)  # of their ends: before, the fleet fills; after, it empties
_GROWING = (
    0.25  # of the requests that come from the middle of a run to its last: a queue that grows by more is no steady one
)
_LATE = 0.05  # share of requests that wait for longer than they are served


def capacity_request_per_s(server: Server, requests: Requests, replicas: int, plan: Plan) -> float:
    """Requests a second that the fleet serves of this kind when there are always more.

    All at once they are read, and end, in step with each other: that says only about how fast they are. So they are sent again,
    one after the other, faster than that; what ends while the queue is never empty is the capacity.
    """
    n = min(len(requests.arrival), ASKED * replicas)
    some = np.linspace(0, len(requests.arrival) - 1, n).astype(int) if requests.then.max() < 0 else np.arange(n)
    if not requests.node.size:  # prompts that share nothing may come again
        some = np.resize(some, ASKED * replicas)
    whole = plan._replace(target=0.0, least=replicas, fail_at=plan.fail_at[:0], front_s=0.0, chunk_s=0.0)
    at_once = _only(requests, some, 0.0)
    server.run(at_once, replicas, whole)
    least = float(some.size / at_once.last.max())
    in_turn = _only(requests, some, 1.0 / (_FASTER * least))
    server.run(in_turn, replicas, whole)
    ends = np.sort(in_turn.last)
    low, high = (int(q * (some.size - 1)) for q in _MIDDLE)
    passed = float(ends[high] - ends[low])
    engines = max((high - low) / passed, least) if high - low > 1 and passed > 0.0 else least
    return min(engines, (plan.prefill or replicas) / plan.front_s) if plan.front_s > 0.0 else engines


def _only(requests: Requests, some: np.ndarray, gap_s: float) -> Requests:
    """These requests, `gap_s` apart, those that follow another as soon as it is answered."""
    sizes = np.diff(requests.node_from)[some]
    flat = (
        np.repeat(requests.node_from[:-1][some], sizes)
        + np.arange(sizes.sum())
        - np.repeat(np.cumsum(sizes) - sizes, sizes)
    )
    columns = {
        name: np.ascontiguousarray(getattr(requests, name)[some])
        for name in Requests._fields
        if name not in ("node_from", "node", "node_tokens")
    }
    then = columns["then"] = np.where(columns["then"] < some.size, columns["then"], -1)
    first = np.ones(some.size, bool)
    first[then[then >= 0]] = False
    columns["arrival"] = np.where(first, np.cumsum(first) * gap_s, 0.0)
    return Requests(
        **columns,
        node_from=np.concatenate([[0], np.cumsum(sizes)]),
        node=requests.node[flat],
        node_tokens=requests.node_tokens[flat],
    )


def verdict_of(requests: Requests, is_open: bool, rate_per_s: float | None, capacity: float | None) -> str:
    """overloaded where an open load asks for more than the capacity (where that is not known, or the load has no rate: where its
    queue grows until the last request has come); backlogged where many waited for longer than they were served; else stable."""
    if not is_open:
        return "all served"
    if rate_per_s is not None and capacity is not None:
        return "overloaded" if rate_per_s > capacity else _waited(requests)
    n = requests.arrival.size
    order = np.argsort(requests.arrival, kind="stable")
    ends = np.sort(requests.last)
    at = [requests.arrival[order[i]] for i in (n // 2, n - 1)]
    middle, last = (
        np.searchsorted(requests.arrival[order], t, "right") - np.searchsorted(ends, t, "right") for t in at
    )
    half = n - n // 2
    if last - middle > _GROWING * half:
        return "overloaded"
    return _waited(requests)


def _waited(requests: Requests) -> str:
    late = requests.admitted - requests.arrival > requests.last - requests.admitted
    return "backlogged" if late.mean() > _LATE else "stable"
