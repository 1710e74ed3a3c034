"""`waferline predict`: one model on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from waferline.cli import options
from waferline.cli.asked import question
from waferline.cli.output import emit
from waferline.cli.taking import taking

if TYPE_CHECKING:
    from waferline.predict.run import Answer


@taking(asked=question(several=True))
def predict(
    model: options.Model,
    on: options.On,
    asked: dict[str, Any],
    explain: options.Explain = False,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """How fast, how big and how costly MODEL runs on a machine, why, and how sure we are."""
    import itertools
    from dataclasses import replace

    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario
    from waferline.report.answer import answer_report
    from waferline.report.compare import points_report

    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    scenario = Scenario(model=model, machine=options.machine(on), **asked)
    points = list(itertools.product(*(asked[name] or (None,) for name in ("batch", "prompt", "output"))))
    answers = [run(replace(scenario, batch=b, prompt=p, output=o)) for b, p, o in points]
    if plot is not None:
        _draw(list(zip(points, answers, strict=True)), plot)
    if len(answers) == 1:
        emit(as_json, answers[0], lambda: answer_report(answers[0], explain=explain))
    else:
        emit(as_json, answers, lambda: points_report(list(zip(points, answers, strict=True))))
    if not any(answer.fits for answer in answers):
        raise typer.Exit(3)


def _draw(points: Sequence[tuple[tuple[int | None, ...], Answer]], path: Path) -> None:
    from waferline.report.charts import save
    from waferline.report.charts.prediction import batches_chart, prediction_chart

    save(prediction_chart(points[0][1]) if len(points) == 1 else batches_chart(points), path)
