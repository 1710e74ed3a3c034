"""A fleet of replicas, ready to run: rules, memory and step times of one, and what stands around them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import AnyArray, FloatArray
from waferline.elementwise import maximum
from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.formats import Precision
from waferline.predict.memory import kv_cache_bytes
from waferline.predict.overlapped import overlaps
from waferline.predict.serving_case import Arguments, ServingCase
from waferline.predict.step import StepModel
from waferline.predict.techniques.technique import Applied
from waferline.predict.versions import is_version
from waferline.simulate.serving.loop import serve
from waferline.simulate.serving.state import (
    DOWN,
    ROUTERS,
    Fleet,
    Memory,
    Plan,
    Requests,
    Rules,
    cache_of,
    fleet_of,
)  # fmt: skip
from waferline.traffic.options import Autoscale, Failure, ServerOptions
from waferline.traffic.scheduler import Scheduler, scheduler_of
from waferline.workloads.placement import Placement
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer
from waferline.workloads.step_tables import OF_PROMPTS, StepTables

_LONG = 1 << 20  # tokens: beyond every window
_MOST_CELLS = 400_000_000  # replicas × (places, or nodes of prefixes): some GB
_ACTIVATION_BYTES = 2.0  # of a number that passes from stage to stage


@dataclass(frozen=True, slots=True)
class FleetRun:
    """What a run left behind, beside the requests' fates. samples: rows of `loop.SAMPLE_COLUMNS`; gaps: their histogram."""

    samples: FloatArray
    gaps: AnyArray
    fleet: Fleet
    cut_off: int


@dataclass(frozen=True, slots=True)
class Server:
    """One replica: its scheduler, memory and step times."""

    scheduler: Scheduler
    rules: Rules
    memory: Memory
    steps: StepTables
    model: StepModel  # whose tables they are

    def reading_as(self, other: Server) -> Server:
        """Itself where prompts are read by replicas like `other`. Their memory and limits are as its own: few requests are there
        at once, and none stays."""
        return replace(self, steps=self.steps._replace(**{name: getattr(other.steps, name) for name in OF_PROMPTS}))

    def run(self, requests: Requests, replicas: int, plan: Plan) -> FleetRun:
        """Run the requests over replicas; their fates are written into them. Raises: DoesNotFitError, InvalidInputError."""
        nodes = int(requests.node.max(initial=-1)) + 1
        if replicas * max(self.rules.max_sequences * (1 + self.rules.stages), nodes * 4) > _MOST_CELLS:
            raise InvalidInputError(
                f"{replicas:,} replicas of {self.rules.max_sequences:,} sequences and {nodes:,} prefixes are too many to simulate"
            )
        fleet = fleet_of(replicas, requests, self.rules, self.memory, plan)
        cache = cache_of(replicas, requests)
        samples, gaps, cut, stuck = _apart(
            lambda: serve(requests, self.rules, self.memory, self.steps, fleet, cache, plan), plan.stop
        )
        if stuck >= 0 and (fleet.status == DOWN).all():
            raise InvalidInputError("requests are left when the last replica has failed")
        if stuck >= 0:
            raise DoesNotFitError(
                f"a request of {requests.prompt[stuck]} prompt and {requests.output[stuck]} output tokens fits no empty memory"
            )
        return FleetRun(samples, gaps, fleet, cut)


