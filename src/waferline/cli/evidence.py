"""`waferline evidence`: published measurements beside what waferline predicts for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.evidence.check import Report
    from waferline.evidence.rows import Row

app = typer.Typer(
    help="Published measurements beside predictions: check a file, or report on all.", no_args_is_help=True
)

_GROUPINGS = "source, machine, phase, metric, engine, model, tier, stated or format"
BY = typer.Option("--by", help=f"Group by {_GROUPINGS}; may be repeated.  [default: source, machine, phase, metric]")
_REPORT_FOLDER = Path("evidence-report")


@app.command("check")
def check_file(
    file: Annotated[Path, typer.Argument(help="Rows as .csv or .csv.gz, in the published schema.")],
    by: Annotated[list[str] | None, BY] = None,
    worst: Annotated[int, typer.Option(min=0, help="Also list so many of the worst rows.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Predict every row of FILE and print the errors by group, with what was refused and why."""
    from waferline.evidence.rows import read_rows

    report = _checked(read_rows(file))
    if as_json:
        _print_json(report)
        return
    from waferline.report.evidence import print_report

    print_report(report, by or ["source", "machine", "phase", "metric"], worst)


@app.command("report")
def report_all(
    out: Annotated[
        Path | None, typer.Option(help="Write evidence.md and evidence.html here.  [default: evidence-report]")
    ] = None,
    shared: options.Shared = None,
    by: Annotated[list[str] | None, BY] = None,
    as_json: options.Json = False,
) -> None:
    """The accuracy of waferline over all published rows at hand: tables, and with --out a Markdown file and a page."""
    from waferline.evidence.folder import evidence_files, evidence_rows

    report = _checked(evidence_rows(shared))
    files = [path.name for path in evidence_files(shared)]
    folder = _REPORT_FOLDER if out is None and not as_json else out
    written = _write(report, folder, files) if folder is not None else []
    if as_json:
        _print_json(report)
        return
    from waferline.report.evidence import print_report

    print_report(report, by or ["phase", "metric", "engine", "tier", "stated"], 0)
    for path in written:
        typer.echo(f"wrote {path}")


def _write(report: Report, out: Path, files: list[str]) -> list[Path]:
    from waferline.errors import InvalidInputError
    from waferline.report.evidence_html import page
    from waferline.report.evidence_markdown import document

    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [out / "evidence.md", out / "evidence.html"]
        for path, text in zip(written, (document(report, files), page(report, files)), strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"cannot be written: {error.strerror}", where=str(out)) from None
    return written


def _checked(rows: list[Row]) -> Report:
    from waferline.evidence.check import check

    with _progress(len(rows)) as advance:
        return check(rows, advance)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on the error stream of a terminal; nothing in a pipe."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda done: bar.advance(task, done)


def _print_json(report: Report) -> None:
    import json

    typer.echo(json.dumps(report.to_json(), allow_nan=False))
