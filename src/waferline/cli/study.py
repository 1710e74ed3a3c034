"""`waferline study`: published systems recomputed, with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.evidence.studies.study import StudyReport

app = typer.Typer(help="Published systems as runnable cases: list them, run them.", no_args_is_help=True)


@app.command("list")
def list_studies(as_json: options.Json = False) -> None:
    """All studies: name, what was published, when and where."""
    from waferline.evidence.studies.registry import load_study, study_names

    studies = [load_study(name) for name in study_names()]
    if as_json:
        _print_json(
            [
                {"name": s.name, "title": s.title, "claim": s.claim, "url": s.source.url, "date": s.source.date}
                for s in studies
            ]
        )
    else:
        from waferline.report.studies import print_studies

        print_studies(studies)


@app.command("run")
def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Studies.", autocompletion=options.complete_study)
    ] = None,
    run_all: Annotated[bool, typer.Option("--all", help="Run every study.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also write a chart of each study, NAME.html.")] = False,
    as_json: options.Json = False,
) -> None:
    """Compute what studies declare and print published beside computed, with a verdict and its reason."""
    from waferline.errors import InvalidInputError
    from waferline.evidence.studies.registry import run_studies, study_names

    if bool(names) == run_all:
        raise InvalidInputError("name one or more studies, or give --all", hint=", ".join(study_names()))
    wanted = study_names() if run_all else list(names or [])
    with _progress(len(wanted)) as advance:
        reports = run_studies(wanted, advance)
    written = _write_plots(reports) if plot else []
    if as_json:
        _print_json([r.to_json() for r in reports])
    else:
        from waferline.report.studies import print_reports

        print_reports(reports)
        for path in written:
            typer.echo(f"wrote {path}")


def _write_plots(reports: list[StudyReport]) -> list[str]:
    from pathlib import Path

    from waferline.report.studies import chart_html

    paths = []
    for report in reports:
        path = Path(f"{report.study.name}.html")
        path.write_text(chart_html(report), encoding="utf-8")
        paths.append(str(path))
    return paths


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None] | None]:
    """A bar on the error stream of a terminal that names the study under way; nothing in a pipe."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("studies", total=total)
        done = iter(range(total))

        def started(name: str) -> None:
            bar.update(task, completed=next(done), description=name)

        yield started


def _print_json(data: object) -> None:
    import json

    typer.echo(json.dumps(data, indent=2, allow_nan=False))
