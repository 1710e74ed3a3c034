"""`waferline evidence`: published measurements beside what waferline predicts for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli.options import Json, Shared
from waferline.cli.output import emit, progress, warn

if TYPE_CHECKING:
    from waferline.evidence.report import Report
    from waferline.evidence.rows import Row

app = typer.Typer(
    help="Published measurements beside predictions: check a file, or report on all.", no_args_is_help=True
)

_REPORT_FOLDER = Path("evidence-report")
_By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        help="Group by source, machine, phase, metric, engine, model, tier, stated or format; may be repeated.",
    ),
]


@app.command("check")
def check_file(
    file: Annotated[Path, typer.Argument(help="Rows as .csv or .csv.gz; the columns are below.")],
    by: _By = None,
    worst: Annotated[int, typer.Option(min=0, help="Also list so many of the worst rows.")] = 0,
    as_json: Json = False,
) -> None:
    """Predict every row of FILE and print the errors by group, with what was refused and why.

    Columns, in any order, named in the first line: hardware, model, phase (prefill, decode, generate, serve or train), metric
    and value must be there. devices, batch, input_tokens, output_tokens, tp, pp, ep, dp, engine, weight_format,
    activation_format and kv_format say what was run; an empty cell is not stated. id, source, url, locator, kind, complete,
    suspect, missing, notes, engine_version, operation, cores_or_grid and unit may follow. Values are in SI units. An unknown
    column is an error.

    A file of effects (columns technique, technique_settings, baseline_value, hit_rate, acceptance beside those) is asked with each
    technique and without it. A file of serving runs (columns arrival, rate_per_s or concurrency, requests, ttft_mean_s,
    tpot_mean_s, ...) is simulated run by run; each latency and rate that a run states is scored. One of
    energies (columns metric, machine, scope, concurrency, ...) is predicted row by row.
    """
    from waferline.evidence import energy, techniques
    from waferline.evidence.rows import header_of, read_rows
    from waferline.evidence.serving_runs import MARKS, check_runs, read_runs
    from waferline.report.evidence import evidence_report

    groupings = _known(by or ["source", "machine", "phase", "metric"])
    header = set(header_of(file))
    if set(techniques.MARKS) <= header:
        effects = techniques.read_effects(file)
        with progress("predicting", len(effects)) as advance:
            report = techniques.check_effects(effects, advance)
    elif set(MARKS) <= header:
        runs = read_runs(file)
        with progress("simulating", len(runs)) as advance:
            report = check_runs(runs, advance)
    elif set(energy.MARKS) <= header:
        cells = energy.read_energy(file)
        with progress("predicting", len(cells)) as advance:
            report = energy.check_energy(cells, advance)
    else:
        report = _checked(read_rows(file))
    emit(as_json, report, lambda: evidence_report(report, groupings, worst))


@app.command("lint")
def lint_file(
    file: Annotated[Path, typer.Argument(help="Rows as .csv or .csv.gz, as `evidence check` reads them.")],
    as_json: Json = False,
) -> None:
    """Find rows of FILE that cannot all be true, by comparing them with each other; nothing is predicted.

    Repeats of one setting far apart, times to first token that pay for start-up, rates that fall with the batch or rise with
    the context, versions at a level of their own, one value under two names. What is found is never scored or fitted.
    """
    from waferline.evidence.lint import lint
    from waferline.evidence.rows import read_rows
    from waferline.report.evidence import lint_report

    rows = read_rows(file)
    marks = lint(rows)
    emit(as_json, {"rows": len(rows), "marks": marks}, lambda: lint_report(rows, marks))


@app.command("operators")
def operator_tables(
    folder: Annotated[Path, typer.Argument(help="A folder of operator tables, or one of them.")],
    as_json: Json = False,
) -> None:
    """Predict every row of measured operator tables: errors by machine, operator, format and engine.

    Files are named MACHINE_OPERATOR[_ENGINE].csv[.gz] (gemm, ctxattn, genattn, moe, ctxmla, genmla, nccl, allreduce; vLLM's
    kernels where no engine is named), latency_ms in milliseconds; a missing column is named. The machine's sheet comes from the
    catalogue.
    """
    from waferline.evidence.operators import check_operators, tables_in
    from waferline.report.evidence import operators_report

    with progress("predicting", len(tables_in(folder))) as advance:
        found = check_operators(folder, advance)
    emit(as_json, found, lambda: operators_report(found))


@app.command("report")
def report_all(
    out: Annotated[
        Path | None, typer.Option(help="Write evidence.md and evidence.html here.  [default: evidence-report]")
    ] = None,
    shared: Shared = None,
    by: _By = None,
    as_json: Json = False,
) -> None:
    """The accuracy of waferline over all published rows at hand: tables, and with --out a Markdown file and a page."""
    from waferline.evidence.folder import evidence_files, evidence_rows
    from waferline.report.evidence import evidence_report

    groupings = _known(by or ["phase", "metric", "engine", "tier", "stated"])
    report = _checked(evidence_rows(shared))
    folder = _REPORT_FOLDER if out is None and not as_json else out
    files = [path.name for path in evidence_files(shared)]
    written = _write(report, folder, files) if folder is not None else []
    emit(as_json, report, lambda: [*evidence_report(report, groupings, 0), *(f"wrote {path}" for path in written)])


def _known(groupings: Sequence[str]) -> Sequence[str]:
    from waferline.errors import unknown
    from waferline.evidence.summary import GROUPINGS

    for name in groupings:
        if name not in GROUPINGS:
            raise unknown("grouping", name, GROUPINGS)
    return groupings


def _write(report: Report, out: Path, files: list[str]) -> list[Path]:
    from importlib.util import find_spec

    from waferline.files import write_text
    from waferline.report.evidence import document
    from waferline.report.evidence_html import page

    out.mkdir(parents=True, exist_ok=True)
    made = {out / "evidence.md": document}
    if find_spec("plotly") is None:
        warn("the page needs plotly: pip install 'waferline[plot]'")
    else:
        made[out / "evidence.html"] = page
    for path, make in made.items():
        write_text(path, make(report, files))
    return list(made)


def _checked(rows: list[Row]) -> Report:
    from waferline.evidence.check import check

    with progress("predicting", len(rows)) as advance:
        return check(rows, advance)
