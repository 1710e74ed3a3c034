"""`waferline study`: published systems recomputed, with verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from waferline.cli.asked import question
from waferline.cli.options import Json, complete_study
from waferline.cli.output import emit, progress
from waferline.cli.taking import taking

app = typer.Typer(help="Published systems as runnable cases: list them, run them.", no_args_is_help=True)


@app.command("list")
def list_studies(as_json: Json = False) -> None:
    """All studies: name, what was published, when and where."""
    from waferline.evidence.studies.registry import load_study, study_names
    from waferline.report.studies import study_list

    studies = [load_study(name) for name in study_names()]
    data = [
        {"name": s.name, "title": s.title, "claim": s.claim, "url": s.source.url, "date": s.source.date}
        for s in studies
    ]
    emit(as_json, data, lambda: study_list(studies))


_SERVED = (
    "precision", "kv", "batch", "prompt", "output", "context", "memory", "memory_share", "threads", "devices", "tp", "pp", "ep",
    "dp", "engine", "host", "techniques",
)  # fmt: skip


@app.command("run")
@taking(asked=question(*_SERVED))
def run(
    asked: dict[str, Any],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Studies.", autocompletion=complete_study)
    ] = None,
    run_all: Annotated[bool, typer.Option("--all", help="Run every study.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also write a chart of each study, NAME.html.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="A model of your own: the study's mechanism on it.")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="The machine for it.")] = None,
    as_json: Json = False,
) -> None:
    """Compute what studies declare and print published beside computed, with a verdict and its reason.

    With --model and --on: the mechanism of one study, or of --with, on a model and a machine of your own, with it and without
    it; options as those of `predict`.
    """
    from waferline.errors import InvalidInputError
    from waferline.evidence.studies.registry import run_studies, study_names
    from waferline.report.charts import check_ending, save
    from waferline.report.charts.checks import study_chart
    from waferline.report.studies import study_report

    if any(given is not None for given in (model, on, *asked.values())):
        _on_own(names, model, on, asked, as_json)
        return
    if bool(names) == run_all:
        raise InvalidInputError("name one or more studies, or give --all", hint=", ".join(study_names()))
    if plot:
        check_ending("study.html")
    wanted = study_names() if run_all else list(names or [])
    done = iter(range(len(wanted)))
    with progress("studies", len(wanted)) as advance:
        reports = run_studies(wanted, lambda name: advance(description=name, completed=next(done)))
    written = [Path(f"{report.study.name}.html") for report in reports] if plot else []
    for path, report in zip(written, reports, strict=False):
        save(study_chart(report), path)
    emit(as_json, reports, lambda: [*study_report(reports), *(f"wrote {path}" for path in written)])


def _on_own(names: list[str] | None, model: str | None, on: str | None, asked: dict[str, Any], as_json: bool) -> None:
    """The mechanism of one study on the user's own case. Raises: InvalidInputError."""
    from waferline.cli.options import machine
    from waferline.errors import InvalidInputError
    from waferline.evidence.studies.own_case import own_case
    from waferline.predict.scenario import Scenario
    from waferline.report.studies import own_case_report

    if not names or len(names) != 1 or model is None or on is None:
        raise InvalidInputError(
            "one study, --model and --on go together", hint="study run prefix-caching --model M --on H"
        )
    case = own_case(names[0], Scenario(model=model, machine=machine(on), **asked))
    emit(as_json, case, lambda: own_case_report(case))
