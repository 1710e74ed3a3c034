"""`waferline plan`: what to deploy for a load, or, without a model, what runs on a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli import options
from waferline.cli.output import emit, progress
from waferline.cli.simulate_serving import Lengths, Rate


def _dollars(text: str) -> float:
    """`$40/h`, `40` or `$960/day` as dollars an hour."""
    amount, _, per = text.strip().removeprefix("$").partition("/")
    hours = {"": 1.0, "h": 1.0, "hour": 1.0, "d": 24.0, "day": 24.0, "month": 730.0}
    try:
        value = float(amount) / hours[per]
    except (ValueError, KeyError):
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise typer.BadParameter("not dollars above 0 a time, such as $40/h, $960/day or $30000/month")
    return value


def plan(
    on: options.Machines,
    model: Annotated[str | None, typer.Argument(help="As in `predict`; without one: what runs on the machine.")] = None,
    rate_per_s: Rate = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help=f"Tokens: {Lengths}.  [default: 1024]")] = None,
    output: Annotated[str | None, typer.Option("--output", help="Tokens, in the same way.  [default: 256]")] = None,
    slo: Annotated[str | None, typer.Option("--slo", help="Goals: p99-ttft=500ms,p99-tpot=30ms.")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", "-p", help="Formats to choose from: fp8,int4.  [default: as shipped]")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", parser=_dollars, metavar="$N/h", help="The most it may cost: $40/h.")
    ] = None,
    engine: options.Engine = None,
    memory: options.Memory = None,
    region: Annotated[
        str | None,
        typer.Option("--region", help="Where it stands, for carbon: us-central1, germany.  [default: world]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """The cheapest way to serve MODEL under a load that holds its goals, how sure that is, and how to start it."""
    from waferline.errors import InvalidInputError
    from waferline.report.plan import plan_report, runs_report
    from waferline.traffic.planning.here import what_runs
    from waferline.traffic.planning.plan import plan as planned

    names = [name.strip() for name in on.split(",") if name.strip()]
    if not names:
        raise InvalidInputError("--on names no machine", hint="separate several by commas: --on h100,h200")
    if model is None:
        load = {"--rate": rate_per_s, "--prompt": prompt, "--output": output, "--slo": slo, "--precision": precision,
                "--budget": budget, "--engine": engine, "--region": region}  # fmt: skip
        unread = [option for option, value in load.items() if value is not None]
        if unread:
            raise InvalidInputError(f"{', '.join(unread)} would not be read without a model", hint="name the model")
        if len(names) != 1:
            raise InvalidInputError("without a model --on names one machine")
        runs = what_runs(options.machine(names[0]), memory=memory)
        emit(as_json, runs, lambda: runs_report(runs))
        if not runs.rows:
            raise typer.Exit(3)
        return
    if rate_per_s is None:
        raise InvalidInputError("a plan needs the load", hint="--rate 20/s")
    with progress("planning", hidden=as_json):
        found = planned(
            model, rate_per_s=rate_per_s, machines=[options.machine(n) for n in names], prompt=prompt or 1024,
            output=output or 256, slo=slo or "", engine=engine, budget_usd_per_h=budget, region=region, memory=memory,
            precisions=[p.strip() for p in precision.split(",")] if precision else [None],
        )  # fmt: skip
    emit(as_json, found, lambda: plan_report(found))
    if found.best is None:
        raise typer.Exit(3)
