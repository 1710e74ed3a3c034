"""Verdicts on claims as a table and their reasons below it."""

from __future__ import annotations

from collections.abc import Sequence

from waferline.evidence.claims.judge import STATUSES, Judgement, Status
from waferline.evidence.claims.survey import Survey
from waferline.report.tables import simple_table
from waferline.text import metric, percent

_COLOURS: dict[Status, str] = {
    "plausible": "green",
    "optimistic": "yellow",
    "infeasible": "red",
    "unverifiable": "dim",
}


def print_judgements(judged: Sequence[Judgement]) -> None:
    """One line a claim, then why."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    for j in judged:
        claim = j.claim
        title = claim.text if claim else j.row.id
        console.print(f"\n[bold]{title}[/bold]")
        colour = _COLOURS[j.status]
        console.print(f"  [{colour}]{j.status}[/{colour}]" + (f" ({j.law})" if j.law else ""))
        for reason in j.reasons:
            console.print(f"  [dim]· {reason}[/dim]")
        if j.best is not None or j.expected is not None:
            console.print(simple_table("", ("", "claimed", "expected", "95 % interval", "law allows"), [_cells(j)]))


def _cells(j: Judgement) -> list[str]:
    name = j.claim.metric if j.claim else j.row.metric
    e = j.expected
    value = j.claim.value if j.claim else j.row.value
    interval = f"{_text(name, e.low95)} to {_text(name, e.high95)}" if e else "–"
    best = _text(name, j.best) if j.best is not None else "–"
    return [name, _text(name, value), _text(name, e.value) if e else "–", interval, best]


def _text(name: str, value: float) -> str:
    if name.endswith("per_s"):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return metric(value, "s") if name.endswith("_s") else f"{value:.3g}"


def print_survey(s: Survey) -> None:
    """Counts by verdict, what was caught and wrongly flagged, and every sound row that was flagged."""
    from rich.console import Console

    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    console.print(
        simple_table("Published rows as claims", ("verdict", "rows"), [[v, f"{s.count(v):,}"] for v in STATUSES])
    )
    console.print(f"\nimpossible rows called infeasible: {percent(s.caught)} of {len(s.impossible)}")
    console.print(f"sound rows called infeasible: {percent(s.wrongly_flagged)} of {len(s.sound):,}\n")
    console.print(simple_table("Sound rows called infeasible", FLAGGED_HEADER, flagged_cells(s), left=4))


FLAGGED_HEADER = ("row", "machine", "model", "metric", "published", "law allows", "law")


def flagged_cells(s: Survey) -> list[list[str]]:
    """One line for every unmarked row that breaks a law."""
    return [
        [
            j.row.id,
            j.row.hardware,
            j.row.model,
            j.row.metric,
            f"{j.row.value:.4g}",
            f"{j.best:.4g}" if j.best is not None else "–",
            j.law,
        ]
        for j in s.sound
        if j.status == "infeasible"
    ]
