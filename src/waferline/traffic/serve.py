"""Requests through a served model, one by one: the engine's scheduler over the step times that `predict` expects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from waferline.errors import DoesNotFitError, InvalidInputError
from waferline.predict.beside import beside
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.engine import get_engine
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario
from waferline.predict.serving import engine_of
from waferline.predict.serving_case import serving_case
from waferline.predict.techniques import applied
from waferline.simulate.serving.paths import alike
from waferline.simulate.serving.state import Plan, Requests
from waferline.simulate.serving.traffic import Traffic, one_number
from waferline.traffic.options import MOST_REPLICAS, ServerOptions
from waferline.traffic.server import Server, plan_of, server_of
from waferline.traffic.serving_run import ServingRun, run_of
from waferline.traffic.slo import goals_of
from waferline.traffic.techniques import with_techniques
from waferline.traffic.verdict import capacity_request_per_s
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer

# Fields of a scenario that a simulated server reads.
READS = frozenset(
    {"precision", "kv", "devices", "tp", "pp", "ep", "dp", "engine", "profile", "memory", "memory_share", "assume"}
    | {"techniques", "offload", "host"}
)
MOST_OUTPUT = 10_000_000_000  # tokens of a run: some minutes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A served model that only lacks its requests."""

    answer: Answer
    asked: Scenario  # what the closed form was asked
    server: Server
    plan: Plan
    replicas: int
    devices: int  # of all replicas


def simulate_serving(scenario: Scenario, traffic: Traffic, options: ServerOptions | None = None) -> ServingRun:
    """What users see of `scenario`'s model on its machine under `traffic`.

    Raises: as `run`; InvalidInputError for a field that is not read (`READS` are; the traffic says prompts, outputs and load);
    DoesNotFitError where a request fits no empty memory. `scenario.intervals` False leaves the capacity out, which takes a run.
    """
    scenario, options = with_techniques(scenario, options)
    traffic, goals = traffic.checked(), goals_of(options.slo) if options.slo is not None else ()
    requests = sent(traffic, options)
    ready = prepared(scenario, requests, options)
    capacity = None
    if scenario.intervals and (traffic.rate_per_s is not None or traffic.trace is not None):
        capacity = capacity_request_per_s(ready.server, sent(traffic, options), ready.replicas, ready.plan)
    ran = ready.server.run(requests, ready.replicas, ready.plan)
    return run_of(
        ran, requests, ready.server.scheduler, ready.answer, ready.asked, traffic, goals, ready.devices, capacity
    )


def sent(traffic: Traffic, options: ServerOptions) -> Requests:
    """The requests, without their prefixes where the server keeps none. Raises: InvalidInputError for far too many tokens."""
    requests = traffic.sent()
    if (tokens := int(requests.output.sum())) > MOST_OUTPUT:
        raise InvalidInputError(f"{tokens:,} output tokens in all are more than {MOST_OUTPUT:,}")
    if options.hit:
        if requests.node.size:
            raise InvalidInputError("prefix-cache would not be read: the traffic says what prompts share")
        requests = requests._replace(**alike(requests.prompt, options.hit))
    if options.prefix_caching is False:
        requests = requests._replace(node_from=np.zeros_like(requests.node_from), node=requests.node[:0])
    return requests


def prepared(scenario: Scenario, requests: Requests, options: ServerOptions) -> Prepared:
    """The replicas that `requests` are for; the same errors as `simulate_serving`."""
    unread = sorted(scenario.given().keys() - READS)
    if unread or scenario.phase != "serve":
        raise InvalidInputError(
            f"{', '.join(unread) or 'phase'} would not be read: requests are simulated",
            hint=f"reads {', '.join(sorted(READS))}",
        )
    one = 1 if scenario.dp is None else one_number("dp", scenario.dp, least=1, most=MOST_REPLICAS)
    replicas, scaled, failures = options.fleet(one)
    if replicas > len(requests.arrival):
        raise InvalidInputError(f"{replicas:,} replicas for {len(requests.arrival):,} requests")
    longest = replace(scenario, prompt=int(requests.prompt.max()), output=1, batch=1)
    answer, asked, parallel = _answer(longest, one)
    assert isinstance(answer.model, Transformer)  # what is served is one
    engine = engine_of(
        answer.device, answer.model, str(answer.result.about["engine"]), scenario.profile, scenario.memory_share
    )
    precision, _ = choose_precision(answer.model, answer.device, scenario.precision, scenario.kv)
    left = beside(answer.model, answer.device, engine, scenario.offload, scenario.host)
    with_ = applied(scenario.techniques)
    case = serving_case(answer.model, answer.device, engine, scenario.kv, "static", False, left, with_)
    most = int(np.max(requests.prompt + requests.output))
    server, each = server_of(case, str(precision), parallel, options, most), int(answer.result["devices"]) // one
    devices = each * replicas
    if options.prefill_tp or options.prefill_ep:
        tp, ep = options.prefill_tp or each, options.prefill_ep or scenario.ep
        ranks = max(int(ep or 1) // tp, 1)  # that share the experts
        _, _, readers = _answer(replace(longest, devices=None, tp=tp, pp=None, ep=ep, dp=ranks), ranks)
        server = server.reading_as(server_of(case, str(precision), readers, options, most))
        devices += (tp - each) * options.prefill_replicas
    plan = plan_of(options, server.scheduler, case, scaled, failures)
    return Prepared(answer, asked, server, plan, replicas, devices)


def _answer(asked: Scenario, replicas: int) -> tuple[Answer, Scenario, Parallel]:
    """What the closed form says of the longest prompt alone, which checks all that is asked; and how a replica is spread."""
    answer = run(asked)
    if answer.kind != "serve":
        raise InvalidInputError(f"{answer.model.name} on {answer.device.name} is {answer.kind}: engines serve requests")
    if not answer.fits:
        raise DoesNotFitError(
            f"{answer.model.name} does not fit {answer.device.name}",
            hint="waferline predict says what would make it fit",
        )
    each = int(answer.result["devices"]) // replicas
    layers = get_engine(str(answer.result.about["engine"])).split == "layers"
    if asked.tp is None and asked.pp is None and each > 1 and not layers:
        # A group that was found may be stages: it must serve as one tensor-parallel group.
        return _answer(replace(asked, devices=None, tp=each), replicas)
    pp = (
        one_number("pp", asked.pp, least=1, most=4096)
        if asked.pp is not None
        else each
        if layers and asked.tp is None
        else 1
    )
    ep = 1 if asked.ep is None else asked.ep
    return answer, asked, Parallel.of(tp=each // pp, pp=pp, ep=ep)
