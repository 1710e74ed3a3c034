"""`waferline simulate serving`: requests through an engine's scheduler, one by one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options
from waferline.cli.output import emit, progress

if TYPE_CHECKING:
    from waferline.predict.scenario import Scenario
    from waferline.simulate.serving.traffic import Traffic
    from waferline.traffic.options import ServerOptions
    from waferline.traffic.serving_run import ServingRun

_RATE = re.compile(r"([0-9.eE+-]+)\s*(/s|/min|/h|)")
_PER_SECOND = {"/s": 1.0, "": 1.0, "/min": 60.0, "/h": 3600.0}


def rate(text: str) -> float:
    """`8/s`, `90/min` or `8` as requests a second."""
    match = _RATE.fullmatch(text.strip())
    try:
        value = float(match[1]) / _PER_SECOND[match[2]] if match else 0.0
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise typer.BadParameter("not a rate above 0, such as 8/s or 90/min")
    return value


Rate = Annotated[
    float | None, typer.Option("--rate", parser=rate, metavar="N/s", help="Requests a second: 8/s, 90/min.")
]
Lengths = "a number, lognormal:1024,cv=1, uniform:100,2000, exponential:300 or normal:512,cv=0.2"


def serving(
    model: options.Model,
    on: options.On,
    rate_per_s: Rate = None,
    clients: Annotated[int | None, typer.Option("--clients", help="Instead: users that wait for their answer.")] = None,
    think: Annotated[
        str, typer.Option("--think", help="Seconds from an answer to the next question: 5, exponential:5.")
    ] = "0",
    turns: Annotated[str, typer.Option("--turns", help="Requests of a conversation, in the same way.")] = "1",
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Instead: requests of a .csv or .jsonl, as in docs/serving.md.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", help="Instead: a log with latencies; says where a gap to it comes from."),
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", help="How many.  [default: 1000]")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help=f"Tokens: {Lengths}.  [default: 1024]")] = None,
    output: Annotated[str | None, typer.Option("--output", help="Tokens, in the same way.  [default: 256]")] = None,
    shared: Annotated[int, typer.Option("--shared", help="Tokens that all prompts begin with.")] = 0,
    distinct: Annotated[
        int | None, typer.Option("--distinct", help="So many prompts come again and again.  [default: all differ]")
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant", help="'chat;share=0.7;priority=0;prompt=512;output=100', as often as there are tenants."
        ),
    ] = None,
    arrival: Annotated[
        str | None, typer.Option("--arrival", help="poisson, gamma, weibull, constant, burst or closed.")
    ] = None,
    cv: Annotated[float, typer.Option("--cv", help="Gamma arrivals: coefficient of variation of the gaps.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0,
    slo: Annotated[
        str | None, typer.Option("--slo", help="Goals: ttft=500ms,tpot=30ms or p99-ttft=1s; exit code 3 when missed.")
    ] = None,
    precision: options.Precision = None,
    kv: options.Kv = None,
    devices: options.Devices = None,
    tp: options.Tp = None,
    pp: options.Pp = None,
    ep: options.Ep = None,
    replicas: Annotated[int | None, typer.Option("--replicas", help="Servers that requests go to.")] = None,
    router: Annotated[
        str | None,
        typer.Option("--router", help="round-robin, least-loaded, prefix or session.  [default: round-robin]"),
    ] = None,
    prefill_replicas: Annotated[
        int, typer.Option("--prefill-replicas", help="More servers, that only read prompts; the others only generate.")
    ] = 0,
    kv_link: Annotated[
        str | None,
        typer.Option("--kv-link", help="Over which caches move, a device: 50GB/s.  [default: the machine's]"),
    ] = None,
    fail: Annotated[
        list[str] | None, typer.Option("--fail", help="REPLICA@TIME+TIME: 0@60s+30s; as often as there are failures.")
    ] = None,
    autoscale: Annotated[
        str | None, typer.Option("--autoscale", help="LEAST..MOST replicas: 1..8,target=32,start=60s.")
    ] = None,
    engine: options.Engine = None,
    profile: options.Profile = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, help="Sequences that run at once.  [default: the engine's]")
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option("--max-num-batched-tokens", min=1, help="Tokens of a step.  [default: the engine's]")
    ] = None,
    prefix_caching: Annotated[
        bool | None, typer.Option("--prefix-caching/--no-prefix-caching", help="Keep prompts' prefixes.  [default: on]")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Of the scheduler: max_utilization, static_batch of tensorrt-llm.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file with a row for every request.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the run over time: .html, .png or .svg.")] = None,
    as_json: options.Json = False,
) -> None:
    """Requests through the scheduler of MODEL's engine, one by one: latency percentiles, rates, queues."""
    from waferline.predict.scenario import Scenario
    from waferline.report.charts import check_ending
    from waferline.report.serving import serving_report
    from waferline.simulate.serving.traffic import Tenant
    from waferline.traffic.options import ServerOptions, tenant_fields
    from waferline.traffic.serve import simulate_serving

    if plot is not None:
        check_ending(plot)
    scenario = Scenario(
        model=model,
        machine=options.machine(on),
        precision=precision,
        kv=kv,
        devices=devices,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=replicas,
        engine=engine,
        profile=profile,
    )
    asked = {"requests": requests, "prompt": prompt, "output": output}
    given = {name: value for name, value in asked.items() if value is not None}
    load = {"rate_per_s": rate_per_s, "clients": clients, "think_s": think, "arrival": arrival, "cv": cv}
    tenants = tuple(Tenant(**tenant_fields(text)) for text in tenant or ())
    traffic = _traffic(
        trace,
        {**load, **given, "turns": turns, "shared": shared, "distinct": distinct, "seed": seed, "tenants": tenants},
    )
    served = ServerOptions(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        prefix_caching=prefix_caching,
        policy=policy,
        slo=slo,
        router=router,
        prefill_replicas=prefill_replicas,
        kv_link=kv_link,
        failures=tuple(fail or ()),
        autoscale=autoscale,
    )
    if calibrate is not None:
        _calibrate(scenario, calibrate, served, as_json, {"trace": trace, "slo": slo, "out": out, "plot": plot})
        return
    with progress("simulating", hidden=as_json):
        outcome = simulate_serving(scenario, traffic, served)
    emit(as_json, outcome, lambda: serving_report(outcome))
    _write(outcome, out, plot)
    if not all(outcome.values.get("slo_met", {}).values()):
        raise typer.Exit(3)


