"""What became of the rows of a check: every outcome, and the figures of any grouping of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from waferline.errors import unknown
from waferline.evidence.outcome import Outcome
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
