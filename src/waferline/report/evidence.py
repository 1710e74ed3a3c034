"""Errors against published measurements as tables on a terminal, and the cells that every other form shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from waferline.evidence.check import Report
from waferline.evidence.outcome import Outcome
from waferline.evidence.summary import Figures
from waferline.report.tables import simple_table
from waferline.text import percent

COLUMNS = (
    "rows",
    "predicted",
    "scored",
    "median error",
    "p90",
    "bias",
    "in 90 % interval",
    "faster than light",
    "refused",
)
WORST = ("id", "machine", "model", "phase", "metric", "value", "predicted", "factor", "why, probably")
_REASONS_SHOWN = 3


def signed(value: float) -> str:
    """A share with its sign, `–` where there is none."""
    return f"{100 * value:+.0f} %".replace("-", "−") if math.isfinite(value) else "–"


def refusals(figures: Figures, shown: int = _REASONS_SHOWN) -> str:
    """The commonest reasons: `120 model, 4 batch`."""
    parts = [f"{count} {kind}" for kind, count in list(figures.refused.items())[:shown]]
    rest = sum(figures.refused.values()) - sum(list(figures.refused.values())[:shown])
    return ", ".join([*parts, f"{rest} other"] if rest else parts)


def cells(figures: Figures) -> list[str]:
    """One group of rows as the cells of `COLUMNS`, its name first."""
    return [
        figures.name,
        f"{figures.rows:,}",
        percent(figures.answered),
        f"{figures.scored:,}",
        percent(figures.median_error),
        percent(figures.p90_error),
        signed(figures.bias),
        percent(figures.coverage),
        f"{figures.faster_than_light or '–'}",
        refusals(figures),
    ]


def worst_cells(outcome: Outcome) -> list[str]:
    """One outlying row as the cells of `WORST`."""
    from waferline.evidence.reasons import likely_reason

    row = outcome.row
    factor = math.exp(outcome.slower)
    return [
        row.id,
        row.hardware + (f" × {row.devices:g}" if (row.devices or 1) > 1 else ""),
        row.model,
        row.phase,
        row.metric,
        f"{row.value:.4g}",
        f"{outcome.predicted:.4g}",
        f"{factor:.2f}× slower" if factor > 1 else f"{1 / factor:.2f}× faster",
        likely_reason(outcome),
    ]


def print_report(report: Report, groupings: Sequence[str], worst: int) -> None:
    """Tables by every grouping, and the worst rows, to standard output."""
    console = Console(width=None if Console().is_terminal else 180, highlight=False)
    for grouping in groupings:
        body = [cells(f) for f in report.by(grouping)]
        console.print(simple_table(f"by {grouping}", (grouping, *COLUMNS), body))
        console.print()
    if worst:
        console.print(simple_table("worst rows", WORST, [worst_cells(o) for o in report.worst(worst)]))
        console.print()
    console.print(simple_table("", ("", *COLUMNS), [cells(report.total)]))
    console.print(
        "[dim]errors are over scored rows: predicted, not suspect, not faster than light; "
        "bias is of predicted time over published time; every row is in --json[/dim]"
    )
