"""Verdicts on claims, with their reasons, and the survey of published rows as claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waferline.evidence.claims.judge import STATUSES, Judgement
from waferline.evidence.claims.sheet import SHEET
from waferline.evidence.claims.survey import Survey
from waferline.report.table import Block, Column, Table, right
from waferline.text import metric, number, percent

FLAGGED = (
    "row",
    "machine",
    "model",
    "metric",
    Column("published", ".4g"),
    Column("law allows", ".4g"),
    Column("law"),
)


def judgement_report(judged: Sequence[Judgement]) -> Iterator[Block]:
    """One verdict a claim, then why."""
    for j in judged:
        yield j.claim.text if j.claim else j.row.id, "title"
        yield f"  {j.status}" + (f" ({j.law})" if j.law else ""), "alarm" if j.status == "infeasible" else ""
        yield from ((f"  · {reason}", "note") for reason in j.reasons)
        if j.best is not None or j.expected is not None:
            yield Table("", ("", *right("claimed", "expected", "95 % interval", "law allows")), [_cells(j)])
        else:
            yield ""


def _cells(j: Judgement) -> list[str]:
    name, value = (j.claim.metric, j.claim.value) if j.claim else (j.row.metric, j.row.value)
    e = j.expected
    interval = f"{_text(name, e.low95)} to {_text(name, e.high95)}" if e else "–"
    best = _text(name, j.best) if j.best is not None else "–"
    return [name, _text(name, value), _text(name, e.value) if e else "–", interval, best]


def _text(name: str, value: float) -> str:
    if name in SHEET:
        return metric(value, SHEET[name].unit) if SHEET[name].unit in ("B", "W") else number(value)
    return metric(value, "s") if name.endswith("_s") and not name.endswith("per_s") else number(value)


def survey_report(s: Survey) -> Iterator[Block]:
    """Counts by verdict, what was caught and wrongly flagged, and every sound row that was flagged."""
    yield verdict_table(s)
    yield f"impossible rows called infeasible: {percent(s.caught)} of {len(s.impossible)}"
    yield f"sound rows called infeasible: {percent(s.wrongly_flagged)} of {len(s.sound):,}"
    yield ""
    yield flagged_table(s)


def verdict_table(s: Survey) -> Table:
    counts = [(verdict, s.count(verdict)) for verdict in STATUSES]
    return Table("Published rows as claims", ("verdict", Column("rows", ",d")), counts)


def flagged_table(s: Survey) -> Table:
    """One line for every unmarked row that breaks a law."""
    return Table("Sound rows called infeasible", FLAGGED, [_flagged(j) for j in s.sound if j.status == "infeasible"])


def _flagged(j: Judgement) -> tuple[Any, ...]:
    return j.row.id, j.row.hardware, j.row.model, j.row.metric, j.row.value, j.best, j.law
