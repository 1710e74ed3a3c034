"""`plan`: the cheapest way to serve a model under a load that holds its goals, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.memory_size import with_memory
from waferline.predict.techniques import without_offload
from waferline.simulate.serving.state import Requests
from waferline.simulate.serving.traffic import Traffic
from waferline.systems.place import Place
from waferline.traffic.options import ServerOptions
from waferline.traffic.planning.candidate import Asked, Candidate, Load, candidates
from waferline.traffic.planning.changes import Change, changes, nearest
from waferline.traffic.planning.commands import commands
from waferline.traffic.planning.trial import Trial, Trials
from waferline.traffic.slo import goals_of
from waferline.traffic.techniques import with_techniques
from waferline.units import JOULES_PER_KWH
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer

_FINALISTS = 6  # that are simulated
_MORE = 1.5  # times the replicas of the closed form: with more only where nothing cheaper holds
_CLOSE = 1.15  # times the best of a machine and format: other degrees of it are tried, too
_DEAR = 4.0  # times the cheapest of all: where nothing holds, nobody looks at more


@dataclass(frozen=True)
class Plan:
    """The answer. best: the cheapest that holds, or None; nearest: then what could be asked instead. tried: simulated candidates,
    in the order of their cost; candidates: how many were priced."""

    model: str
    best: Trial | None
    runner_up: Trial | None
    candidates: int
    tried: tuple[Trial, ...]
    changes: tuple[Change, ...]
    nearest: str
    refused: Mapping[str, str]
    commands: Mapping[str, str]
    region: str
    techniques: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "how": "simulated",
            "model": self.model,
            "candidates": self.candidates,
            "plan": None if self.best is None else {**self.best.to_json(), **self.place()},
            "runner_up": None if self.runner_up is None else self.runner_up.to_json(),
            "tried": [t.to_json() for t in self.tried],
            "would_change": [asdict(c) for c in self.changes],
            "nearest": self.nearest or None,
            "refused": self.refused,
            "commands": self.commands,
            "techniques": self.techniques,
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
    machines: Sequence[Any],
    traffic: Traffic,
    slo: str = "",
    precisions: Sequence[str | None] = (None,),
    caches: Sequence[str | None] = (None,),
    engine: str | None = None,
    options: ServerOptions | None = None,
    techniques: Sequence[str] = (),
    budget_usd_per_h: float | None = None,
    confidence: float = 0.5,
    region: str | None = None,
    memory: str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """What to deploy for `traffic`, so that the goals of `slo` hold, at least with probability `confidence`, for at most
    `budget_usd_per_h`.

    machines, precisions, caches (formats of the KV cache): those to choose from; None is as the model ships and the engine does.
    options: what is given of the engine's; the rest is chosen. techniques: as in `run`. tell: is told what is being done.
    Raises: InvalidInputError, UnknownNameError, UnsupportedError; DoesNotFitError where nothing holds the model.
    """
    spec = load_model(model)
    if not isinstance(spec, Transformer) or not spec.has_head:
        raise InvalidInputError(f"{spec.name} does not generate tokens: a plan serves a language model")
    if not machines or not precisions or not caches:
        raise InvalidInputError("a plan needs a machine and a format to choose from")
    if not 0.0 <= confidence < 1.0:
        raise InvalidInputError(f"confidence {confidence:g} is not a share below 1")
    if without_offload(tuple(techniques))[1] is not None:
        raise InvalidInputError("offload is not planned: a plan chooses devices that hold the model")
    served, where = (options or ServerOptions()).checked(), Place.of(region, None).name
    load = load_of(traffic.checked(), caching=served.prefix_caching is not False)
    devices: dict[str, Device] = {d.name: d for name in machines if (d := with_memory(load_hardware(name), memory)[0])}
    asked = Asked(spec, load, goals_of(slo) if slo else (), _once(precisions), _once(caches), engine, tuple(techniques))
    tell(f"pricing {len(devices) * len(asked.precisions) * len(asked.caches)} machines and formats")
    every, refused = candidates(asked, list(devices.values()))
    if not every:
        raise DoesNotFitError(f"nothing asked holds {spec.name}: {next(iter(refused.values()), 'no machine')}")
    trials = Trials(asked, traffic, served, confidence, budget_usd_per_h, tell)
    tried = _tried(every, trials)
    held = sorted((t for t in tried if t.holds), key=lambda t: t.order)
    best, runner_up = _confirmed(held, trials)
    return Plan(
        model=spec.name,
        best=best,
        runner_up=runner_up,
        candidates=len(every),
        tried=tuple(sorted(tried, key=lambda t: t.order)),
        changes=changes(every, trials, best, runner_up) if best else (),
        nearest="" if best else nearest(every, tried, trials),
        refused=refused,
        commands=_commands(best, trials) if best else {},
        region=where,
        techniques=asked.techniques,
    )


def _commands(best: Trial, trials: Trials) -> dict[str, str]:
    """Lines that start the plan, with the options that its techniques set."""
    options = with_techniques(best.candidate.scenario(trials.asked, 1), best.options)[1]
    return commands(best.candidate, options, trials.asked.load.longest)


def _once(names: Iterable[str | None]) -> tuple[str | None, ...]:
    return tuple(dict.fromkeys(names))


def load_of(traffic: Traffic, *, caching: bool = True) -> Load:
    """The means of a traffic, from a sample of it."""
    sample = traffic.sent()
    n = len(sample.arrival)
    passed = float(sample.arrival.max() - sample.arrival.min())
    rate = traffic.rate_per_s or (n / passed if traffic.trace is not None and passed > 0.0 else None)
    prompt, output = (max(round(float(tokens.mean())), 1) for tokens in (sample.prompt, sample.output))
    longest = int(np.max(sample.prompt + sample.output))
    return Load(rate, traffic.clients or n, prompt, output, longest, _seen(sample) if caching else 0.0)


def _seen(requests: Requests) -> float:
    """Share of the prompts' tokens that a request before has sent, too."""
    if not requests.node.size:
        return 0.0
    again = np.ones(requests.node.size, bool)
    again[np.unique(requests.node, return_index=True)[1]] = False
    return min(float(requests.node_tokens[again].sum() / requests.prompt.sum()), 0.99)


