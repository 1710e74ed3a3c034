"""Serving under load in closed form: what arrivals, waiting, prefills in between and memory make of a prefill and a step.

Three loads. *closed*: clients that send a request when theirs is done (what serving benchmarks do). *burst*: all requests at
once. *full*: a queue that never empties. Between two of its tokens a sequence sees one decode step and its share of the
prefills of others: while it generates `output_tokens`, each of the other running ones is replaced once. Prompts that come one
by one are read one by one, in a step that decodes, too, and reads the weights once for both, unless the engine reads prompts
first. Form: Agrawal et al. 2024 (arXiv:2403.02310), sections 3 and 4 (generation stalls); waiting for a place by Little's law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from waferline.arrays import AnyArray, Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import ceil, exp, floor, maximum, minimum, where
from waferline.errors import unknown
from waferline.machines.device import Device
from waferline.predict.engine import Engine, family_of
from waferline.predict.phase import INTERVALS, Phase
from waferline.workloads.scenario import MOST_COUNT

LOADS = ("static", "closed", "burst", "full")
_OFFLINE = ("burst", "full")  # loads of a batch job, for which engines have limits of their own
NO_LIMIT = float(MOST_COUNT)  # sequences: more than any memory holds
AT_ONCE = 0.5  # of a burst, a sequence sees on average the prefills of those after it: half of the others
_BEYOND_MEMORY = (
    8.0  # times the batch that memory is thought to hold: the bound of a full load must not depend on that thought
)


@dataclass(frozen=True, slots=True)
class QueueModel:
    """How requests of a benchmark meet in one engine: figures of `catalog/loads.yaml`, fitted on published closed loads.

    stall: prefills of others between a sequence's tokens, over those of arrivals that are spread evenly. burst: share of
    requests that wait until half of all others are read, as the mean request of a first wave does. clump: share of a full
    prefill batch that a request waits for with its own. first_share: one prompt alone, over the sum of its operators.
    front_s: client, tokeniser and scheduler around a request. residual: quantiles of log(measured / predicted) by metric.
    """

    stall: float
    burst: float
    clump: float
    first_share: float
    front_s: float
    residual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@cache
def queue_model(engine: str) -> QueueModel:
    """That of `engine`, or of engines in general."""
    table = read_packaged("loads.yaml")["engines"]
    row = table.get(engine, table["default"])
    return QueueModel(**{k: v for k, v in row.items() if k != "fit"})


def _residual(engine: Engine, device: Device) -> Mapping[str, tuple[float, ...]]:
    """Residuals of loads of an engine on a machine: where no load was fitted on machines of its kind, those of all engines, and
    between tokens those of its own steps there.
    """
    if family_of(device) == read_packaged("loads.yaml")["machines"]:
        return queue_model(engine.name).residual
    general, steps = queue_model("default").residual, engine.running_on(device).residual.get("decode")
    return {**general, "tpot": steps} if steps else general


@dataclass(frozen=True, slots=True)
class StepTimes:
    """What a load is made of. Floats or arrays over scenarios; one data-parallel replica.

    prefill_s: one prompt alone. prompt_s: one prompt among many, the time each adds to a full prefill batch. step_s: one
    decode step with `running` sequences. clients: sequences in the system; running: those in memory; together: prompts
    that one prefill batch takes. alone_s: what the pass of one prompt keeps the device for. shared_s: what of a decode step a
    pass with prompts in it takes once for both. prompts_first: whether prompts have passes of their own.
    """

    prefill_s: Floats
    prompt_s: Floats
    step_s: Floats
    clients: Floats
    running: Floats
    output_tokens: Floats
    together: Floats = 1.0
    alone_s: Floats = 0.0
    shared_s: Floats = 0.0
    prompts_first: bool | AnyArray = False


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds under load: to the first token, between tokens, and of the whole request."""

    ttft_s: Floats
    itl_s: Floats
    request_s: Floats


