"""`waferline solve` and `waferline sensitivity`: a prediction turned round, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waferline.cli import options
from waferline.cli.asked import question
from waferline.cli.output import emit
from waferline.cli.taking import taking


@taking(asked=question())
def solve(
    field: Annotated[
        str,
        typer.Argument(
            help="batch, prompt, output, context, tp, ...; flops, bandwidth, capacity or links as a factor."
        ),
    ],
    model: options.Model,
    on: options.On,
    goals: Annotated[
        list[str], typer.Option("--for", help="tpot<=20ms, ttft<=1s, throughput>=5000, any field; may be repeated.")
    ],
    asked: dict[str, Any],
    as_json: options.Json = False,
) -> None:
    """The value of FIELD at which MODEL on a machine just holds its goals; exit code 3 where none does."""
    from waferline.predict.scenario import Scenario
    from waferline.report.search import solution_report
    from waferline.search.solve import solve as solved

    found = solved(field, goals, Scenario(model=model, machine=options.machine(on), **asked))
    emit(as_json, found, lambda: solution_report(found))
    if found.value is None:
        raise typer.Exit(3)


@taking(asked=question())
def sensitivity(model: options.Model, on: options.On, asked: dict[str, Any], as_json: options.Json = False) -> None:
    """By how many per cent times and cost move for a per cent of arithmetic, bandwidth, memory, links and host."""
    from waferline.predict.scenario import Scenario
    from waferline.report.search import sensitivity_report
    from waferline.search.sensitivity import sensitivity as elasticities

    found = elasticities(Scenario(model=model, machine=options.machine(on), **asked))
    emit(as_json, found, lambda: sensitivity_report(found))
