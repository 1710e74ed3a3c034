"""`waferline simulate serving`: requests through an engine's scheduler, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli import options
from waferline.cli.asked import question
from waferline.cli.output import emit, progress
from waferline.cli.taking import taking
from waferline.cli.traffic import LOAD, SERVER, Load, Server

if TYPE_CHECKING:
    from waferline.predict.scenario import Scenario
    from waferline.traffic.options import ServerOptions
    from waferline.traffic.serving_run import ServingRun

# What a simulated server reads of a question.
_ASKED = question("precision", "kv", "devices", "tp", "pp", "ep", "engine", "offload", "host", "techniques", "profile")


@taking(load=LOAD, server=SERVER, asked=_ASKED)
def serving(
    model: options.Model,
    on: options.On,
    load: Load,
    server: Server,
    asked: dict[str, Any],
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", help="Instead: a log with latencies; says where a gap to it comes from."),
    ] = None,
    slo: Annotated[
        str | None, typer.Option("--slo", help="Goals: ttft=500ms,tpot=30ms or p99-ttft=1s; exit code 3 when missed.")
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", help="Servers that requests go to.")] = None,
    prefill_replicas: Annotated[
        int, typer.Option("--prefill-replicas", help="More servers, that only read prompts; the others only generate.")
    ] = 0,
    prefill_tp: Annotated[
        int | None, typer.Option("--prefill-tp", help="Devices of each of these.  [default: as the others]")
    ] = None,
    prefill_ep: Annotated[
        int | None,
        typer.Option("--prefill-ep", help="Of them, those that share its experts.  [default: as the others]"),
    ] = None,
    fail: Annotated[
        list[str] | None, typer.Option("--fail", help="REPLICA@TIME+TIME: 0@60s+30s; as often as there are failures.")
    ] = None,
    autoscale: Annotated[
        str | None, typer.Option("--autoscale", help="LEAST..MOST replicas: 1..8,target=32,start=60s.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file with a row for every request.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the run over time: .html, .png or .svg.")] = None,
    as_json: options.Json = False,
) -> None:
    """Requests through the scheduler of MODEL's engine, one by one: latency percentiles, rates, queues."""
    from waferline.files import check_parquet
    from waferline.predict.scenario import Scenario
    from waferline.report.charts import check_ending
    from waferline.report.serving import serving_report
    from waferline.traffic.options import ServerOptions
    from waferline.traffic.serve import simulate_serving

    check_parquet(out)
    if plot is not None:
        check_ending(plot)
    scenario = Scenario(model=model, machine=options.machine(on), dp=replicas, **asked)
    pools: dict[str, Any] = {"prefill_replicas": prefill_replicas, "prefill_tp": prefill_tp, "prefill_ep": prefill_ep}
    served = ServerOptions(slo=slo, failures=tuple(fail or ()), autoscale=autoscale, **pools, **server.given())
    if calibrate is not None:
        others = {"--slo": slo, "--out": out, "--plot": plot}
        unread = [*load.given(), *(name for name, value in others.items() if value is not None)]
        _calibrate(scenario, calibrate, served, as_json, unread)
        return
    traffic = load.traffic()
    with progress("simulating", hidden=as_json):
        outcome = simulate_serving(scenario, traffic, served)
    emit(as_json, outcome, lambda: serving_report(outcome))
    _write(outcome, out, plot)
    if not all(outcome.values.get("slo_met", {}).values()):
        raise typer.Exit(3)


def _calibrate(scenario: Scenario, log: Path, served: ServerOptions, as_json: bool, unread: list[str]) -> None:
    from waferline.errors import InvalidInputError
    from waferline.report.serving import calibration_report
    from waferline.traffic.calibrate import calibrate

    if unread:
        raise InvalidInputError(f"{', '.join(unread)} would not be read beside --calibrate")
    with progress("simulating", hidden=as_json):
        found = calibrate(scenario, log, served)
    emit(as_json, found, lambda: calibration_report(found))


def _write(outcome: ServingRun, out: Path | None, plot: Path | None) -> None:
    if out is not None:
        from waferline.search.sweep import write_parquet

        write_parquet(iter([dict(outcome.per_request)]), out)
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.serving import serving_chart

        save(serving_chart(outcome), plot)
