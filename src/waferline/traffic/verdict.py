"""Does it keep up: what the fleet can do of this traffic, and whether its queue grew."""

from __future__ import annotations

import numpy as np

from waferline.simulate.serving.state import Plan, Requests
from waferline.traffic.server import Server

MOST_ASKED = 2000  # requests that a fleet is given at once to see what it can do
_MIDDLE = (0.2, 0.8)  # of their ends: before, the fleet fills; after, it empties
_GROWING = (
    0.25  # of the requests of a run: a queue that grows by more from its middle to its last arrival is no steady one
)
_LATE = 0.05  # share of requests that wait for longer than they are served


def capacity_request_per_s(server: Server, requests: Requests, replicas: int, plan: Plan) -> float:
    """Requests a second that the fleet serves of this kind when there are always more: it is given some of them at once."""
    n = min(len(requests.arrival), MOST_ASKED * replicas)
    some = np.linspace(0, len(requests.arrival) - 1, n).astype(int) if requests.then.max() < 0 else np.arange(n)
    chosen = _only(requests, some)
    whole = plan._replace(target=0.0, least=replicas, fail_at=plan.fail_at[:0], front_s=0.0, chunk_s=0.0)
    server.run(chosen, replicas, whole)
    ends = np.sort(chosen.last)
    low, high = (int(q * (n - 1)) for q in _MIDDLE)
    if high - low < 1 or ends[high] <= ends[low]:
        return float(n / ends[-1])
    return float(max((high - low) / (ends[high] - ends[low]), n / ends[-1]))


def _only(requests: Requests, some: np.ndarray) -> Requests:
    """These requests, all at once, those that follow another as soon as it is answered."""
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
    columns["arrival"] = np.zeros(some.size)
    then = columns["then"]
    columns["then"] = np.where(then < some.size, then, -1)
    return Requests(
        **columns,
        node_from=np.concatenate([[0], np.cumsum(sizes)]),
        node=requests.node[flat],
        node_tokens=requests.node_tokens[flat],
    )


def verdict_of(requests: Requests, is_open: bool) -> str:
    """overloaded where an open load's queue grows until the last request has come; backlogged where it went away again, and many
    waited for longer than they were served; else stable."""
    if not is_open:
        return "all served"
    n = requests.arrival.size
    order = np.argsort(requests.arrival, kind="stable")
    ends = np.sort(requests.last)
    at = [requests.arrival[order[i]] for i in (n // 2, n - 1)]
    middle, last = (
        np.searchsorted(requests.arrival[order], t, "right") - np.searchsorted(ends, t, "right") for t in at
    )
    if last - middle > _GROWING * (n - n // 2):
        return "overloaded"
    late = requests.admitted - requests.arrival > requests.last - requests.admitted
    return "backlogged" if late.mean() > _LATE else "stable"
