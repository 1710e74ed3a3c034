"""The load of a published run: how its requests came, how long they were, and what is assumed where it does not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from waferline.catalog.yaml_file import read_file
from waferline.evidence.notes import ASSUMED_PROMPT, PROMPTS
from waferline.evidence.request import Refusal
from waferline.evidence.run import Run
from waferline.simulate.serving.traffic import Traffic

_MOST_REQUESTS = 4000  # of an open load: its percentiles stand long before
_FEW_STEADY = 200  # requests: so many of a steady run at least
_ROUNDS, _FEWEST_ROUNDS = 8, 2  # of a closed load whose length nobody states, each client asks so often
_MUCH_WORK = 2_000_000  # tokens that such a load generates
_FEW_TURNS = 32  # requests: so many of a closed load at least
_ALL_THERE = 0.9  # of the requests: some are answered before the last is sent
_STAGES = " then "
# inference-perf's shared prefix: `SharedPrefixDataGenerator.load_lazy_data` takes prompt number i modulo groups × users.
_REPEATED = re.compile(r".*?(\d+) system prompts x (\d+) users")
AS_NOTED = "as noted"  # the workload of which a median or a mean in words is all that is known
_VARIED = "cv=1"  # the spread of lengths of which a mean alone is stated: about that of ShareGPT's


@cache
def _facts() -> Mapping[str, Any]:
    """`data/workloads.yaml`."""
    return read_file(Path(__file__).parent / "data" / "workloads.yaml")


def workloads() -> Mapping[str, Any]:
    """Lengths of the named data sets of load generators."""
    return _facts()["workloads"]


def _page(run: Run) -> Mapping[str, Any]:
    """What the page that a run is from says of its load: the first of `pages` that it fits."""
    place, workload = run.cells.get("locator") or "", run.cells.get("workload") or ""
    fits = (p for p in _facts()["pages"] if p["page"] in place and workload.startswith(p.get("workload", "")))
    return next(fits, {})


def traffic_of(run: Run) -> tuple[Traffic, tuple[str, ...]] | Refusal:
    """The load of a run, and what was assumed of it."""
    prompt, output = run.count("input_tokens"), run.count("output_tokens")
    told: list[str] = []
    page = _page(run)
    rates = [float(r) for r in (run.cells.get("rate_per_s") or str(page.get("rate", ""))).split(_STAGES) if r]
    clients, peak = run.count("concurrency") or page.get("clients"), run.count("peak_concurrency")
    if (run.cells.get("missing") or "").startswith("arrival") and not (page and (rates or clients)):
        return Refusal("load", f"how requests came is not stated: {run.cells['missing']}")
    known = workloads().get(run.cells.get("workload") or "", {})
    if output is None and not known:
        return Refusal("lengths", "output length not stated")
    work = run.cells.get("workload") or "random"
    answered = _facts()["answered"].get(work, {}) if prompt is None else {}
    if prompt is None and not known and not answered:
        prompt = PROMPTS.get(work, ASSUMED_PROMPT)
        told.append(f"prompts of {prompt} tokens")
    # The mean of many lengths that vary is no whole number.
    alike = bool(run.count("requests")) and run.number("output_tokens") == output
    varied = work != "random" and not run.cells.get("shared_prefix_tokens") and (not alike or work == AS_NOTED)
    lengths = {"prompt": f"lognormal:{prompt},{_VARIED}", "output": f"lognormal:{output},{_VARIED}"} if varied else {
        "prompt": str(prompt), "output": str(output)}  # fmt: skip
    if work == "sharegpt" and varied:  # it has many short answers, whose TPOT is one stall
        lengths["output"] = f"exponential:{output}"
    if answered:
        lengths = {"prompt": answered["prompt"], "output": f"lognormal:{output},cv={answered['output_cv']}"}
    if known:
        lengths = {name: str(known[name]) for name in ("prompt", "output")}
    if known or answered:
        told.append(f"lengths of {work}: {lengths['prompt']} and {lengths['output']} tokens")
    elif varied:
        told.append("lengths spread like ShareGPT's")
    shared: dict[str, Any] = {**lengths, "shared": run.count("shared_prefix_tokens") or 0}
    if repeated := _REPEATED.match(run.cells.get("turns") or ""):
        shared["distinct"] = int(repeated[1]) * int(repeated[2])
        told.append(f"{shared['distinct']} prompts, again and again, as this load generator sends them")
    requests, arrival = known.get("requests") or run.count("requests"), run.cells.get("arrival") or ""
    if arrival.startswith("all at once") and requests:
        arrival, clients = _at_once(requests, rates, clients, peak)
        told += [arrival] if arrival != "all at once" else []
    if run.steady and clients:
        return Traffic(requests=max(clients * _ROUNDS, _FEW_STEADY), **shared), tuple(told)
    if arrival.startswith("all at once") and requests:
        return Traffic(requests=requests, **shared), tuple(told)
    if arrival.startswith(("closed", "sequential")) and clients:
        return Traffic(requests=requests or _turns(clients, output), clients=clients, **shared), tuple(told)
    if rates:
        shared["arrival"] = page.get("arrival")
        return _open(rates, min(requests or _MOST_REQUESTS, _MOST_REQUESTS), shared), tuple(told)
    return Refusal("load", f"arrivals: {arrival or 'not stated'}")


def _turns(clients: int, output: int | None) -> int:
    """Requests of a closed load that does not say how many: each client asks a few times, often where that is little work."""
    rounds = min(max(_MUCH_WORK // (clients * (output or 1)), _FEWEST_ROUNDS), _ROUNDS)
    return max(clients * rounds, _FEW_TURNS)


def _at_once(requests: int, rates: Sequence[float], clients: int | None, peak: int | None) -> tuple[str, int | None]:
    """(how requests came, clients) of a run said to be all at once, which it was not if fewer were ever there together."""
    if rates:
        return f"at {rates[0]:g} requests/s, as the page says", None
    if clients is not None:
        return f"closed loop of {clients} clients, as the page says", clients
    if peak is not None and peak < requests * _ALL_THERE:
        return f"closed loop of {peak} clients: no more requests were there at once", peak
    return "all at once", None


def _open(rates: Sequence[float], requests: int, shared: Mapping[str, Any]) -> Traffic:
    """An open load; stages of several rates, of equal time, follow one another."""
    if len(rates) == 1:
        return Traffic(requests=requests, rate_per_s=rates[0], **shared)
    parts = [Traffic(requests=max(int(requests * r / sum(rates)), 1), rate_per_s=r, seed=i, **shared).sent()
             for i, r in enumerate(rates)]  # fmt: skip
    ends = np.cumsum([0.0, *(float(p.arrival[-1]) for p in parts[:-1])])
    trace: dict[str, Any] = {
        "arrival_s": np.concatenate([p.arrival + end for p, end in zip(parts, ends, strict=True)]),
        "prompt_tokens": np.concatenate([p.prompt for p in parts]),
        "output_tokens": np.concatenate([p.output for p in parts]),
    }
    if (distinct := shared.get("distinct")) is not None:
        hashes = np.empty(len(trace["arrival_s"]), dtype=object)
        hashes[:] = [(i % distinct,) for i in range(hashes.size)]
        trace |= {"block_hashes": hashes, "block_tokens": int(trace["prompt_tokens"].max())}
    return Traffic(trace=trace)
