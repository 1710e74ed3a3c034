"""What users saw: latencies with percentiles, rates, memory over time, and whether the server keeps up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.predict.run import Answer
from waferline.predict.scenario import Scenario
from waferline.simulate.serving.replica_step import GAP_BINS, LEAST_GAP_S, MOST_GAP_S, SAMPLE_COLUMNS
from waferline.simulate.serving.state import (
    BUSY_S,
    FULL_S,
    FULL_TOKENS,
    MEMORY_S,
    MOVED_BYTES,
    RUNNING_S,
    STEPS,
    UP_S,
    Requests,
)
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.expense import expenses
from waferline.traffic.scheduler import Scheduler
from waferline.traffic.server import FleetRun
from waferline.traffic.slo import Goal, against
from waferline.traffic.verdict import verdict_of

PERCENTILES = (50, 90, 95, 99)
METRICS = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
_OF_THE_QUEUE = ("ttft", "e2e")  # latencies that grow with an overloaded run


@dataclass(frozen=True)
class ServingRun:
    """A simulated run. `values`: numbers by name, SI; `samples`: the state over time by column; `per_request`: by column."""

    values: Mapping[str, Any]
    samples: Mapping[str, FloatArray]
    per_request: Mapping[str, AnyArray]
    answer: Answer
    scheduler: Scheduler
    verdict: str
    how: str = "simulated"

    def to_json(self) -> dict[str, Any]:
        said = ("model", "hardware", "engine", "precision", "techniques")
        about = {key: value for key, value in self.answer.result.about.items() if key in said}
        values = {name: value for name, value in self.values.items() if value is not None}
        if self.verdict == "overloaded":  # they say how long the run was: no figure of the server
            grown = {name: value for name, value in values.items() if name.split("_")[0] in _OF_THE_QUEUE}
            values |= {**dict.fromkeys(grown), "of_this_run": grown}
        sources = [*self.scheduler.sources, *self.answer.result.sources]
        return {"how": self.how, **about, "verdict": self.verdict, **values, "sources": sources}


def run_of(
    ran: FleetRun,
    requests: Requests,
    scheduler: Scheduler,
    answer: Answer,
    asked: Scenario,
    traffic: Traffic,
    goals: tuple[Goal, ...],
    devices: int,
    capacity: float | None,
) -> ServingRun:
    """Numbers of a run of a fleet, from the requests' fates and what the replicas counted."""
    columns = latencies(requests, scheduler)
    several = requests.output > 1
    end, start = float(requests.last.max()), float(requests.arrival.min())
    duration = max(end - start, 1e-12)
    sums = ran.fleet.sums.sum(axis=0)
    values: dict[str, Any] = {
        "requests": len(requests.arrival),
        "duration_s": duration,
        **_spread("ttft_s", columns["ttft_s"]),
        **_spread("tpot_s", columns["tpot_s"][several]),
        **_gap_spread("itl", ran.gaps.sum(axis=0), scheduler.client.token_s),
        **_gap_spread("full_itl", ran.gaps[1], scheduler.client.token_s),
        **_spread("e2e_s", columns["e2e_s"]),
        "request_per_s": len(requests.arrival) / duration,
        "output_tokens_per_s": float(requests.output.sum()) / duration,
        "total_tokens_per_s": float((requests.output + requests.prompt).sum()) / duration,
        "full_output_tokens_per_s": float(sums[FULL_TOKENS] / sums[FULL_S]) * ran.fleet.active.size
        if sums[FULL_S]
        else None,
        "capacity_request_per_s": capacity,
        "devices": devices,
        "replicas_mean": float(sums[UP_S]) / max(end, 1e-12),
        "steps": int(sums[STEPS]),
        "busy_share": float(sums[BUSY_S] / max(sums[UP_S], 1e-12)),
        "preemptions": int(requests.preempted.sum()),
        "cut_off": ran.cut_off,
        "prefix_hit_share": float(requests.hits.sum() / requests.prompt.sum()),
        "running_mean": float(sums[RUNNING_S] / max(sums[BUSY_S], 1e-12)) * float(sums[UP_S]) / max(end, 1e-12),
        "memory_share_mean": float(sums[MEMORY_S] / max(sums[BUSY_S], 1e-12)),
        "kv_moved_bytes": float(sums[MOVED_BYTES]),
        **expenses(ran, requests, asked, answer.device, devices),
    }
    samples = dict(zip(SAMPLE_COLUMNS, np.asarray(ran.samples).T, strict=True))
    if goals:
        values |= against(goals, columns, duration)
    if traffic.tenants:
        owner = traffic.owners(_begins(requests))
        columns["tenant"] = np.array([t.name for t in traffic.tenants])[owner]
        values["tenants"] = {t.name: _of_tenant(columns, owner == i) for i, t in enumerate(traffic.tenants)}
    verdict = verdict_of(
        requests, traffic.rate_per_s is not None or traffic.trace is not None, traffic.rate_per_s, capacity
    )
    return ServingRun(values, samples, columns, answer, scheduler, verdict)


def latencies(requests: Requests, scheduler: Scheduler) -> dict[str, AnyArray]:
    """Latencies of every request as its client sees them."""
    client = scheduler.client
    ttft = client.before_s + requests.first - requests.arrival + client.token_s
    decoding = requests.last - requests.first + client.token_s * (requests.output - 1)
    return {
        "arrival_s": requests.arrival,
        "prompt_tokens": requests.prompt,
        "output_tokens": requests.output,
        "cached_tokens": requests.hits,
        "replica": requests.home,
        "queue_s": requests.admitted - requests.arrival,
        "ttft_s": ttft,
        "tpot_s": np.where(requests.output > 1, decoding / np.maximum(requests.output - 1, 1), np.nan),
        "e2e_s": ttft + decoding + client.after_s,
        "preemptions": requests.preempted,
    }


def _begins(requests: Requests) -> AnyArray:
    """Which requests begin a conversation: those that follow none, or the last of another client's."""
    first = np.ones(requests.then.size, bool)
    at = np.arange(requests.then.size - 1)
    first[1:] = requests.then[:-1] != at + 1
    return first


def _of_tenant(columns: Mapping[str, AnyArray], mine: AnyArray) -> dict[str, Any]:
    """What one tenant's requests saw."""
    found: dict[str, Any] = {"requests": int(np.count_nonzero(mine))}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        values = columns[name][mine]
        found |= _spread(name, values[~np.isnan(values)])
    return found


def _spread(name: str, values: FloatArray) -> dict[str, float]:
    """Mean and percentiles of one latency; nothing where no request has one."""
    if not values.size:
        return {}
    stem = name.removesuffix("_s")
    found = dict(zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True))
    return {f"{stem}_mean_s": float(values.mean()), **{f"{stem}_p{p}_s": float(v) for p, v in found.items()}}


def _gap_spread(name: str, gaps: AnyArray, token_s: float) -> dict[str, float]:
    """The same of the gaps between tokens, from their histogram."""
    total = gaps.sum()
    if not total:
        return {}
    edges = LEAST_GAP_S * (MOST_GAP_S / LEAST_GAP_S) ** (np.arange(GAP_BINS + 1) / GAP_BINS)
    middles = np.sqrt(edges[:-1] * edges[1:]) + token_s
    below = np.cumsum(gaps) / total
    found = {p: float(middles[np.searchsorted(below, p / 100.0)]) for p in PERCENTILES}
    return {f"{name}_mean_s": float((gaps * middles).sum() / total), **{f"{name}_p{p}_s": v for p, v in found.items()}}
