"""Verdicts on claims as a table and their reasons below it."""

from __future__ import annotations

from collections.abc import Sequence

from waferline.evidence.claims.judge import Judgement, Status
from waferline.report.tables import simple_table
from waferline.report.text import metric

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
