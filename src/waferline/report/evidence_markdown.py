"""The evidence report as a Markdown document."""

from __future__ import annotations

from collections.abc import Sequence

from waferline.evidence.check import Report
from waferline.evidence.outcome import Outcome
from waferline.report.evidence import COLUMNS, WORST, cells, worst_cells

_WORST_ROWS = 30
_SUSPECT_ROWS = 60
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

EXPLANATION = (
    "A row is one published value of one metric. *Predicted* is the share of rows that waferline answers; the others "
    "are refused, with the reason. *Scored* rows are predicted ones whose published value is neither marked suspect by "
    "its collector nor faster than the speed-of-light bound of its machine. Errors are |predicted − published| / "
    "published. *Bias* is the median of predicted over published time, minus one: above 0, predictions are too slow. "
    "*In 90 % interval* is the share of scored rows inside the interval that was predicted for them."
)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table whose first `left` columns are left-aligned."""
    rule = ["---" if i < left else "---:" for i in range(len(columns))]
    lines = [columns, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def grouped(report: Report, grouping: str, most: int = 60) -> str:
    """One table of figures; groups beyond `most` are told by their number."""
    groups = report.by(grouping)
    text = table((grouping, *COLUMNS), [cells(f) for f in groups[:most]])
    rest = sum(f.rows for f in groups[most:])
    return f"{text}\n\n{len(groups) - most} more groups with {rest:,} rows." if rest else text


def document(report: Report, files: Sequence[str]) -> str:
    """The whole report. `files`: names of the files that the rows come from."""
    parts = ["# Predictions against published measurements", "", f"Rows of {', '.join(files)}. {EXPLANATION}", ""]
    parts += [table(("", *COLUMNS), [cells(report.total)]), ""]
    for grouping, title in _TITLES.items():
        parts += [f"## {title}", "", grouped(report, grouping), ""]
    parts += ["## Reasons for refusals", "", reasons(report), ""]
    parts += ["## Worst rows", "", table(WORST, [worst_cells(o) for o in report.worst(_WORST_ROWS)], left=5), ""]
    parts += ["## Published values that are not scored", "", suspects(report), ""]
    return "\n".join(parts)


def reasons(report: Report, most: int = 40) -> str:
    """Refusals by their full text."""
    counts: dict[tuple[str, str], int] = {}
    for o in report.outcomes:
        if o.refused is not None:
            counts[o.refused_kind, o.refused] = counts.get((o.refused_kind, o.refused), 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    text = table(("reason", "kind", "rows"), [(why, kind, f"{n:,}") for (kind, why), n in ranked[:most]], left=2)
    rest = sum(n for _, n in ranked[most:])
    return f"{text}\n\n{len(ranked) - most} more reasons with {rest:,} rows." if rest else text


def suspects(report: Report, most: int = _SUSPECT_ROWS) -> str:
    """Rows that are predicted and not scored, with the reason."""
    found = [o for o in report.outcomes if o.answered and o.suspect]
    text = table(("id", "machine", "model", "metric", "why"), [_suspect(o) for o in found[:most]], left=5)
    return f"{text}\n\n{len(found) - most:,} more." if len(found) > most else text


def _suspect(o: Outcome) -> tuple[str, ...]:
    return o.row.id, o.row.hardware, o.row.model, f"{o.row.phase} {o.row.metric}", o.suspect
