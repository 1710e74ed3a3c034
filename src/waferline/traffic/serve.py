"""Requests through a served model, one by one: the engine's scheduler over the step times that `predict` expects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import DoesNotFitError, InvalidInputError, UnsupportedError
from waferline.formats import Precision
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.engine import get_engine
from waferline.predict.memory import Asked, footprint, kv_cache_bytes
from waferline.predict.scenario import Answer, Scenario, run
from waferline.predict.serving import ServingCase, engine_of, serving_case
from waferline.predict.step import StepModel
from waferline.simulate.serving.loop import serve
from waferline.simulate.serving.state import Memory, Requests, Rules
from waferline.simulate.serving.trace import shared_tokens
from waferline.simulate.serving.traffic import Traffic, one_number
from waferline.traffic.scheduler import Scheduler, scheduler_of
from waferline.traffic.serving_run import ServingRun, run_of
from waferline.traffic.slo import goals_of
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer
from waferline.workloads.step_tables import StepTables

# Fields of a scenario that a simulated server reads.
READS = frozenset(
    {"precision", "kv", "devices", "tp", "ep", "dp", "engine", "profile", "memory", "memory_share", "assume"}
)
MOST_REPLICAS = 100_000
FATES = ("arrival", "first", "last", "admitted", "computed", "made", "held", "preempted")  # what a run writes
MOST_OUTPUT = 10_000_000_000  # tokens of a run: some minutes
TRACE_BLOCK = 512  # tokens that a block hash of a published trace stands for (Mooncake)
_LONG = 1 << 20  # tokens: beyond every window


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What is asked of a simulated server beside the scenario: the engine's own options by its names.

    max_num_seqs, max_num_batched_tokens: None is the engine's default on the machine. slo: goals as in `slo.goals_of`. Replicas
    are the scenario's `dp`; requests go to them in turn.
    """

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    slo: str | None = None

    def checked(self) -> ServerOptions:
        """Itself. Raises: InvalidInputError for numbers that no engine takes."""
        for name, most in (("max_num_seqs", 65_536), ("max_num_batched_tokens", 1_048_576)):
            if getattr(self, name) is not None:
                one_number(name, getattr(self, name), least=1, most=most)
        return self


def simulate_serving(scenario: Scenario, traffic: Traffic, options: ServerOptions | None = None) -> ServingRun:
    """What users see of `scenario`'s model on its machine under `traffic`.

    Raises: as `run`; InvalidInputError for a field that is not read (`READS` are; the traffic says prompts, outputs and load);
    UnsupportedError for pipelines; DoesNotFitError where a request fits no empty memory.
    """
    options = (options or ServerOptions()).checked()
    traffic, goals = traffic.checked(), goals_of(options.slo) if options.slo is not None else ()
    unread = sorted(scenario.given().keys() - READS)
    if unread or scenario.phase != "serve":
        raise InvalidInputError(
            f"{', '.join(unread) or 'phase'} would not be read: requests are simulated",
            hint=f"reads {', '.join(sorted(READS))}",
        )
    replicas = 1 if scenario.dp is None else one_number("dp", scenario.dp, least=1, most=MOST_REPLICAS)
    requests = traffic.sent()
    if (tokens := int(requests.output.sum())) > MOST_OUTPUT:
        raise InvalidInputError(f"{tokens:,} output tokens in all are more than {MOST_OUTPUT:,}")
    if replicas > len(requests.arrival):
        raise InvalidInputError(f"{replicas:,} replicas for {len(requests.arrival):,} requests")
    answer, tp = _answer(replace(scenario, prompt=int(requests.prompt.max()), output=1, batch=1), replicas)
    assert isinstance(answer.model, Transformer)  # what is served is one
    engine = engine_of(
        answer.device, answer.model, str(answer.result.about["engine"]), scenario.profile, scenario.memory_share
    )
    precision, _ = choose_precision(answer.model, answer.device, scenario.precision, scenario.kv)
    case = serving_case(answer.model, answer.device, engine, scenario.kv, "static", False)
    parallel = Parallel.of(tp=tp, ep=1 if scenario.ep is None else scenario.ep)
    server = _server(case, str(precision), parallel, options, int(np.max(requests.prompt + requests.output)))
    if traffic.trace is not None and "block_hashes" in traffic.trace:
        blocks = int(server.memory.capacity // (server.memory.full * TRACE_BLOCK)) if server.memory.full else 0
        requests = requests._replace(shared=shared_tokens(traffic.trace, TRACE_BLOCK, blocks * replicas))
    runs = server.run(requests, replicas)
    return run_of(runs, requests, server.scheduler, answer, traffic, goals)


def _answer(asked: Scenario, replicas: int) -> tuple[Answer, int]:
    """What the closed form says of the longest prompt alone, which checks all that is asked; and the tensor-parallel degree."""
    answer = run(asked)
    if answer.kind != "serve":
        raise InvalidInputError(f"{answer.model.name} on {answer.device.name} is {answer.kind}: engines serve requests")
    if not answer.fits:
        raise DoesNotFitError(
            f"{answer.model.name} does not fit {answer.device.name}",
            hint="waferline predict says what would make it fit",
        )
    tp = int(answer.result["devices"]) // replicas
    if tp > 1 and get_engine(str(answer.result.about["engine"])).split == "layers" and asked.tp is None:
        raise UnsupportedError("steps of a pipeline are not simulated, and this engine makes one of several devices")
    if tp > 1 and asked.tp is None:  # a group that was found may be stages: it must serve as one tensor-parallel group
        return _answer(replace(asked, devices=None, tp=tp), replicas)
    return answer, tp


@dataclass(frozen=True, slots=True)
class Server:
    """One replica: its scheduler, memory and step times."""

    scheduler: Scheduler
    rules: Rules
    memory: Memory
    steps: StepTables

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


def _server(case: ServingCase, label: str, parallel: Parallel, options: ServerOptions, longest: int) -> Server:
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
    steps = StepModel.of(case, label, parallel, scheduler.graphed).tables(
        rules.max_sequences, max(most_rows, 2), longest
    )
    if scheduler.overlap:  # the host time of sequences hides behind the step before
        steps = steps._replace(host_sequences=0.0)
    return Server(scheduler, rules, memory, steps)


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