def prompts_s(p: StepTimes, others: Floats) -> Floats:
    """Seconds that the prompts of `others`, spread evenly over the steps of a sequence, add to each of its steps.

    So many are read in one pass as come in a step, at least one; where prompts go first, they wait for one another and fill it.
    """
    steps = maximum(p.output_tokens, 1.0)
    full_s = p.prompt_s * p.together
    read = where(p.prompts_first, p.together, minimum(maximum(others / steps, 1.0), p.together))
    each_s = (full_s - p.alone_s) / maximum(p.together - 1.0, 1.0)
    pass_s = where(p.together > 1.0, p.alone_s + (read - 1.0) * each_s, full_s)
    passes = others / (read * steps)
    saved_s = where(p.prompts_first, 0.0, minimum(p.shared_s, pass_s))
    return passes * pass_s - minimum(passes, 1.0) * saved_s


def closed_load(p: StepTimes, q: QueueModel) -> Latencies:
    """A steady closed load.

    TTFT: the way in, the request's own prompt, those read with it or before it, half the step under way, and the wait for
    a place when memory holds fewer sequences than there are clients.
    """
    steps = maximum(p.output_tokens, 1.0)
    others = p.running - 1.0
    tpot_s = p.step_s + q.stall * prompts_s(p, others)
    clump = q.clump * (minimum(p.together, p.running) - 1.0)
    before_s = (q.burst * others / 2.0 + clump) * p.prompt_s
    first_s = q.first_share * p.prefill_s + before_s
    waiting = maximum(p.clients / p.running - 1.0, 0.0) * (first_s + steps * tpot_s)
    return _latencies(q.front_s + first_s + waiting, tpot_s, steps)


def burst_load(p: StepTimes, q: QueueModel) -> Latencies:
    """`clients` requests at once: prompts are read one after the other, in as many waves as memory makes of them."""
    steps = maximum(p.output_tokens, 1.0)
    others = p.running - 1.0
    tpot_s = p.step_s + AT_ONCE * others * p.prompt_s / steps
    first_s = q.first_share * p.prefill_s + others / 2.0 * p.prompt_s
    waves = maximum(p.clients / p.running, 1.0)
    waiting = (waves - 1.0) / 2.0 * (first_s + steps * tpot_s)
    return _latencies(q.front_s + first_s + waiting, tpot_s, steps)


def _latencies(ttft_s: Floats, tpot_s: Floats, steps: Floats) -> Latencies:
    return Latencies(ttft_s=ttft_s, itl_s=tpot_s, request_s=ttft_s + (steps - 1.0) * tpot_s)


def full_load_tokens_per_s(p: StepTimes) -> Floats:
    """Generated tokens per second of a replica when every request is queued from the start: prompts that wait fill each pass."""
    steps = maximum(p.output_tokens, 1.0)
    return p.running / (p.step_s + p.running * p.prompt_s / steps)


_FORMS: Mapping[str, Callable[[StepTimes, QueueModel], Latencies]] = {
    "closed": closed_load,
    "burst": burst_load,
    "full": closed_load,
}


def held_share(inputs: Floats, outputs: Floats, reserve: float) -> Floats:
    """Sequences that memory holds over those that it holds at full length.

    A running sequence is half generated on average; `reserve` of what it still has to generate is kept free for it.
    """
    held = inputs + outputs * (0.5 + 0.5 * reserve)
    return (inputs + outputs) / maximum(held, 1.0)


def running_sequences(clients: Floats, most: Floats, replicas: Floats, limit: float) -> Floats:
    """Sequences that decode together on all replicas: what is asked, what memory holds, what a scheduler takes."""
    return maximum(floor(minimum(minimum(clients, most), limit * replicas)), replicas)


def prompts_together(inputs: Floats, running: Floats, replicas: Floats, chunk_tokens: float) -> Floats:
    """Prompts that one prefill batch of a replica takes: they are read together up to `chunk_tokens`."""
    most = maximum(floor(chunk_tokens / maximum(inputs, 1.0)), 1.0)
    return minimum(most, ceil(running / replicas))


class Case(Protocol):
    """What is asked of a serving case."""

    @property
    def engine(self) -> Engine: ...

    @property
    def device(self) -> Device: ...

    def prefill(self, label: str, a: Mapping[str, Floats], batch: Floats) -> Phase: ...

    def decode(self, label: str, a: Mapping[str, Floats], batch: Floats) -> Phase: ...

    def pipeline_fill(self, a: Mapping[str, Floats], batch: Floats) -> Floats: ...


def check_load(load: str) -> str:
    """Raises: UnknownNameError for another load than `LOADS`."""
    if load not in LOADS:
        raise unknown("load", load, LOADS)
    return load


