"""Pangu Pro MoE: experts in groups, one group a device, so that no device waits for another.

Decode steps of a mixture of experts from those of dense models on the same cards, with one dispatch term a layer.

A step is: fixed + weights / bandwidth + sequences · (a · layers + b · active parameters) + layers · dispatch. The first
four constants come from two dense models at two batch sizes each; the dispatch is what a mixture adds at batch 1.

Mixture of grouped experts: each device's group gives the same number of experts to every token.

Plain top-k lets devices receive unequal numbers of tokens, and a step lasts as long as its fullest device. Source: Pangu
Pro MoE, arXiv:2505.21411v2, section 3: softmax over all experts, then the best K/M inside each of M groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from waferline.arrays import FloatArray, IntArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import absolute, at_least, printed, relative
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model


@dataclass(frozen=True, slots=True)
class Step:
    """One measured decode step: a model (parameters read and computed, layers), sequences, seconds."""

    read_parameters: float
    active_parameters: float
    layers: float
    sequences: float
    time_s: float


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Constants of a group of cards: seconds, seconds per parameter read, per sequence and layer, per sequence and
    active parameter, and per layer of a mixture."""

    fixed_s: float
    read_s: float
    layer_s: float
    active_s: float
    dispatch_s: float = 0.0

    def step_s(self, read: float, active: float, layers: float, sequences: float, mixture: bool) -> float:
        each = self.layer_s * layers + self.active_s * active
        return self.fixed_s + self.read_s * read + sequences * each + self.dispatch_s * layers * mixture


def fit_dense(steps: Sequence[Step]) -> DecodeCost:
    """Constants from four steps of dense models, solved exactly (two models, two batch sizes)."""
    matrix = [[1.0, s.read_parameters, s.sequences * s.layers, s.sequences * s.active_parameters] for s in steps]
    scale = np.abs(matrix).max(axis=0)
    solved = np.linalg.solve(np.array(matrix) / scale, [s.time_s for s in steps]) / scale
    return DecodeCost(*map(float, solved))


def with_dispatch(cost: DecodeCost, row: Step) -> DecodeCost:
    """The dispatch per layer that one step of a mixture shows."""
    rest = row.time_s - cost.step_s(row.read_parameters, row.active_parameters, row.layers, row.sequences, False)
    return DecodeCost(cost.fixed_s, cost.read_s, cost.layer_s, cost.active_s, rest / row.layers)


Router = Callable[[FloatArray], FloatArray]


def top_k_gates(logits: FloatArray, k: int) -> FloatArray:
    """Gates (tokens, experts) of the k most likely experts of each token; 0 for the others."""
    return grouped_gates(logits, k, groups=1)


def grouped_gates(logits: FloatArray, k: int, groups: int) -> FloatArray:
    """Gates (tokens, experts) of the k / groups most likely experts inside every group of neighbours."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    by_group = shares.reshape(len(shares), groups, -1)
    chosen = np.argpartition(-by_group, k // groups - 1, axis=-1)[..., : k // groups]
    gates = np.zeros_like(by_group)
    np.put_along_axis(gates, chosen, np.take_along_axis(by_group, chosen, -1), -1)
    return np.asarray(gates.reshape(shares.shape))


def device_tokens(gates: FloatArray, devices: int) -> IntArray:
    """Expert-tokens that each device computes; neighbouring experts share a device."""
    return np.asarray((gates > 0).reshape(len(gates), devices, -1).sum(axis=(0, 2)))


def imbalance_score(gates: FloatArray, devices: int) -> float:
    """(fullest - emptiest device) over the number of tokens."""
    tokens = device_tokens(gates, devices)
    return float(tokens.max() - tokens.min()) / len(gates)


def monte_carlo(
    router: Router, score: Callable[[FloatArray], float], *, tokens: int, experts: int, trials: int, seed: int = 0
) -> FloatArray:
    """`score` of the gates of `trials` batches with random hidden states through one random router matrix."""
    rng = np.random.default_rng(seed)
    width = experts // 2
    weights = rng.standard_normal((width, experts))
    return np.array([score(router(rng.standard_normal((tokens, width)) @ weights)) for _ in range(trials)])


_BILLION, _MILLI = 1e9, 1e-3
_DECODE = 0.15  # of the measured step


def compute(data: Facts) -> Iterator[Check]:
    yield from _parameters(data["parameters"])
    for row in data["throughput"]:
        rate = row["tokens"] / (row["latency_ms"] * _MILLI) / row["cards"]
        off = absolute(1.0, "digits printed, of a latency that is itself rounded")
        yield identity(f"{row['name']}, per card", "tok/s", float(row["printed"]), rate, off)
    yield from _routing(data["routing"])
    yield from _decode(data["decode"])
    why = "one row of this machine, and no dense row beside it: nothing to fit with and to check on"
    yield Check("300I Duo decode step alone", "ms", data["duo_alone_ms"], None, why=why)


def _parameters(published: Mapping[str, str]) -> Iterator[Check]:
    count = parameter_count(load_model("pangu-pro-moe"))
    for name, value in (("total", count.total), ("active", count.active_per_token)):
        yield identity(f"parameters, {name}", "B", float(published[name]), value / _BILLION, printed(published[name]))


def _routing(r: Mapping[str, int]) -> Iterator[Check]:
    trials = {"tokens": r["tokens"], "experts": r["experts"], "trials": 300}
    score = partial(imbalance_score, devices=r["groups"])
    plain = monte_carlo(partial(top_k_gates, k=r["chosen"]), score, **trials)
    grouped = monte_carlo(partial(grouped_gates, k=r["chosen"], groups=r["groups"]), score, **trials)
    yield Check("share of unbalanced steps, top-k, 16 tokens", "", 1.0, float((plain > 0).mean()), at_least(0.99))
    yield own("worst imbalance, grouped", "", 0.0, float(grouped.max()), absolute(0.0, "exact"))


def _decode(d: Facts) -> Iterator[Check]:
    dense = [
        Step(m["parameters"], m["parameters"], m["layers"], batch, m[time] * _MILLI)
        for m in d["dense"]
        for batch, time in ((1, "alone_ms"), (m["batch"], "batch_ms"))
    ]
    m, bare = d["moe"], fit_dense(dense)
    alone = bare.step_s(m["active"], m["active"], m["layers"], 1, mixture=False)
    why = "gating, token dispatch and small expert matrices cost time on every layer, which dense models do not show"
    limit = relative(_DECODE)
    yield Check("decode step alone, no dispatch term", "ms", m["alone_ms"], alone / _MILLI, limit, why=why)
    cost = with_dispatch(bare, Step(m["active"], m["active"], m["layers"], 1, m["alone_ms"] * _MILLI))
    alone = cost.step_s(m["active"], m["active"], m["layers"], 1, mixture=True)
    yield Check("decode step alone, with dispatch", "ms", m["alone_ms"], alone / _MILLI, limit, fitted=True)
    full = cost.step_s(m["parameters"], m["active"], m["layers"], m["batch"], mixture=True)
    yield Check(f"decode step of {m['batch']}, same dispatch", "ms", m["batch_ms"], full / _MILLI, limit)
