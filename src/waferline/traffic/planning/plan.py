"""`plan`: the cheapest way to serve a model under a load that holds its goals, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError, WaferlineError
from waferline.machines.hardware import load_hardware
from waferline.machines.memory_size import with_memory
from waferline.predict.scenario import Scenario
from waferline.simulate.serving.traffic import Traffic
from waferline.systems.place import Place
from waferline.traffic.options import ServerOptions
from waferline.traffic.planning.candidate import Candidate, Load, candidates
from waferline.traffic.planning.commands import commands
from waferline.traffic.serve import simulate_serving
from waferline.traffic.slo import Goal, goals_of
from waferline.units import JOULES_PER_KWH
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer

_FINALISTS = 4  # of other machines or formats, that are simulated
_TRIES = 3  # replicas more or fewer that a finalist is given
_REQUESTS = 400  # of a replica
_MOST_REQUESTS = 4000
_Q90 = 1.6449  # of a normal distribution: the ends of a 90 % interval


@dataclass(frozen=True)
class Finalist:
    """A candidate with what a simulated run of it says, and the probability that it holds every goal."""

    candidate: Candidate
    values: Mapping[str, Any]
    verdict: str
    holds: bool
    probability: float
    binding: str

    def to_json(self) -> dict[str, Any]:
        shown = {k: v for k, v in self.values.items() if k.startswith(("ttft", "tpot", "e2e", "energy", "cost", "slo"))}
        own = {"verdict": self.verdict, "holds": self.holds, "probability": self.probability, "binding": self.binding}
        return {**self.candidate.to_json(), **own, "simulated": shown}


@dataclass(frozen=True)
class Plan:
    """The answer. best: the cheapest that holds, or None; nearest: then what could be asked instead."""

    model: str
    best: Finalist | None
    runner_up: Finalist | None
    tried: int
    ranked: tuple[Candidate, ...]
    changes: tuple[str, ...]
    nearest: str
    refused: Mapping[str, str]
    commands: Mapping[str, str]
    region: str

    def to_json(self) -> dict[str, Any]:
        return {
            "how": "simulated",
            "model": self.model,
            "candidates": self.tried,
            "plan": None if self.best is None else {**self.best.to_json(), **self.place()},
            "runner_up": None if self.runner_up is None else self.runner_up.to_json(),
            "would_change": self.changes,
            "nearest": self.nearest or None,
            "refused": self.refused,
            "commands": self.commands,
            "region": self.region,
        }

    def place(self) -> dict[str, float]:
        """Energy and carbon of a request of the plan, the whole facility's, where it stands."""
        if self.best is None or "energy_j_per_request" not in self.best.values:
            return {}
        place = Place.of(self.region, None)
        whole = float(self.best.values["energy_j_per_request"]) * place.pue
        grams = whole / JOULES_PER_KWH * place.g_per_kwh
        return {"pue": place.pue, "facility_j_per_request": whole, "carbon_g_per_request": grams}


def plan(
    model: Any,
    *,
    rate_per_s: float,
    machines: Sequence[Any],
    prompt: str | int = 1024,
    output: str | int = 256,
    slo: str = "",
    precisions: Sequence[str | None] = (None,),
    engine: str | None = None,
    budget_usd_per_h: float | None = None,
    region: str | None = None,
    memory: str | None = None,
) -> Plan:
    """What to deploy for `rate_per_s` requests a second, so that the goals of `slo` hold for at most `budget_usd_per_h`.

    machines, precisions: those to choose from; None is as the model ships. prompt, output: tokens or a distribution of them.
    Raises: InvalidInputError, UnknownNameError, UnsupportedError; DoesNotFitError where nothing holds the model.
    """
    spec = load_model(model)
    if not isinstance(spec, Transformer) or not spec.has_head:
        raise InvalidInputError(f"{spec.name} does not generate tokens: a plan serves a language model")
    goals = goals_of(slo) if slo else ()
    traffic = Traffic(rate_per_s=rate_per_s, prompt=prompt, output=output).checked()
    where = Place.of(region, None).name
    devices = [with_memory(load_hardware(name), memory)[0] for name in machines]
    sample = traffic.sent()
    load = Load(rate_per_s, *(max(round(float(tokens.mean())), 1) for tokens in (sample.prompt, sample.output)))
    every, refused = candidates(spec, devices, precisions, engine, load, goals)
    if not every:
        raise DoesNotFitError(f"nothing asked holds {spec.name}: {next(iter(refused.values()), 'no machine')}")
    good = [c for c in every if not c.missed]
    inside = [c for c in good if _within(c, budget_usd_per_h)]
    held = sorted(
        (f for f in (_finalist(spec, c, traffic, goals, slo, budget_usd_per_h) for c in _distinct(inside)) if f.holds),
        key=lambda f: f.candidate.order,
    )
    best = held[0] if held else None
    return Plan(
        model=spec.name,
        best=best,
        runner_up=held[1] if len(held) > 1 else None,
        tried=len(every),
        ranked=tuple(inside[:10]),
        changes=_changes(every, goals, best) if best else (),
        nearest="" if best else _nearest(every, good, goals, budget_usd_per_h),
        refused=refused,
        commands=commands(best.candidate, int(np.max(sample.prompt + sample.output))) if best else {},
        region=where,
    )


