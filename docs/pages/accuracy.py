"""Writes `docs/accuracy.md`, the accuracy card: what is aimed at and what is reached, from the rows alone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.pages.left_out import left_out
from docs.pages.markdown import write
from waferline.evidence.check import Report, check
from waferline.evidence.folder import evidence_files, evidence_rows
from waferline.evidence.summary import Figures, figures
from waferline.evidence.targets import TARGETS, Target
from waferline.report.evidence import EXPLANATION, figures_table, reasons_table, suspects_table, worst_table
from waferline.report.table import Column, Table
from waferline.text import percent, signed_percent

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
    "kind of row",
    Column("rows", ",d"),
    Column("answered", percent),
    Column("aim, median", left=False),
    Column("median error, fitted rows included", percent),
    Column("p90", percent),
    Column("bias", signed_percent),
    Column("in 90 % interval", percent),
    Column("within the aim, fitted rows included"),
    "others",
)


def card(report: Report, files: Sequence[str] = ()) -> str:
    """The whole card. `files`: where the rows come from."""
    parts = ["# How accurate", _origin(report, files), EXPLANATION, "## What is aimed at", _aims(report)]
    parts += ["## What the fits have not seen", left_out()]
    parts += ["## Everything", figures_table([report.total]).markdown()]
    for grouping, title in _GROUPINGS.items():
        parts += [f"## {title}", figures_table(report.by(grouping), grouping, most=40).markdown()]
    parts += ["## Worst rows", worst_table(report, _WORST_ROWS).markdown()]
    parts += ["## Refused, and why", reasons_table(report, most=25).markdown()]
    parts += ["## Published values that are not scored", suspects_table(report, most=40).markdown()]
    return "\n\n".join(parts)


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
    return Table("", _AIMS, rows).markdown()


def _aim(target: Target, f: Figures) -> tuple[Any, ...]:
    aim = percent(target.median) + (f", p90 {percent(target.p90)}" if target.p90 else "")
    reached = f.median_error <= target.median and (target.p90 is None or f.p90_error <= target.p90)
    errors = f.median_error, f.p90_error, f.bias, f.coverage
    return (target.title, f.rows, f.answered, aim, *errors, reached, target.peer)


def build() -> list[Path]:
    """Write docs/accuracy.md from the full collection where it is at hand, else from the packaged rows."""
    return [write("accuracy.md", card(check(evidence_rows()), [file.name for file in evidence_files()]))]
