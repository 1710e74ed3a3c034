"""`waferline plan`: what to deploy for a load, or, without a model, what runs on a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli import options
from waferline.cli.output import emit, telling
from waferline.cli.taking import taking
from waferline.cli.traffic import LOAD, SERVER, Load, Server

_HOURS = {"": 1.0, "h": 1.0, "hour": 1.0, "d": 24.0, "day": 24.0, "month": 730.0, "year": 8760.0}


def _dollars(text: str) -> float:
    """`$40/h`, `40` or `$960/day` as dollars an hour."""
    amount, _, per = text.strip().removeprefix("$").replace(",", "").partition("/")
    try:
        value = float(amount) / _HOURS[per]
    except (ValueError, KeyError):
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise typer.BadParameter("not dollars above 0 a time, such as $40/h, $960/day or $30000/month")
    return value


def _share(text: str) -> float:
    """`80%` or `0.8`."""
    try:
        value = float(text.strip().removesuffix("%")) / (100.0 if "%" in text else 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise typer.BadParameter("not a probability below 1, such as 80% or 0.8")
    return value


@taking(load=LOAD, server=SERVER)
def plan(
    on: options.Machines,
    load: Load,
    server: Server,
    model: Annotated[
        str | None,
        typer.Argument(
            help="As in `predict`; without one: what runs on the machine.", autocompletion=options.complete_model
        ),
    ] = None,
    slo: Annotated[str | None, typer.Option("--slo", help="Goals: p99-ttft=500ms,p99-tpot=30ms.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            "-p",
            help="Formats to choose from: fp8,int4.  [default: as shipped]",
            autocompletion=options.complete_format,
        ),
    ] = None,
    kv: Annotated[
        str | None,
        typer.Option("--kv", help="Formats of the KV cache to choose from: fp8,bf16.  [default: the engine's]"),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", parser=_dollars, metavar="$N/h", help="The most it may cost: $40/h.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence", parser=_share, metavar="SHARE", help="How likely goals must hold.  [default: 50%]"
        ),
    ] = None,
    with_: options.With = None,
    engine: options.Engine = None,
    memory: options.Memory = None,
    region: Annotated[
        str | None,
        typer.Option("--region", help="Where it stands, for carbon: us-central1, germany.  [default: world]"),
    ] = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """The cheapest way to serve MODEL under a load that holds its goals, how sure that is, and how to start it."""
    from waferline.errors import InvalidInputError
    from waferline.traffic.planning.plan import plan as planned

    names = [str(name) for name in options.names("--on", on)]
    if model is None:
        given = {"--slo": slo, "--precision": precision, "--kv": kv, "--budget": budget, "--confidence": confidence,
                 "--with": with_, "--engine": engine, "--region": region, "--plot": plot}  # fmt: skip
        unread = [*load.given(), *server.given(), *(option for option, value in given.items() if value is not None)]
        _here(names, memory, unread, as_json)
        return
    if load.rate_per_s is None and load.trace is None and load.clients is None:
        raise InvalidInputError("a plan needs the load", hint="--rate 20/s, --clients 64 or --trace FILE")
    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    from waferline.traffic.options import ServerOptions

    traffic, served = load.traffic(), ServerOptions(**server.given())
    with telling("planning:") as tell:
        found = planned(
            model, machines=[options.machine(n) for n in names], traffic=traffic, slo=slo or "", engine=engine,
            precisions=options.names("--precision", precision), caches=options.names("--kv", kv), options=served,
            techniques=with_ or (), budget_usd_per_h=budget, confidence=0.5 if confidence is None else confidence,
            region=region, memory=memory, tell=tell if not as_json else lambda text: None,
        )  # fmt: skip
    from waferline.report.plan import plan_report

    emit(as_json, found, lambda: plan_report(found))
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.plan import plan_chart

        save(plan_chart(found), plot)
    if found.best is None:
        raise typer.Exit(3)


def _here(names: list[str], memory: str | None, unread: list[str], as_json: bool) -> None:
    from waferline.errors import InvalidInputError
    from waferline.report.plan import runs_report
    from waferline.traffic.planning.here import what_runs

    if unread:
        raise InvalidInputError(f"{', '.join(unread)} would not be read without a model", hint="name the model")
    if len(names) != 1:
        raise InvalidInputError("without a model --on names one machine")
    runs = what_runs(options.machine(names[0]), memory=memory)
    emit(as_json, runs, lambda: runs_report(runs))
    if not runs.rows:
        raise typer.Exit(3)
