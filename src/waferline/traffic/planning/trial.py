"""Candidates simulated under the traffic: with how few replicas, and which options of the engine, the goals hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import WaferlineError
from waferline.predict.engine import get_engine
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.options import MOST_REPLICAS, ServerOptions
from waferline.traffic.planning.candidate import Asked, Candidate
from waferline.traffic.planning.chance import chance, keeps_up
from waferline.traffic.serve import prepared, sent, simulate_serving
from waferline.traffic.serving_run import latencies
from waferline.traffic.slo import Goal
from waferline.traffic.techniques import with_techniques
from waferline.traffic.verdict import VERDICTS, verdict_of

_REQUESTS, _CONFIRMING = 800, 3000  # of one replica: to search with, and to answer with
_MOST_REQUESTS = 8000  # of a fleet that is simulated as a whole
_HELPS = 0.98  # a replica more that leaves more of a latency than that does not help
# Times the replicas of the closed form, where one shows what all do, and where all are simulated.
_FAR, _FAR_WHOLE = 32, 3
_FEW = 2  # replicas whose capacity is looked for, too
_STEPS = 4  # of the search for the most that a rate may be


@dataclass(frozen=True)
class Trial:
    """A candidate as it was simulated. seen: the latency that each goal is held against; values: of the confirming run."""

    candidate: Candidate
    options: ServerOptions
    seen: Mapping[Goal, float]
    verdict: str
    probability: float
    values: Mapping[str, Any]
    holds: bool
    bound: str = ""  # what one replica fewer misses

    @property
    def over(self) -> float:
        """The farthest latency over its goal; 0 without goals."""
        return max((v / g.limit_s for g, v in self.seen.items()), default=0.0)

    @property
    def ran(self) -> bool:
        """Whether it could be simulated; else the verdict says why not."""
        return self.verdict in VERDICTS

    @property
    def binding(self) -> str:
        """What keeps fewer replicas from doing, else what is tightest here."""
        if self.bound or not self.seen or self.verdict == "overloaded":
            return self.bound or "the rate"
        tight = max(self.seen, key=lambda g: self.seen[g] / g.limit_s)
        return f"{tight.name} ({self.seen[tight]:.3g} s)"

    @property
    def order(self) -> tuple[float, ...]:
        """Cheaper first, then surer."""
        return (*self.candidate.order, -self.probability)

    def to_json(self) -> dict[str, Any]:
        shown = {k: v for k, v in self.values.items() if k.startswith(("ttft", "tpot", "e2e", "energy", "cost", "slo"))}
        own = {"verdict": self.verdict, "holds": self.holds, "probability": self.probability, "binding": self.binding}
        usual = ServerOptions()
        given = {
            n: v for n in ServerOptions.__slots__ if n != "slo" and (v := getattr(self.options, n)) != getattr(usual, n)
        }
        return {**self.candidate.to_json(), **own, "options": given, "simulated": shown}


@dataclass(frozen=True)
class Trials:
    """How candidates are tried: traffic of the whole fleet, options that are given, the probability that is enough, and dollars an
    hour that may be spent."""

    asked: Asked
    traffic: Traffic
    options: ServerOptions
    confidence: float
    budget: float | None
    tell: Callable[[str], None]

    def fewest(self, c: Candidate, options: ServerOptions | None = None) -> Trial:
        """`c` with as few replicas as hold the goals, found by halving; else with those that come nearest."""
        whole = part_of(self.traffic, options or self.options, 2) is None or self.asked.techniques
        most = min(MOST_REPLICAS // c.dp, (_FAR_WHOLE if whole else _FAR) * (c.replicas + 1))
        if self.budget is not None and np.isfinite(c.usd_per_h):
            most = min(most, int(self.budget / (c.usd_per_h / c.replicas)))
        first = min(c.replicas, most)
        if first < 1:
            return self.at(c, options)
        best = trial = self.at(c.with_replicas(first), options)
        if not trial.ran:
            return trial
        fails, step = (0, max(first // 8, 1)) if trial.holds else (first, max(first // 4, 1))
        while trial.holds == best.holds:  # away from the first count until the answer turns
            n = trial.candidate.replicas + (-step if best.holds else step)
            n = max(n, 1) if best.holds else min(n, most)
            if n == trial.candidate.replicas:
                break
            before, trial, step = trial, self.at(c.with_replicas(n), options), step * 2
            if trial.holds:
                best = trial
                if not before.holds:
                    break
            else:
                fails = n
                if not before.holds and (
                    trial.over > before.over * _HELPS if trial.seen else before.verdict != "overloaded"
                ):
                    return min(before, trial, key=lambda t: t.over)
                best = best if best.holds else trial
        while best.holds and best.candidate.replicas - fails > 1:
            middle = self.at(c.with_replicas((best.candidate.replicas + fails) // 2), options)
            if middle.holds:
                best = middle
            else:
                fails = middle.candidate.replicas
        return best

    def at(self, c: Candidate, options: ServerOptions | None = None, traffic: Traffic | None = None) -> Trial:
        """`c` with its replicas, under `traffic` of the whole fleet instead of what is planned for."""
        return self._run(c, options or self.options, traffic or self.traffic, None)

    def confirmed(self, trial: Trial, most: int | None = None) -> Trial:
        """The trial with more requests of another draw, and everything that a run says. More replicas where they are needed,
        up to `most`, or two more than twice as many."""
        again = replace(self.traffic, seed=self.traffic.seed + 1) if self.traffic.trace is None else self.traffic
        found = self._run(trial.candidate, trial.options, again, _CONFIRMING)
        if found.holds:
            c = trial.candidate
            fewer = (
                None
                if c.replicas - trial.options.prefill_replicas < 2
                else self.at(c.with_replicas(c.replicas - 1), trial.options)
            )
            return replace(found, bound="one replica is the least" if fewer is None else fewer.binding)
        most = 2 * trial.candidate.replicas + 2 if most is None else most
        more = trial.candidate.with_replicas(trial.candidate.replicas + 1)
        over = self.budget is not None and not more.usd_per_h <= self.budget
        return found if over or more.replicas > most else self.confirmed(replace(trial, candidate=more), most)

    def _run(self, c: Candidate, options: ServerOptions, traffic: Traffic, confirming: int | None) -> Trial:
        refused = lambda why: Trial(c, options, dict.fromkeys(self.asked.goals, math.inf), why, 0.0, {}, False)  # noqa: E731
        try:
            scenario, served = with_techniques(c.scenario(self.asked, 1), options)
        except WaferlineError as error:
            return refused(str(error))
        part = part_of(traffic, served, c.replicas)
        replicas, load = (1, part) if part is not None else (c.replicas - served.prefill_replicas, traffic)
        if replicas < 1:
            return refused("overloaded")
        if load.trace is None:
            enough = (confirming or _REQUESTS) * (1 if part is not None else replicas)
            wanted = 1 if traffic.requests == Traffic().requests else math.ceil(traffic.requests / c.replicas)
            least = max(traffic.requests, 4 * (traffic.clients or 0), replicas) if part is None else wanted
            load = replace(load, requests=max(min(enough, _MOST_REQUESTS), least))
        scenario = replace(scenario, dp=c.dp * replicas)
        self.tell(f"{c.replicas} × {c.device.name} {c.precision} tp{c.tp} pp{c.pp}")
        values: Mapping[str, Any] = {}
        try:
            if confirming:
                # What a fleet can do takes thousands of requests of every replica: it is asked of few.
                ran = simulate_serving(replace(scenario, intervals=c.dp * replicas <= _FEW), load, options)
                values, verdict, columns = ran.values, ran.verdict, ran.per_request
            else:
                requests = sent(load, served)
                ready = prepared(scenario, requests, served)
                ready.server.run(requests, ready.replicas, ready.plan)
                columns = latencies(requests, ready.server.scheduler)
                verdict = verdict_of(requests, load.rate_per_s is not None or load.trace is not None, None, None)
        except WaferlineError as error:
            return refused(str(error))
        seen = {g: _seen(columns[f"{g.metric}_s"], g) for g in self.asked.goals}
        rate = len(columns["arrival_s"]) / max(float(np.ptp(columns["arrival_s"])), 1e-9)
        capacity = values.get("capacity_request_per_s") or math.inf
        likely = 0.0 if verdict == "overloaded" else min(chance(c.engine, seen), keeps_up(c.engine, capacity / rate))
        inside = verdict != "overloaded" and all(v <= g.limit_s for g, v in seen.items())
        return Trial(c, options, seen, verdict, likely, values, inside and likely >= self.confidence)

    def tuned(self, trial: Trial) -> Trial:
        """The trial, or one with other options of the engine that holds with fewer replicas, or as many and more surely."""
        best = trial
        for options in variants(trial):
            found = self._better(best, options)
            best = found if found.holds and found.order < best.order else best
        return best

    def _better(self, best: Trial, options: ServerOptions) -> Trial:
        """`best` with other options: one replica fewer while that holds, else as many."""
        found, c = best, best.candidate
        least = options.prefill_replicas + 1
        for n in range(c.replicas - 1, least - 1, -1):
            trial = self.at(c.with_replicas(n), options)
            if not trial.holds:
                break
            found = trial
        return found if found is not best else self.at(c, options)

    def most_rate(self, trial: Trial) -> float | None:
        """Requests a second up to which its replicas hold the goals; None where the traffic has no rate to raise."""
        rate = self.traffic.rate_per_s
        if rate is None or part_of(self.traffic, trial.options, 2) is None:
            return None
        holds, fails = 1.0, 0.0
        for _ in range(2 * _STEPS):
            factor = holds * 1.3 if not fails else (holds + fails) / 2.0
            if fails and fails / holds < 1.03:
                break
            if self.at(trial.candidate, trial.options, replace(self.traffic, rate_per_s=rate * factor)).holds:
                holds = factor
            else:
                fails = factor
        return rate * holds


def part_of(traffic: Traffic, options: ServerOptions, replicas: int) -> Traffic | None:
    """What one of `replicas` receives in distribution from a router that takes turns; None where only the whole fleet shows it.

    Every n-th of arrivals whose gaps are gamma distributed (exponential ones are) is one of gamma gaps with cv / sqrt(n).
    """
    apart = options.prefill_replicas or options.autoscale or options.failures
    if apart or options.router not in (None, "round-robin") or traffic.rate_per_s is None or traffic.trace is not None:
        return None
    if replicas == 1:
        return traffic
    how = traffic.how()
    if how not in ("poisson", "gamma", "constant") or str(traffic.turns) != "1" or traffic.distinct is not None:
        return None
    each = replace(traffic, rate_per_s=traffic.rate_per_s / replicas)
    if how == "constant":
        return each
    return replace(each, arrival="gamma", cv=max((1.0 if how == "poisson" else traffic.cv) / math.sqrt(replicas), 1e-3))


def variants(trial: Trial) -> list[ServerOptions]:
    """Options of the engine that may serve better than its defaults: steps of fewer or more tokens, fewer sequences, prefill on
    replicas of its own. Those that were given stay."""
    c, given = trial.candidate, trial.options
    limits = get_engine(c.engine).running_on(c.device).limits(c.device)
    found = []
    if given.max_num_batched_tokens is None:
        usual = limits.chunk_tokens
        found += [replace(given, max_num_batched_tokens=n) for n in (1024, 4096, 16384) if not 0.5 < n / usual < 2.0]
    if given.max_num_seqs is None and c.running < limits.sequences / 2:
        found.append(replace(given, max_num_seqs=max(math.ceil(c.running * 1.5), 1)))
    apart = (
        c.replicas > 1
        and c.dp == 1
        and given.router is None
        and (c.device.link("scale-out") or c.device.link("scale-up"))
    )
    if apart and not given.prefill_replicas:
        ratio = c.values["prefill_share"]
        found.append(replace(given, prefill_replicas=min(max(round(c.replicas * ratio), 1), c.replicas - 1)))
    return found


def _seen(values: Any, goal: Goal) -> float:
    """The latency that a goal is held against; without a percentile that of 99 % of the requests."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, goal.percentile or 99.0)) if finite.size else 0.0
