"""Every published row predicted or refused, with the errors that are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from waferline.errors import unknown
from waferline.evidence.ask import ask
from waferline.evidence.lint import with_marks
from waferline.evidence.outcome import Outcome
from waferline.evidence.published_units import in_si
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import Row
from waferline.evidence.scenario import request_of
from waferline.evidence.summary import GROUPINGS, Figures, by, figures


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of every row, in row order."""

    outcomes: tuple[Outcome, ...]

    @property
    def total(self) -> Figures:
        return figures("all rows", self.outcomes)

    @property
    def suspicious(self) -> Figures:
        """Rows that their collector or a rule of `lint` doubts: no other figure holds their errors."""
        return figures("suspicious, scored apart", self.outcomes, suspects=True)

    def by(self, grouping: str) -> list[Figures]:
        """Figures by source, machine, phase, metric, engine, model, tier, stated or format.

        Raises: UnknownNameError for another grouping.
        """
        if grouping not in GROUPINGS:
            raise unknown("grouping", grouping, GROUPINGS)
        return by(grouping, self.outcomes)

    def only(self, keep: Callable[[Outcome], bool]) -> Report:
        """The report of the rows that `keep` picks."""
        return Report(tuple(o for o in self.outcomes if keep(o)))

    def worst(self, count: int = 20) -> list[Outcome]:
        """The scored rows whose prediction is off by the largest factor."""
        return sorted((o for o in self.outcomes if o.scored), key=lambda o: -abs(o.slower))[:count]

    def to_json(self) -> dict[str, Any]:
        """Every row, and the figures by every grouping."""
        return {
            "total": self.total.to_json(),
            "suspicious": self.suspicious.to_json(),
            "by": {g: [f.to_json() for f in self.by(g)] for g in GROUPINGS},
            "rows": [o.to_json() for o in self.outcomes],
        }


def prepared(rows: Sequence[Row]) -> list[Row]:
    """Rows in the evidence's metrics, those that a rule of `lint` finds marked suspect."""
    return with_marks([in_si(row) for row in rows])


def check(rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> Report:
    """Predict each row or say why not; what a rule of `lint` finds is predicted, and not scored.

    `progress` is told how many rows were done, group by group.
    """
    rows = prepared(rows)
    asked = [request_of(row) for row in rows]
    requests = [(i, r) for i, r in enumerate(asked) if isinstance(r, Request)]
    answers = iter(ask([r for _, r in requests], progress))
    outcomes = []
    for row, request in zip(rows, asked, strict=True):
        if isinstance(request, Refusal):
            outcomes.append(Outcome(row=row, refused=request.reason, refused_kind=request.kind))
            continue
        answer = next(answers)
        if isinstance(answer, Refusal):
            outcomes.append(Outcome(row=row, refused=answer.reason, refused_kind=answer.kind, assumed=request.assumed))
            continue
        outcomes.append(
            Outcome(
                row=row,
                predicted=answer.value,
                low90=answer.low90,
                high90=answer.high90,
                light=answer.light,
                tier=answer.tier,
                assumed=request.assumed,
                notes=answer.notes,
            )
        )
    return Report(tuple(outcomes))
