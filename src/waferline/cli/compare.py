"""`waferline compare`: one model on several machines, side by side."""

from __future__ import annotations

from typing import Any

import typer

from waferline.cli import options
from waferline.cli.asked import question
from waferline.cli.output import emit
from waferline.cli.taking import taking


@taking(asked=question())
def compare(
    model: options.Model,
    on: options.Machines,
    asked: dict[str, Any],
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """MODEL on several machines: devices needed, speed, bottleneck, energy and cost."""
    from waferline.predict.compare import compare as compare_machines
    from waferline.predict.scenario import Scenario
    from waferline.report.compare import comparison_report

    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    machines = [options.machine(str(name)) for name in options.names("--on", on)]
    scenario = Scenario(model=model, machine=None, **asked)
    rows = compare_machines(scenario, machines)
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.comparison import comparison_chart

        save(comparison_chart(rows), plot)
    emit(as_json, rows, lambda: comparison_report(rows))
    if not any(row.answer is not None and row.answer.fits for row in rows):
        raise typer.Exit(3)