def _tried(every: Sequence[Candidate], trials: Trials) -> list[Trial]:
    """Finalists, simulated in the order of their cost until none that is left could be cheaper than two that hold: first with few
    more replicas than the closed form says, then with as many as cost hardly more than those two (a longer run may want one more).
    """
    finalists = _finalists([c for c in every if not c.missed and _affordable(c, trials.budget)])
    tried: dict[int, Trial] = {}
    for room in (_MORE, np.inf):
        for i, c in enumerate(finalists):
            costs = sorted(t.candidate.order[1] for t in tried.values() if t.holds)
            second = costs[1] if len(costs) > 1 else np.inf
            seen = tried.get(i)
            if seen is not None and (seen.holds or not seen.ran or not second > _MORE * c.usd_per_h):
                continue
            if np.isfinite(c.least_usd_per_h) and c.least_usd_per_h > second:
                continue
            most = np.nanmin([np.inf if trials.budget is None else trials.budget, room * c.usd_per_h, _CLOSE * second])
            tried[i] = replace(trials, budget=float(most) if np.isfinite(most) else trials.budget).fewest(c)
    found = list(tried.values())
    if not any(t.holds for t in found):  # the closed form may have been too strict: those that it misses the least
        goals = {g.name: g for g in trials.asked.goals}
        dearest = _DEAR * min(c.order[1] for c in every)
        missing = [c for c in every if c.missed and _affordable(c, trials.budget) and c.order[1] <= dearest]
        missing.sort(key=lambda c: max(c.values[f"{goals[m].metric}_s"] / goals[m].limit_s for m in c.missed))
        found += [trials.fewest(c) for c in _finalists(missing)[: _FINALISTS // 2]]
    best = min((t for t in found if t.holds), key=lambda t: t.order, default=None)
    near = min(found, key=lambda t: t.over, default=None) if best is None else best
    if near is not None and (tuned := trials.tuned(near)) is not near:
        found = [tuned if t is near else t for t in found]
    return found


def _affordable(c: Candidate, budget: float | None) -> bool:
    """Whether it is inside the budget at the fast end of its interval; an unknown price is inside none."""
    return budget is None or bool(min(c.least_usd_per_h, c.usd_per_h) <= budget)


def _finalists(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The best of each machine and format, and other degrees of them that cost about as much."""
    first: dict[tuple[str, str, str | None], Candidate] = {}
    close = []
    for c in ranked:
        best = first.setdefault((c.device.name, c.precision, c.kv), c)
        if c is not best and c.order[1] <= best.order[1] * _CLOSE:
            close.append(c)
    chosen = list(first.values())[: _FINALISTS - 2]
    rest = [
        c for c in close if (c.device.name, c.precision, c.kv) in {(b.device.name, b.precision, b.kv) for b in chosen}
    ]
    return sorted([*chosen, *rest[: _FINALISTS - len(chosen)]], key=lambda c: c.order)


def _confirmed(held: Sequence[Trial], trials: Trials) -> tuple[Trial | None, Trial | None]:
    """The best and the next of another machine, format or degrees, run again with more requests of another draw."""
    found: list[Trial] = []
    for trial in held:
        if len(found) < 2 or trial.order < found[1].order:
            again = trials.confirmed(trial)
            found = sorted([*found, *([again] if again.holds else [])], key=lambda t: t.order)
    return found[0] if found else None, found[1] if len(found) > 1 else None
