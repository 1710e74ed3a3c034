"""Where a gap between a simulated run and a measured one comes from: how much of each part of a request would close it.

The measured requests are simulated as they came; then each part is changed by itself, and the changes that together explain what
was measured best are found by least squares. The fewest parts that explain it are named: five together would explain what one did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from waferline.arrays import AnyArray, FloatArray
from waferline.errors import FileFormatError
from waferline.predict.scenario import Scenario
from waferline.simulate.serving.trace import SEEN, read_trace
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.options import ServerOptions
from waferline.traffic.serve import prepared, sent
from waferline.traffic.techniques import with_techniques
from waferline.workloads.step_tables import StepTables

_LEVELS = (10, 50, 90)  # percentiles that are compared
_CAUTION = 0.003  # weight of the square of a change against that of a gap, both as shares
_STEP = 0.1  # by which a part is changed to see what follows
_UNEXPLAINED = 0.1  # of the gap, that fewer parts may leave beyond what all of them leave
_MOST = {
    "prefill": 9.0,
    "decode": 9.0,
    "host": 9.0,
    "client": 9.0,
    "cache": 0.95,
}  # changes, as shares; none falls below _LEAST
_LEAST = -0.9

Steps = Callable[[StepTables, float], StepTables]


def _prefill(steps: StepTables, more: float) -> StepTables:
    return steps._replace(rows_s=steps.rows_s * (1.0 + more), chunk_s=steps.chunk_s * (1.0 + more))


def _decode(steps: StepTables, more: float) -> StepTables:
    return steps._replace(graph_s=steps.graph_s * (1.0 + more), decode_s=steps.decode_s * (1.0 + more))


def _host(steps: StepTables, more: float) -> StepTables:
    """`more` of a decode of one sequence, in every step."""
    extra = more * steps.graph_s[1]
    return steps._replace(rows_s=steps.rows_s + extra, graph_s=steps.graph_s + extra)


_PARTS: Mapping[str, Steps] = {"prefill": _prefill, "decode": _decode, "host": _host}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Medians that were measured and simulated, in seconds, and what would bring the one to the other.

    prefill, decode: factors on the time of steps with and without prompts; host_s: more in every step; client_s: more around a
    request; cached_share: of the prompts' tokens. before, after: root mean square of measured / simulated - 1.
    """

    measured: Mapping[str, float]
    simulated: Mapping[str, float]
    prefill: float
    decode: float
    host_s: float
    client_s: float
    cached_share: float
    before: float
    after: float
    how: str = "simulated"

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def calibrate(scenario: Scenario, path: str | Path, options: ServerOptions | None = None) -> Calibration:
    """Compare `scenario` with a log of requests that states their latencies (`ttft_s`, `e2e_s`).

    Raises: FileFormatError for a log without them; as `simulate_serving`.
    """
    trace = read_trace(path)
    if any(name not in trace for name in SEEN):
        raise FileFormatError("no latencies to compare with", where=str(path), hint="columns " + " and ".join(SEEN))
    scenario, options = with_techniques(scenario, options)
    measured = _levels(trace["ttft_s"], trace["e2e_s"], trace["output_tokens"])
    base, step_s, client = _simulated(scenario, trace, options, "", 0.0)
    names = [*_PARTS, "client", "cache"]
    slopes = []
    for name in names:
        changed, _, _ = _simulated(scenario, trace, options, name, _STEP)
        slopes.append((changed / base - 1.0) / _STEP)
    gap = measured / base - 1.0
    found, left = _fewest(np.array(slopes).T, gap, names)
    prefill, decode, host, around, cache = (float(x) for x in found)
    host_s, client_s = host * step_s, around * client
    both = _named(measured), _named(base)
    return Calibration(*both, 1.0 + prefill, 1.0 + decode, host_s, client_s, max(cache, 0.0), _rms(gap), _rms(left))


def _fewest(slopes: FloatArray, gap: FloatArray, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """(the change of every part, what is left of the gap), with as few parts changed as explain nearly as much as all do."""
    every = range(len(names))
    enough = _rms(_least_squares(slopes, gap, names, tuple(every))[1]) + _UNEXPLAINED * _rms(gap)
    for size in every:
        tried = [_least_squares(slopes, gap, names, parts) for parts in combinations(every, size)]
        best = min(tried, key=lambda one: _rms(one[1]))
        if _rms(best[1]) <= enough:
            return best
    return _least_squares(slopes, gap, names, tuple(every))


def _least_squares(
    slopes: FloatArray, gap: FloatArray, names: Sequence[str], parts: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    changes = np.zeros(len(names))
    if parts:
        chosen, caution = slopes[:, parts], np.sqrt(_CAUTION) * np.eye(len(parts))
        changes[list(parts)] = lsq_linear(
            np.vstack([chosen, caution]),
            np.append(gap, np.zeros(len(parts))),
            bounds=(_LEAST, [_MOST[names[i]] for i in parts]),
        ).x
    return changes, gap - slopes @ changes


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _simulated(
    scenario: Scenario, trace: Mapping[str, AnyArray], options: ServerOptions, part: str, more: float
) -> tuple[FloatArray, float, float]:
    """(levels of latencies, seconds of a decode of one, seconds around a request), with one part changed."""
    requests = sent(Traffic(trace={k: v for k, v in trace.items() if k not in SEEN}), options)
    ready = prepared(scenario, requests, options)
    if part == "cache":  # a share of every prompt is there before
        rest = np.maximum((requests.prompt * (1.0 - more)).astype(np.int64), 1)
        requests = requests._replace(prompt=rest, node=requests.node[:0], node_from=np.zeros_like(requests.node_from))
    server = ready.server
    if part in _PARTS:
        server = replace(server, steps=_PARTS[part](server.steps, more))
    server.run(requests, ready.replicas, ready.plan)
    client = server.scheduler.client
    around = float(np.median(requests.first - requests.arrival))  # what a change of the client is counted in
    ttft = (
        requests.first
        - requests.arrival
        + client.before_s
        + client.token_s
        + (around * more if part == "client" else 0.0)
    )
    e2e = ttft + requests.last - requests.first + client.token_s * (requests.output - 1) + client.after_s
    return _levels(ttft, e2e, requests.output), float(server.steps.graph_s[1]), around


def _levels(ttft: FloatArray, e2e: FloatArray, output: AnyArray) -> FloatArray:
    """Percentiles of TTFT and TPOT. Raises: FileFormatError where no request made two tokens, or a latency is none."""
    several = np.asarray(output) > 1
    if not several.any() or not ((ttft > 0.0) & (e2e >= ttft)).all():
        raise FileFormatError("latencies must be above 0, and of more than one token somewhere", where="the log")
    tpot = (e2e - ttft)[several] / (np.asarray(output)[several] - 1)
    return np.maximum(np.concatenate([np.percentile(ttft, _LEVELS), np.percentile(tpot, _LEVELS)]), 1e-9)


def _named(levels: FloatArray) -> dict[str, float]:
    return {
        f"{m}_p{p}_s": float(v)
        for (m, p), v in zip(((m, p) for m in ("ttft", "tpot") for p in _LEVELS), levels, strict=True)
    }
