"""The claim checker put to all published rows: how many impossible ones it finds, how many sound ones it wrongly flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from waferline.evidence.claims.judge import STATUSES, Judgement, Status, judge_rows
from waferline.evidence.rows import Row

_IMPOSSIBLE = "faster than light"  # what collectors write of rows that they found to be so


@dataclass(frozen=True, slots=True)
class Survey:
    """Verdicts on rows. Impossible rows are those that their collector marked so; sound ones carry no mark at all."""

    judged: tuple[Judgement, ...]

    @property
    def impossible(self) -> list[Judgement]:
        return [j for j in self.judged if _IMPOSSIBLE in j.row.suspect]

    @property
    def sound(self) -> list[Judgement]:
        """Unmarked rows on which there is a verdict."""
        return [j for j in self.judged if not j.row.suspect and j.status != "unverifiable"]

    @property
    def caught(self) -> float:
        """Share of the impossible rows that are called infeasible."""
        return _share(self.impossible)

    @property
    def wrongly_flagged(self) -> float:
        """Share of the sound rows that are called infeasible."""
        return _share(self.sound)

    def count(self, status: Status) -> int:
        return sum(j.status == status for j in self.judged)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": len(self.judged),
            "impossible": len(self.impossible),
            "caught": self.caught,
            "sound": len(self.sound),
            "wrongly_flagged": self.wrongly_flagged,
            "status": {s: self.count(s) for s in STATUSES},
            "flagged": [j.to_json() for j in self.sound if j.status == "infeasible"],
            "flagged_by_source": dict(Counter(j.row.source for j in self.sound if j.status == "infeasible")),
        }


def survey(rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> Survey:
    """Judge every row as a claim."""
    return Survey(tuple(judge_rows(rows, progress=progress)))


def _share(judged: Sequence[Judgement]) -> float:
    return sum(j.status == "infeasible" for j in judged) / len(judged) if judged else 0.0
