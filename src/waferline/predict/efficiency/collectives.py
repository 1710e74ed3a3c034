"""Seconds of a collective among the devices of one link tier: two protocols, the faster of which the library takes.

Bytes are the buffer one rank holds before the operation (nccl-tests' `size` for all-reduce; what each rank ends with for
all-gather, starts with for reduce-scatter and all-to-all). All arguments broadcast.
"""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum, where
from waferline.predict.efficiency.device import LinkFacts


def all_reduce_s(n_bytes: Floats, ranks: Floats, *, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    """One-shot (everyone reads everyone: n − 1 buffers) or two-shot (reduce-scatter, then all-gather: 2(n − 1)/n buffers)."""
    n = ranks
    one_shot = _alpha(n, c, "one_shot") + n_bytes * (n - 1.0) / (link.bandwidth_bytes_per_s * c["one_shot_efficiency"])
    return _done(minimum(one_shot, _ring(n_bytes, n, 2.0, link, c)), n_bytes, n, 2.0, link)


def all_gather_s(n_bytes: Floats, ranks: Floats, *, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    """Every rank ends with `n_bytes`, of which it held one n-th."""
    return _one_pass(n_bytes, ranks, link, c)


def reduce_scatter_s(n_bytes: Floats, ranks: Floats, *, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    """Every rank starts with `n_bytes` and ends with the sum of its n-th."""
    return _one_pass(n_bytes, ranks, link, c)


def all_to_all_s(n_bytes: Floats, ranks: Floats, *, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    """Every rank starts with `n_bytes` and sends an n-th to each rank."""
    return _one_pass(n_bytes, ranks, link, c)


def p2p_s(n_bytes: Floats, *, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    """One message from one device to another."""
    return c["two_shot_floor_s"] + n_bytes / (link.bandwidth_bytes_per_s * c["two_shot_efficiency"])


def _alpha(n: Floats, c: Mapping[str, float], protocol: str) -> Floats:
    return c[f"{protocol}_floor_s"] + c[f"{protocol}_rank_s"] * (n - 1.0)


def _ring(n_bytes: Floats, n: Floats, passes: float, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    wire_s = n_bytes * (passes * (n - 1.0) / n) / (link.bandwidth_bytes_per_s * c["two_shot_efficiency"])
    return _alpha(n, c, "two_shot") + wire_s


def _one_pass(n_bytes: Floats, ranks: Floats, link: LinkFacts, c: Mapping[str, float]) -> Floats:
    n = ranks
    one_shot = _alpha(n, c, "one_shot") + n_bytes * ((n - 1.0) / n) / (
        link.bandwidth_bytes_per_s * c["one_shot_efficiency"]
    )
    return _done(minimum(one_shot, _ring(n_bytes, n, 1.0, link, c)), n_bytes, n, 1.0, link)


def _done(time_s: Floats, n_bytes: Floats, n: Floats, passes: float, link: LinkFacts) -> Floats:
    """Nothing to do for a single rank; never faster than each byte crossing the link `passes·(n − 1)/n` times."""
    light_s = n_bytes * (passes * (n - 1.0) / n) / link.bandwidth_bytes_per_s
    return where(n > 1.0, maximum(time_s, light_s), 0.0)
