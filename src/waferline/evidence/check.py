"""Every published row predicted or refused, with the errors that are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from waferline.evidence.ask import ask
from waferline.evidence.ask_operation import operation
from waferline.evidence.lint import with_marks
from waferline.evidence.outcome import Outcome
from waferline.evidence.published_units import in_si
from waferline.evidence.report import Report
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of


def prepared(rows: Sequence[Row]) -> list[Row]:
    """Rows in the evidence's metrics, those that a rule of `lint` finds marked suspect."""
    return with_marks([in_si(row) for row in rows])


def check(rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> Report:
    """Predict each row or say why not; what a rule of `lint` finds is predicted, and not scored.

    `progress` is told how many rows were done, group by group.
    """
    rows = prepared(rows)
    asked = [operation(row) or request_of(row) for row in rows]
    answers = iter(ask([r for r in asked if isinstance(r, Request)], progress))
    outcomes = []
    for row, request in zip(rows, asked, strict=True):
        if isinstance(request, Refusal):
            outcomes.append(Outcome(row=row, refused=request.reason, refused_kind=request.kind))
            continue
        answer, assumed = (next(answers), request.assumed) if isinstance(request, Request) else request
        if isinstance(answer, Refusal):
            outcomes.append(Outcome(row=row, refused=answer.reason, refused_kind=answer.kind, assumed=assumed))
            continue
        outcomes.append(
            Outcome(
                row=row,
                predicted=answer.value,
                low90=answer.low90,
                high90=answer.high90,
                light=answer.light,
                tier=answer.tier,
                assumed=assumed,
                notes=answer.notes,
            )
        )
    return Report(tuple(outcomes))