def _within(candidate: Candidate, budget: float | None) -> bool:
    return budget is None or bool(candidate.usd_per_h <= budget)  # an unknown price is inside no budget


def _distinct(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The best of each machine and format, no more than are simulated."""
    first: dict[tuple[str, str], Candidate] = {}
    for c in ranked:
        first.setdefault((c.device.name, c.precision), c)
    return list(first.values())[:_FINALISTS]


def _finalist(
    spec: Transformer, c: Candidate, traffic: Traffic, goals: Sequence[Goal], slo: str, budget: float | None
) -> Finalist:
    """`c` simulated, with one replica more where it misses and one fewer where it holds, while that helps."""
    now = _simulated(spec, c, traffic, goals, slo)
    step = -1 if now.holds else 1
    for _ in range(_TRIES):
        more = now.candidate.replicas + step
        if more < 1 or not _within(now.candidate.with_replicas(more), budget):
            break
        other = _simulated(spec, now.candidate.with_replicas(more), traffic, goals, slo)
        if step < 0 and not other.holds:
            break
        now = other
        if step > 0 and now.holds:
            break
    return now


def _simulated(spec: Transformer, c: Candidate, traffic: Traffic, goals: Sequence[Goal], slo: str) -> Finalist:
    scenario = Scenario(
        model=spec, machine=c.device, precision=c.precision, engine=c.engine, tp=c.tp, pp=c.pp if c.pp > 1 else None,
        ep=c.ep if c.ep > 1 else None, dp=c.replicas, intervals=False,
    )  # fmt: skip
    sized = replace(traffic, requests=min(max(_REQUESTS * c.replicas, 1000), _MOST_REQUESTS))
    try:
        run = simulate_serving(scenario, sized, ServerOptions(slo=slo or None))
    except WaferlineError as error:
        return Finalist(c, {}, str(error), False, 0.0, "cannot be simulated")
    seen = {g: _seen(run.per_request[f"{g.metric}_s"], g) for g in goals}
    holds = run.verdict != "overloaded" and all(v <= g.limit_s for g, v in seen.items())
    tight = max(seen, key=lambda g: seen[g] / g.limit_s, default=None)
    binding = "the rate" if tight is None or run.verdict == "overloaded" else f"{tight.name} ({seen[tight]:.3g} s)"
    chance = min((_probability(c, g, v) for g, v in seen.items()), default=1.0) if run.verdict != "overloaded" else 0.0
    return Finalist(c, run.values, run.verdict, holds, chance, binding)


def _seen(values: Any, goal: Goal) -> float:
    """The latency that a goal is held against; without a percentile that of 99 % of the requests."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, goal.percentile or 99.0)) if finite.size else 0.0


def _probability(c: Candidate, goal: Goal, value: float) -> float:
    """That the true latency is inside its goal: log-normal, with the residuals that published loads leave to the closed form."""
    name = f"{goal.metric}"
    mean, low, high = (c.values.get(f"{name}{end}_s") for end in ("", "_low90", "_high90"))
    if mean is None or low is None or high is None or not 0.0 < low < high:
        return float(value <= goal.limit_s)
    middle, spread = math.log(math.sqrt(low * high) / mean), math.log(high / low) / (2.0 * _Q90)
    z = (math.log(goal.limit_s / max(value, 1e-9)) - middle) / spread
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


def _price(c: Candidate) -> str:
    cost = f"${c.usd_per_h:.2f}/h" if np.isfinite(c.usd_per_h) else "price not known"
    return f"{c.devices} × {c.device.name} {c.precision} ({cost})"


def _changes(every: Sequence[Candidate], goals: Sequence[Goal], best: Finalist) -> tuple[str, ...]:
    """For each goal, what would be cheaper without it, in closed form."""
    found = []
    for goal in goals:
        for c in every:
            if set(c.missed) <= {goal.name} and c.missed and c.order < best.candidate.order:
                limit = c.values.get(f"{goal.metric}_s", math.nan)
                found.append(f"{goal.name} of {limit:.3g} s instead of {goal.limit_s:.3g} s: {_price(c)}")
                break
    return tuple(found)


def _nearest(every: Sequence[Candidate], good: Sequence[Candidate], goals: Sequence[Goal], budget: float | None) -> str:
    """What could be asked instead."""
    if good and budget is not None and not any(_within(c, budget) for c in good):
        priced = [c for c in good if np.isfinite(c.usd_per_h)]
        if not priced:
            return "no price of these machines is known: leave the budget out"
        return f"a budget of ${priced[0].usd_per_h:.2f}/h: {_price(priced[0])}"
    over = lambda c: max((c.values.get(f"{g.metric}_s", 0.0) / g.limit_s for g in goals), default=0.0)  # noqa: E731
    c = min(every, key=over)
    attained = ", ".join(f"{g.name}={c.values.get(f'{g.metric}_s', math.nan) * 1e3:.4g}ms" for g in goals)
    return f"means of {attained} with {_price(c)}; percentiles under this load are above them"