def _calibrate(scenario: Scenario, log: Path, served: ServerOptions, as_json: bool, others: dict[str, object]) -> None:
    from waferline.errors import InvalidInputError
    from waferline.report.serving import calibration_report
    from waferline.traffic.calibrate import calibrate

    if unread := [name for name, value in others.items() if value is not None]:
        raise InvalidInputError(f"{', '.join(unread)} would not be read beside --calibrate")
    with progress("simulating", hidden=as_json):
        found = calibrate(scenario, log, served)
    emit(as_json, found, lambda: calibration_report(found))


def _traffic(trace: Path | None, fields: dict[str, object]) -> Traffic:
    from waferline.errors import InvalidInputError
    from waferline.simulate.serving.trace import read_trace
    from waferline.simulate.serving.traffic import Traffic

    if trace is None:
        return Traffic(**fields)  # type: ignore[arg-type]
    usual, kept = Traffic(), ("seed", "tenants")
    unread = [name for name, value in fields.items() if name not in kept and str(value) != str(getattr(usual, name))]
    if unread:
        raise InvalidInputError(f"{', '.join(sorted(unread))} would not be read: the trace says it")
    return Traffic(trace=read_trace(trace), **{name: fields[name] for name in kept})  # type: ignore[arg-type]


def _write(outcome: ServingRun, out: Path | None, plot: Path | None) -> None:
    if out is not None:
        from waferline.search.sweep import write_parquet

        write_parquet(iter([dict(outcome.per_request)]), out)
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.serving import serving_chart

        save(serving_chart(outcome), plot)
