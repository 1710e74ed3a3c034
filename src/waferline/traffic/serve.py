"""Requests through a served model, one by one: the engine's scheduler over the step times that `predict` expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.formats import Precision
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import HOST_SEQUENCES, get_engine
from waferline.predict.memory import Asked, footprint, kv_cache_bytes
from waferline.predict.scenario import Scenario, choose_precision, run
from waferline.predict.serving import ServingCase, serving_case
from waferline.predict.step import StepModel
from waferline.simulate.serving.loop import serve
from waferline.simulate.serving.state import Memory, Requests, Steps
from waferline.simulate.serving.trace import shared_tokens
from waferline.simulate.serving.traffic import Traffic
from waferline.traffic.outcome import Outcome, outcome_of
from waferline.traffic.scheduler import Scheduler, scheduler_of
from waferline.traffic.slo import goals_of
from waferline.workloads.load import load_model
from waferline.workloads.scenario import Parallel, whole
from waferline.workloads.spec import Transformer

FATES = ("arrival", "first", "last", "admitted", "computed", "made", "held", "preempted")  # what a run writes
MOST_OUTPUT = 10_000_000_000  # tokens of a run: some minutes
TRACE_BLOCK = 512  # tokens that a block hash of a published trace stands for (Mooncake)
_LONG = 1 << 20  # tokens: beyond every window


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is asked of a simulated server beside the scenario: the engine's own options by its names.

    max_num_seqs, max_num_batched_tokens: None is the engine's default on the machine. slo: goals as in `slo.goals_of`. replicas
    are the scenario's `dp`; requests go to them in turn.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    slo: str | None = None

    def checked(self) -> Served:
        """Itself. Raises: InvalidInputError for numbers that no engine takes."""
        for name, most in (("max_num_seqs", 65_536), ("max_num_batched_tokens", 1_048_576)):
            value = getattr(self, name)
            if value is not None and not 1 <= whole(name, value) <= most:
                raise InvalidInputError(f"{name} must be between 1 and {most:,}, got {value:,}")
        return self


def simulate_serving(scenario: Scenario, traffic: Traffic, options: Served | None = None) -> Outcome:
    """What users see of `scenario`'s model on its machine under `traffic`.

    The scenario's `prompt`, `output`, `batch` and `load` are the traffic's and must not be given.
    Raises: as `run`; InvalidInputError for a field that is not read; DoesNotFitError where a request fits no empty memory.
    """
    options = (options or Served()).checked()
    traffic, goals = traffic.checked(), goals_of(options.slo) if options.slo is not None else ()
    for name in ("prompt", "output", "batch", "load", "concurrency"):
        if getattr(scenario, name) is not None:
            raise InvalidInputError(f"{name} would not be read: the traffic says it")
    if scenario.offload is not None:
        raise InvalidInputError("offload would not be read: requests are simulated on devices that hold the model")
    spec, device = load_model(scenario.model), load_hardware(scenario.machine)
    if not isinstance(spec, Transformer) or not spec.has_head:
        raise InvalidInputError(f"{spec.name} does not generate tokens")
    requests = traffic.sent()
    if (tokens := int(requests.output.sum())) > MOST_OUTPUT:
        raise InvalidInputError(f"{tokens:,} output tokens in all are more than {MOST_OUTPUT:,}")
    longest = int(np.max(requests.prompt + requests.output))
    answer = run(replace(scenario, model=spec, machine=device, prompt=int(requests.prompt.max()), output=1, batch=1))
    if answer.kind != "serve":
        raise InvalidInputError(f"{spec.name} on {device.name} is {answer.kind}: requests are simulated on engines")
    if not answer.fits:
        raise DoesNotFitError(
            f"{spec.name} does not fit {device.name}", hint="waferline predict says what would make it fit"
        )
    engine = get_engine(str(answer.result.about["engine"]))
    precision, _ = choose_precision(spec, device, scenario.precision)
    case = serving_case(spec, device, engine, scenario.kv, "static", False)
    replicas = int(scenario.dp or 1)
    if replicas > len(requests.arrival):
        raise InvalidInputError(f"{replicas:,} replicas for {len(requests.arrival):,} requests")
    parallel = Parallel.of(tp=int(answer.result["devices"]) // replicas, ep=scenario.ep or 1)
    server = _server(case, str(precision), parallel, options, longest)
    if traffic.trace is not None and "block_hashes" in traffic.trace:
        blocks = int(server.memory.capacity // (server.memory.full * TRACE_BLOCK)) if server.memory.full else 0
        requests = requests._replace(shared=shared_tokens(traffic.trace, TRACE_BLOCK, blocks * replicas))
    runs = server.run(requests, replicas)
    return outcome_of(runs, requests, server.scheduler, answer, traffic, goals)


@dataclass(frozen=True, slots=True)
class Server:
    """One replica: its scheduler, memory and step times."""

    scheduler: Scheduler
    rules: Any
    memory: Memory
    steps: Steps

    def run(self, requests: Requests, replicas: int) -> list[tuple[Any, ...]]:
        """Run the requests, spread over replicas in turn; their fates are written into them."""
        found = []
        home = replica_of(requests.then, replicas)
        for replica in range(replicas):
            own = np.flatnonzero(home == replica)
            mine = Requests(*(np.ascontiguousarray(a[own]) for a in requests))
            here = np.full(len(home) + 1, -1)  # the last one is for requests that nobody follows
            here[own] = np.arange(own.size)
            found.append(serve(mine._replace(then=here[mine.then]), self.rules, self.memory, self.steps))
            for name in FATES:
                getattr(requests, name)[own] = getattr(mine, name)
            if (stuck := int(found[-1][-1])) >= 0:
                raise DoesNotFitError(
                    f"a request of {mine.prompt[stuck]} prompt and {mine.output[stuck]} output tokens fits no empty memory"
                )
        return found


def replica_of(then: AnyArray, replicas: int) -> AnyArray:
    """The replica of every request: in turn, and a client's next one stays where it was."""
    home = np.arange(then.size) % replicas
    followed = np.zeros(then.size, bool)
    followed[then[then >= 0]] = True
    home[~followed] = np.arange(np.count_nonzero(~followed)) % replicas
    for r in np.flatnonzero(then >= 0) if replicas > 1 else ():
        home[then[r]] = home[r]
    return home