def _apart(work: Callable[[], Any], stop: AnyArray) -> Any:
    """The answer of a compiled loop in a thread of its own: Ctrl-C ends it, and progress is told meanwhile."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result()
    except BaseException:
        stop[0] = 1  # nobody waits for it
        raise


def plan_of(
    options: ServerOptions,
    scheduler: Scheduler,
    case: ServingCase,
    scaled: Autoscale | None,
    failures: Sequence[Failure],
) -> Plan:
    """What stands around the replicas. Raises: InvalidInputError where caches have no link to move over."""
    link = case.device.link("scale-out") or case.device.link("scale-up")
    rate, latency = options.link_bytes_per_s(), 0.0 if link is None else link.latency_s
    if rate is None and options.prefill_replicas:
        if link is None:
            raise InvalidInputError(
                f"{case.device.name} has no link that caches could move over", hint="name its kv_link"
            )
        rate = link.bandwidth_bytes_per_s
    auto = scaled or Autoscale(0, 0, target=0.0)
    return Plan(
        router=ROUTERS.index(options.router or "round-robin"),
        prefill=options.prefill_replicas,
        link_latency_s=latency,
        link_s_per_byte=0.0 if rate is None else 1.0 / rate,
        least=auto.least,
        target=float(auto.target),
        start_s=auto.start_s,
        interval_s=auto.interval_s,
        patience_s=auto.patience_s,
        front_s=options.front_s(scheduler.front_s),
        chunk_s=scheduler.chunk_s,
        fail_at=np.array([f.at_s for f in failures], dtype=float),
        fail_replica=np.array([f.replica for f in failures], dtype=np.int64),
        fail_for=np.array([f.for_s for f in failures], dtype=float),
        stop=np.zeros(1, np.int64),
    )


def server_of(case: ServingCase, label: str, parallel: Parallel, options: ServerOptions, longest: int) -> Server:
    """One replica of `parallel` devices. longest: tokens of the longest sequence."""
    scheduler = scheduler_of(case.engine.name, options.policy)
    stages = int(np.max(parallel.pp))
    drafts = next((one for one in case.techniques if one.technique.cycle), None)
    rules = scheduler.on(
        case.engine,
        case.device,
        sequences=options.max_num_seqs,
        tokens=options.max_num_batched_tokens,
        drafts=None if drafts is None else drafts.name,
    )
    positions, gain = (1, 1.0) if drafts is None else _cycle(drafts)
    if options.chunked:
        rules = rules._replace(chunked=True, mixed=True, decodes_first=True)
    rules = rules._replace(positions=positions, gain=gain, max_tokens=max(rules.max_tokens, positions))
    version, possible = options.engine_version or "", rules.ahead
    if version:
        if not is_version(version):
            raise InvalidInputError(f"engine_version is a version such as 0.11, not '{version}'")
        ahead = overlaps(case.engine.name, version)
        if ahead is None:
            raise InvalidInputError(f"engine_version would not be read: {case.engine.name} is known in one version")
        rules = rules._replace(ahead=possible and ahead)
    if options.async_scheduling is not None:
        if not scheduler.overlap:
            raise InvalidInputError(f"async_scheduling would not be read: {case.engine.name} has no such option")
        rules = rules._replace(ahead=options.async_scheduling)
    if not rules.chunked:  # a prompt that is read whole needs a step that takes it: such engines are started so
        rules = rules._replace(max_tokens=max(rules.max_tokens, longest))
    if stages > 1 and scheduler.pipelined:
        link = case.device.link("scale-up") or case.device.link("scale-out")
        hop = 0.0 if link is None else case.model.hidden_size * _ACTIVATION_BYTES / link.bandwidth_bytes_per_s
        rules = rules._replace(stages=stages, hop_s=hop)
    away = case.away(case.precision(label), _one(parallel, longest))
    memory = _memory(case, label, parallel, scheduler.block, away)
    fitting = int(memory.capacity // max(memory.full * scheduler.block + memory.state, 1.0)) + 1
    rules = rules._replace(max_sequences=max(min(rules.max_sequences, fitting), 1))
    most_rows = rules.max_tokens + (rules.max_sequences * positions if rules.mixed else 0)
    one_stage = Parallel.of(tp=parallel.tp, ep=parallel.ep)
    graphs = scheduler.graphs(case.device)
    model = StepModel.of(
        case,
        label,
        one_stage,
        scheduler.graphed,
        graphs,
        away,
        ahead=rules.ahead,
        version=version,
        stages=float(stages),
    )
    layers = sum(b.count for b in case.model.blocks) / stages
    steps = scheduler.on_host(model.tables(rules.max_sequences, max(most_rows, 2), longest), layers)
    return Server(scheduler, rules, memory, steps, model)


def _cycle(drafts: Applied) -> tuple[int, float]:
    """Rows of a decode and tokens that it yields."""
    assert drafts.technique.cycle is not None
    rows, tokens = drafts.technique.cycle(drafts.given)
    return round(float(rows)), float(tokens)


def _one(parallel: Parallel, tokens: int) -> Arguments:
    """One sequence of so many tokens on a replica."""
    degrees = {"tp": parallel.tp, "pp": parallel.pp, "ep": parallel.ep, "dp": 1.0}
    return {"batch_size": 1.0, "seq_len": float(tokens), "output_len": 0.0, **degrees}


def _memory(case: ServingCase, label: str, parallel: Parallel, block: int, away: Placement) -> Memory:
    """What one device has for the KV cache, and what a sequence takes of it; of a cache that the host has, the host."""
    precision, host = case.precision(label), None if case.beside is None else case.beside.host
    held = case.holds(precision, _one(parallel, 1), away, host)
    kept = 1.0 - float(np.max(maximum(away.layers, away.cache)))
    room = held.room_bytes if host is None or kept > 0.0 else host.capacity_bytes - held.host_weights_bytes
    share = (kept or 1.0) / float(np.max(parallel.pp))
    state, full, window, tokens = _cache_shape(case.model, precision, parallel)
    return Memory(float(room), block, full * share, window * share, tokens, state * share)


def _cache_shape(model: Transformer, precision: Precision, parallel: Parallel) -> tuple[float, float, float, float]:
    """(state, bytes a token without end, bytes a token inside the window, tokens of the window), from the cache's own size."""
    size = lambda tokens: float(kv_cache_bytes(model, precision, float(tokens), parallel.tp))  # noqa: E731
    state, full = size(0), size(_LONG + 1) - size(_LONG)
    window = size(1) - state - full
    tokens = (size(_LONG) - state - full * _LONG) / window if window > 0.0 else 0.0
    return state, full, window, tokens
