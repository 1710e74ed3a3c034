"""Predictions against published measurements: the tables that the terminal, the document and the page share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from waferline.evidence.lint import Mark
from waferline.evidence.operators import OperatorFigures
from waferline.evidence.outcome import Outcome
from waferline.evidence.reasons import likely_reason
from waferline.evidence.report import Report
from waferline.evidence.rows import Row
from waferline.evidence.summary import Figures
from waferline.report.table import Block, Column, Table
from waferline.text import percent, signed_percent

FIGURES = (
    Column("rows", ",d"),
    Column("predicted", percent),
    Column("scored", ",d"),
    Column("median error", percent),
    Column("p90", percent),
    Column("bias", signed_percent),
    Column("in 90 % interval", percent),
    Column("faster than light", ",d"),
    Column("refused"),
)
WORST = ("id", "machine", "model", "phase", "metric", Column("value", ".4g"), Column("predicted", ".4g"),
         Column("factor", left=False), "why, probably")  # fmt: skip
_SUSPECT = ("id", "machine", "model", "metric", "why")
_REASONS_SHOWN = 3
EXPLANATION = (
    "A row is one published value of one metric. *Predicted* is the share of rows that waferline answers; the others "
    "are refused, with the reason. *Scored* rows are predicted ones whose published value is neither marked suspect by "
    "its collector nor faster than the speed-of-light bound of its machine. Errors are |predicted − published| / "
    "published. *Bias* is the median of predicted over published time, minus one: above 0, predictions are too slow. "
    "*In 90 % interval* is the share of scored rows inside the interval that was predicted for them."
)


def figures_table(groups: Sequence[Figures], grouping: str = "", most: int | None = None) -> Table:
    """One line a group; groups beyond `most` are told by their number."""
    rows = [_figures(f) for f in groups[:most]]
    rest = sum(f.rows for f in groups[len(rows) :])
    notes = (f"{len(groups) - len(rows)} more groups with {rest:,} rows.",) if rest else ()
    return Table(f"by {grouping}" if grouping else "", (grouping, *FIGURES), rows, notes)


def _figures(f: Figures) -> tuple[Any, ...]:
    errors = f.median_error, f.p90_error, f.bias, f.coverage
    return (f.name, f.rows, f.answered, f.scored, *errors, f.faster_than_light or None, _refusals(f))


def _refusals(figures: Figures) -> str:
    """The commonest reasons: `120 model, 4 batch`."""
    counts = list(figures.refused.items())
    parts = [f"{count} {kind}" for kind, count in counts[:_REASONS_SHOWN]]
    rest = sum(count for _, count in counts[_REASONS_SHOWN:])
    return ", ".join([*parts, f"{rest} other"] if rest else parts)


def worst_table(report: Report, count: int) -> Table:
    """The scored rows that are off by the largest factor, with what in the row points to a reason."""
    return Table("worst rows", WORST, [_worst(o) for o in report.worst(count)])


def _worst(outcome: Outcome) -> tuple[Any, ...]:
    row, factor = outcome.row, math.exp(outcome.slower)
    machine = row.hardware + (f" × {row.devices:g}" if (row.devices or 1) > 1 else "")
    off = f"{factor:.2f}× slower" if factor > 1 else f"{1 / factor:.2f}× faster"
    values = row.value, outcome.predicted
    return (row.id, machine, row.model, row.phase, row.metric, *values, off, likely_reason(outcome))


def reasons_table(report: Report, most: int = 40) -> Table:
    """Refusals by their full text, the commonest first."""
    counts: dict[tuple[str, str], int] = {}
    for o in report.outcomes:
        if o.refused is not None:
            counts[o.refused, o.refused_kind] = counts.get((o.refused, o.refused_kind), 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(n for _, n in ranked[most:])
    notes = (f"{len(ranked) - most} more reasons with {rest:,} rows.",) if rest else ()
    rows = [(*reason, n) for reason, n in ranked[:most]]
    return Table("refusals", ("reason", "kind", Column("rows", ",d")), rows, notes)


def suspects_table(report: Report, most: int = 60) -> Table:
    """Rows that are predicted and not scored, with the reason."""
    found = [o for o in report.outcomes if o.answered and o.suspect]
    rows = [(o.row.id, o.row.hardware, o.row.model, f"{o.row.phase} {o.row.metric}", o.suspect) for o in found[:most]]
    notes = (f"{len(found) - most:,} more.",) if len(found) > most else ()
    return Table("not scored", _SUSPECT, rows, notes)


def evidence_report(report: Report, groupings: Sequence[str], worst: int) -> Iterator[Block]:
    """Tables by every grouping, and the worst rows."""
    yield from (figures_table(report.by(grouping), grouping) for grouping in groupings)
    if worst:
        yield worst_table(report, worst)
    yield figures_table([report.total, *([report.suspicious] if report.suspicious.rows else [])])
    yield (
        "errors are over scored rows: predicted, not suspect, not faster than light; "
        "bias is of predicted time over published time; every row is in --json",
        "note",
    )


def operators_report(found: Sequence[OperatorFigures]) -> Iterator[Block]:
    """Errors of operators by machine, operator, format and engine, and what was refused."""
    columns = ("machine", "operator", "format", "engine", "known", Column("rows", ",d"), *FIGURES[3:8])
    rows = [
        (f.machine, f.operator, f.format, f.engine, f.tier, f.rows,
         f.median_error, f.p90_error, f.bias, f.coverage, f.faster_than_light or None)
        for f in found
        if not f.refused
    ]  # fmt: skip
    yield Table("operators", columns, rows)
    for f in found:
        if f.refused:
            yield f"refused: {f.rows:,} rows of {f.machine} {f.operator} {f.format}: {f.refused}", "alarm"


def lint_report(rows: Sequence[Row], marks: Sequence[Mark]) -> Iterator[Block]:
    """Rows that break a rule, by rule, and how many."""
    known = {row.id: row for row in rows}
    found = [(m.id, known[m.id].hardware, known[m.id].model, m.rule, m.why) for m in marks]
    yield Table("rows that cannot all be true", ("id", "machine", "model", "rule", "why"), found)
    count = len({m.id for m in marks})
    yield f"{count:,} of {len(rows):,} rows are marked; they are predicted, and neither scored nor fitted", "note"


_TITLES = {
    "phase": "By phase",
    "metric": "By metric",
    "engine": "By engine",
    "machine": "By machine",
    "model": "By model",
    "tier": "By how well the operators are known",
    "stated": "By how much of the configuration is stated",
    "source": "By source",
}


def document(report: Report, files: Sequence[str]) -> str:
    """The whole report as a Markdown document. `files`: names of the files that the rows come from."""
    parts = ["# Predictions against published measurements", f"Rows of {', '.join(files)}. {EXPLANATION}"]
    parts.append(figures_table([report.total]).markdown())
    for grouping, title in _TITLES.items():
        parts += [f"## {title}", figures_table(report.by(grouping), grouping, most=60).markdown()]
    for title, table in (
        ("Reasons for refusals", reasons_table(report)),
        ("Worst rows", worst_table(report, 30)),
        ("Published values that are not scored", suspects_table(report)),
    ):
        parts += [f"## {title}", table.markdown()]
    return "\n\n".join(parts) + "\n"
