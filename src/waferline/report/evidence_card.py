"""The accuracy card: what is aimed at and what is reached, as Markdown, from the rows alone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from waferline.evidence.check import Report
from waferline.evidence.crossval import CrossValidation
from waferline.evidence.summary import Figures, figures
from waferline.evidence.targets import TARGETS, Target
from waferline.report.evidence import COLUMNS, WORST, cells, signed, worst_cells
from waferline.report.evidence_markdown import EXPLANATION, grouped, reasons, suspects, table
from waferline.report.left_out import left_out
from waferline.text import percent

_WORST_ROWS = 25
_GROUPINGS = {
    "tier": "How well the operators of a prediction are known",
    "stated": "How much of the configuration is stated",
    "phase": "Phase",
    "metric": "Metric",
    "engine": "Engine",
    "machine": "Machine",
    "model": "Model",
    "source": "Source",
}
_AIMS = (
    "rows",
    "answered",
    "aim, median",
    "median error, fitted rows included",
    "p90",
    "bias",
    "in 90 % interval",
    "within the aim, fitted rows included",
    "others",
)


def card(report: Report, files: Sequence[str] = (), held_out: Sequence[CrossValidation] = ()) -> str:
    """The whole card. `files`: where the rows come from. `held_out`: evaluations that left whole groups out."""
    parts = [
        "# How accurate",
        "",
        _origin(report, files),
        "",
        EXPLANATION,
        "",
        "## What is aimed at",
        "",
        _aims(report),
    ]
    parts += ["", _split(held_out), "", "## Everything", "", table(("", *COLUMNS), [cells(report.total)]), ""]
    for grouping, title in _GROUPINGS.items():
        parts += [f"## {title}", "", grouped(report, grouping, most=40), ""]
    parts += ["## Worst rows", "", table(WORST, [worst_cells(o) for o in report.worst(_WORST_ROWS)], left=5), ""]
    parts += ["## Refused, and why", "", reasons(report, most=25), ""]
    parts += ["## Published values that are not scored", "", suspects(report, most=40), ""]
    return "\n".join(parts)


def _origin(report: Report, files: Sequence[str]) -> str:
    day = datetime.date.today().isoformat()
    return (
        f"Written by `python -m docs.build` on {day} from {len(report.outcomes):,} published values"
        + (f" ({', '.join(files)})" if files else "")
        + ". `waferline evidence report` prints the same for the rows at hand."
    )


def _aims(report: Report) -> str:
    rows = []
    for target in TARGETS:
        f = figures(target.title, [o for o in report.outcomes if target.picks(o)])
        if f.rows:
            rows.append(_aim(target, f))
    return table(("kind of row", *_AIMS), rows)


def _aim(target: Target, f: Figures) -> list[str]:
    aim = percent(target.median) + (f", p90 {percent(target.p90)}" if target.p90 else "")
    reached = f.median_error <= target.median and (target.p90 is None or f.p90_error <= target.p90)
    return [
        target.title,
        f"{f.rows:,}",
        percent(f.answered),
        aim,
        percent(f.median_error),
        percent(f.p90_error),
        signed(f.bias),
        percent(f.coverage),
        "yes" if reached else "no",
        target.peer,
    ]


def _split(held_out: Sequence[CrossValidation]) -> str:
    """Errors on groups that a fit has not seen."""
    if not held_out:
        return "## What the fits have not seen\n\n" + left_out()
    rows = [
        [
            f"one {cv.by} left out",
            f"{len(cv.groups)}",
            percent(cv.median_error),
            percent(cv.p90_error),
            percent(cv.coverage),
        ]
        for cv in held_out
    ]
    return table(("split", "groups", "median error", "p90", "in 90 % interval"), rows)


def build(docs: Path, shared: Path | None = None) -> list[Path]:
    """Write `accuracy.md` into `docs` from the full collection where it is at hand, else from the packaged rows."""
    from waferline.evidence.check import check
    from waferline.evidence.folder import evidence_files, evidence_rows

    path = docs / "accuracy.md"
    text = card(check(evidence_rows(shared)), [file.name for file in evidence_files(shared)])
    path.write_text(text, encoding="utf-8")
    return [path]