def _server(case: ServingCase, label: str, parallel: Parallel, options: Served, longest: int) -> Server:
    scheduler = scheduler_of(case.engine.name)
    rules = scheduler.on(
        case.engine, case.device, sequences=options.max_num_seqs, tokens=options.max_num_batched_tokens
    )
    if not rules.chunked:  # a prompt that is read whole needs a step that takes it: such engines are started so
        rules = rules._replace(max_tokens=max(rules.max_tokens, longest))
    memory = _memory(case, label, parallel, scheduler.block)
    fitting = int(memory.capacity // max(memory.full * scheduler.block + memory.state, 1.0)) + 1
    rules = rules._replace(max_sequences=max(min(rules.max_sequences, fitting), 1))
    most_rows = rules.max_tokens + (rules.max_sequences if rules.mixed else 0)
    model = StepModel.of(case, label, parallel)
    surface = model.surface(rules.max_sequences, max(most_rows, 2), longest, scheduler.graphed)
    tables = {name: getattr(surface, name) for name in Steps._fields if name != "host_sequences"}
    hidden = 0.0 if scheduler.overlap else HOST_SEQUENCES
    return Server(scheduler, rules, memory, Steps(**tables, host_sequences=hidden))


def _memory(case: ServingCase, label: str, parallel: Parallel, block: int) -> Memory:
    """What one device has for the KV cache, and what a sequence takes of it."""
    precision, engine = case.precision(label), case.engine
    held = footprint(case.model, case.device, engine, precision, Asked(1.0, 1.0, 1.0, 1.0), parallel)
    capacity = float(held.room_bytes)
    state, full, window, tokens = _cache_shape(case.model, precision, parallel)
    return Memory(capacity=capacity, block=block, full=full, window=window, window_tokens=tokens, state=state)


def _cache_shape(model: Transformer, precision: Precision, parallel: Parallel) -> tuple[float, float, float, float]:
    """(state, bytes a token without end, bytes a token inside the window, tokens of the window), from the cache's own size."""
    size = lambda tokens: float(kv_cache_bytes(model, precision, float(tokens), parallel.tp))  # noqa: E731
    state, full = size(0), size(_LONG + 1) - size(_LONG)
    window = size(1) - state - full
    tokens = (size(_LONG) - state - full * _LONG) / window if window > 0.0 else 0.0
    return state, full, window, tokens