def step_times(
    case: Case, label: str, a: Mapping[str, Floats], max_batch: Floats, load: str
) -> tuple[StepTimes, StepTimes]:
    """(expected, bound) of the passes that the load is made of; the bound of one prompt lets its chunks overlap."""
    dp, outputs = a["dp"], maximum(a["output_len"], 1.0)
    clients = minimum(a["batch_size"], a["concurrency"]) if load != "full" else a["concurrency"]
    held = held_share(a["seq_len"], outputs, case.engine.output_reserve)
    limits = case.engine.limits(case.device, offline=load in _OFFLINE)
    running = running_sequences(clients, maximum(max_batch * held, dp), dp, limits.sequences)
    together = prompts_together(a["seq_len"], running, dp, limits.chunk_tokens)
    alone, many = case.prefill(label, a, dp), case.prefill(label, a, together * dp)
    step = case.decode(label, a, running)
    in_system = running if load == "full" else maximum(a["batch_size"], dp)
    counts = (in_system / dp, running / dp, outputs, together)
    alone_s = alone.time_s * case.pipeline_fill(a, dp)
    many_s = many.time_s * minimum(together, a["pp"]) / a["pp"]  # others follow at once: no stage fills or empties
    in_between = (alone.time_s / a["pp"], step.memory_s / a["pp"], case.engine.prompts_first)
    expected = StepTimes(alone_s, many_s / together, step.time_s, *counts, *in_between)
    light = StepTimes(alone.light_s / a["pp"], many.light_s / a["pp"] / together, step.light_s, *counts)
    return expected, light


def loaded_values(case: Case, label: str, a: Mapping[str, Floats], max_batch: Floats, load: str) -> dict[str, Any]:
    """Fields `loaded_*` for `batch_size` clients (closed), requests (burst) or a queue that never empties (full).

    Every time has its own bound: that of one prompt alone, of a decode step of the running sequences, and of both passes
    in perfect overlap for rates.
    """
    p, light = step_times(case, label, a, max_batch, load)
    model, dp = queue_model(case.engine.name), a["dp"]
    t = _FORMS[load](p, model)
    clients, outputs = p.clients * dp, p.output_tokens
    rate = full_load_tokens_per_s(p) * dp if load == "full" else clients * outputs / t.request_s
    light_rate = dp / maximum(light.step_s / light.running, light.prompt_s / outputs)
    if load == "full":
        beyond = p.running * dp * _BEYOND_MEMORY
        step_s, prompts_s = case.decode(label, a, beyond).light_s, case.prefill(label, a, beyond).light_s / a["pp"]
        light_rate = maximum(light_rate, beyond / maximum(step_s, prompts_s / outputs))
    out = {
        "running_sequences": p.running * dp,
        "light_loaded_ttft_s": light.prefill_s,
        "light_loaded_tpot_s": light.step_s,
        "light_loaded_request_s": light.prefill_s + (outputs - 1.0) * light.step_s,
        "light_loaded_throughput_tokens_per_s": light_rate,
        "loaded_ttft_s": maximum(t.ttft_s, light.prefill_s),
        "loaded_tpot_s": maximum(t.itl_s, light.step_s),
        "loaded_throughput_tokens_per_s": minimum(rate, light_rate),
    }
    out["loaded_request_s"] = maximum(t.request_s, out["light_loaded_request_s"])
    return out | _intervals(out, _residual(case.engine, case.device), load)


def _intervals(out: Mapping[str, Any], residual: Mapping[str, tuple[float, ...]], load: str) -> dict[str, Any]:
    """Intervals from the residuals of published loads, never beyond the bound."""
    found: dict[str, Any] = {}
    for name, kind in (("loaded_ttft", "ttft"), ("loaded_tpot", "tpot"), ("loaded_request", "tpot")):
        for i, key in enumerate(INTERVALS) if kind in residual else ():
            value = out[f"{name}_s"] * exp(residual[kind][i])
            found[f"{name}_{key}_s"] = maximum(value, out[f"light_{name}_s"])
    kind = "full" if load == "full" else "tpot"
    for i, key in enumerate(INTERVALS) if kind in residual else ():
        value = out["loaded_throughput_tokens_per_s"] * exp(-residual[kind][3 - i])
        found[f"loaded_throughput_{key}_tokens_per_s"] = minimum(value, out["light_loaded_throughput_tokens_per_s"])
    return found
