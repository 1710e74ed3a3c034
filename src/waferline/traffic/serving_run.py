"""What users saw: latencies with percentiles, rates, memory over time, and whether the server keeps up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.predict.scenario import Answer
from waferline.simulate.serving.loop import GAP_BINS, LEAST_GAP_S, MOST_GAP_S, SAMPLE_COLUMNS
from waferline.simulate.serving.state import Requests
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.scheduler import Scheduler
from waferline.traffic.slo import Goal, against

PERCENTILES = (50, 90, 95, 99)
METRICS = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
_GROWING = (
    0.25  # of the requests of a run: a queue that grows by more from its middle to its last arrival is no steady one
)


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
        about = {key: self.answer.result.about[key] for key in ("model", "hardware", "engine", "precision")}
        sources = [*self.scheduler.sources, *self.answer.result.sources]
        return {"how": self.how, **about, "verdict": self.verdict, **self.values, "sources": sources}


def run_of(
    runs: Sequence[tuple[Any, ...]],
    requests: Requests,
    scheduler: Scheduler,
    answer: Answer,
    traffic: Traffic,
    goals: tuple[Goal, ...],
) -> ServingRun:
    """Numbers of runs of replicas, whose requests' fates stand in `requests`."""
    client, replicas = scheduler.client, len(runs)
    ttft = client.before_s + requests.first - requests.arrival + client.token_s
    decoding = requests.last - requests.first + client.token_s * (requests.output - 1)
    e2e = ttft + decoding + client.after_s
    several = requests.output > 1
    tpot = np.where(several, decoding / np.maximum(requests.output - 1, 1), np.nan)
    steps, busy = sum(int(r[0]) for r in runs), sum(float(r[1]) for r in runs)
    gaps = np.sum([r[3] for r in runs], axis=0)
    end, start = float(requests.last.max()), float(requests.arrival.min())
    duration = max(end - start, 1e-12)
    values: dict[str, Any] = {
        "requests": len(requests.arrival),
        "duration_s": duration,
        **_spread("ttft_s", ttft),
        **_spread("tpot_s", tpot[several]),
        **_gap_spread(gaps, client.token_s),
        **_spread("e2e_s", e2e),
        "request_per_s": len(requests.arrival) / duration,
        "output_tokens_per_s": float(requests.output.sum()) / duration,
        "total_tokens_per_s": float((requests.output + requests.prompt).sum()) / duration,
        "devices": int(answer.result["devices"]),
        "steps": steps,
        "busy_share": busy / replicas / duration,
        "preemptions": int(requests.preempted.sum()),
    }
    samples = dict(zip(SAMPLE_COLUMNS, np.asarray(runs[0][2]).T, strict=True))
    weight = samples["step_s"]
    values["running_mean"] = float(np.average(samples["running"], weights=weight)) * replicas
    values["memory_share_mean"] = float(np.average(samples["memory_share"], weights=weight))
    columns = {
        "arrival_s": requests.arrival,
        "prompt_tokens": requests.prompt,
        "output_tokens": requests.output,
        "queue_s": requests.admitted - requests.arrival,
        "ttft_s": ttft,
        "tpot_s": tpot,
        "e2e_s": e2e,
        "preemptions": requests.preempted,
    }
    if goals:
        values |= against(goals, columns, duration)
    return ServingRun(values, samples, columns, answer, scheduler, _verdict(requests, traffic))


def _spread(name: str, values: FloatArray) -> dict[str, float]:
    """Mean and percentiles of one latency; nothing where no request has one."""
    if not values.size:
        return {}
    stem = name.removesuffix("_s")
    found = dict(zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True))
    return {f"{stem}_mean_s": float(values.mean()), **{f"{stem}_p{p}_s": float(v) for p, v in found.items()}}


def _gap_spread(gaps: AnyArray, token_s: float) -> dict[str, float]:
    """The same of the gaps between tokens, from their histogram."""
    total = gaps.sum()
    if not total:
        return {}
    edges = LEAST_GAP_S * (MOST_GAP_S / LEAST_GAP_S) ** (np.arange(GAP_BINS + 1) / GAP_BINS)
    middles = np.sqrt(edges[:-1] * edges[1:]) + token_s
    below = np.cumsum(gaps) / total
    found = {p: float(middles[np.searchsorted(below, p / 100.0)]) for p in PERCENTILES}
    return {"itl_mean_s": float((gaps * middles).sum() / total), **{f"itl_p{p}_s": v for p, v in found.items()}}


def _verdict(requests: Requests, traffic: Traffic) -> str:
    """stable, or overloaded where an open load's queue grows until the last request has come."""
    if traffic.rate_per_s is None and traffic.trace is None:
        return "all served"
    n = requests.arrival.size
    order = np.argsort(requests.arrival, kind="stable")
    ends = np.sort(requests.last)
    at = [requests.arrival[order[i]] for i in (n // 2, n - 1)]
    middle, last = (
        np.searchsorted(requests.arrival[order], t, "right") - np.searchsorted(ends, t, "right") for t in at
    )
    return "overloaded" if last - middle > _GROWING * (n - n // 2) else "stable"
