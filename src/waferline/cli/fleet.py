"""`waferline fleet` and `waferline queue`: what many machines cost and how often they stop, and how long requests wait."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waferline.cli.options import Json
from waferline.cli.output import emit
from waferline.cli.traffic import rate as rate_of


def fleet(
    machine: Annotated[str, typer.Argument(help="A machine of the catalogue, or its file.")],
    devices: Annotated[int, typer.Option("--devices", help="How many of it.")] = 1,
    days: Annotated[float, typer.Option("--days", help="How long it runs.")] = 30.0,
    model: Annotated[str | None, typer.Option("--model", help="What it trains: a save holds its state.")] = None,
    region: Annotated[str | None, typer.Option("--region", help="Where: a cloud region or a country.")] = None,
    operator: Annotated[str | None, typer.Option("--operator", help="Whose building: aws, google, meta, ...")] = None,
    power: Annotated[
        float | None, typer.Option("--power", help="Watts that one device draws; its limit unless given.")
    ] = None,
    kwh_price: Annotated[float | None, typer.Option("--kwh-price", help="Dollars a kilowatt-hour.")] = None,
    device_price: Annotated[float | None, typer.Option("--device-price", help="Dollars a device.")] = None,
    maintenance: Annotated[float, typer.Option("--maintenance", help="Share of the purchase a year.")] = 0.0,
    save: Annotated[float, typer.Option("--save", help="Seconds that a save stops the job.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Many of one MACHINE over time: interruptions and saves, energy, carbon, water, and total cost."""
    from waferline.predict.result import Result
    from waferline.report.fleet import fleet_report
    from waferline.systems.fleet import Fleet
    from waferline.systems.place import EconomicsModel, Place, SustainabilityModel
    from waferline.systems.reliability import CheckpointModel, ReliabilityModel

    group = Fleet(machine, devices)
    place: dict[str, Any] = {"datacenter": region, "operator": operator, "power_w": power}
    priced = kwh_price is not None or Place.of(region, operator).usd_per_kwh > 0
    answers: dict[str, Result] = {"reliability": ReliabilityModel().solve(group, days * 24, save)}
    if model is not None:
        answers["checkpoint"] = CheckpointModel().solve(model, n_writers=devices)
    if priced or device_price is not None or maintenance:
        prices: dict[str, Any] = {"device_usd": device_price, "maintenance_share": maintenance}
        answers["economics"] = EconomicsModel().solve(group, days, kwh_price, **prices, **place)
    else:
        answers["sustainability"] = SustainabilityModel().solve(group, days, **place)
    title = f"{group.title} for {days:g} days in {Place.of(region, operator).name}"
    emit(as_json, {"fleet": group.title, **answers}, lambda: fleet_report(title, answers))


def queue(
    rate: Annotated[
        float, typer.Option("--rate", parser=rate_of, metavar="N/s", help="Requests a second: 8/s, 90/min.")
    ],
    service: Annotated[str, typer.Option("--service", help="Mean time that one request takes a replica: 150ms.")],
    replicas: Annotated[int, typer.Option("--replicas", help="That serve one request each.")] = 1,
    cv: Annotated[
        float, typer.Option("--cv", help="Spread of service times over their mean: 0 constant, 1 exponential.")
    ] = 1.0,
    slo: Annotated[str | None, typer.Option("--slo", help="Latency that should hold: 500ms.")] = None,
    as_json: Json = False,
) -> None:
    """Latency percentiles of requests that queue for one of several replicas (M/M/c and its kin)."""
    from waferline.report.fleet import queue_report
    from waferline.systems.queueing import TailLatencyModel
    from waferline.units import to_si

    seconds = float(to_si("--service", service, "second"))
    goal = None if slo is None else float(to_si("--slo", slo, "second")) * 1e3
    answer = TailLatencyModel().solve(rate, seconds * 1e3, replicas, cv, slo_ms=goal)
    emit(as_json, answer, lambda: queue_report(answer))
