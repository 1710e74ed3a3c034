"""A study: one published system, what it claims, what is computed for it, and how near the two are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from waferline.evidence.studies.tolerance import Tolerance

Verdict = Literal["reproduced", "within", "missed", "not checkable"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "within", "missed", "not checkable")
NO_REASON = "the reason is not known"
How = Literal["predicted", "simulated", "measured"]  # measured: on the machine that runs the study


@dataclass(frozen=True, slots=True)
class Source:
    """Where a claim was published: address and date (year, or ISO date)."""

    url: str
    date: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One published quantity beside ours. `why` is the reason of a miss, or why there is nothing to compare.

    published: None where the source prints none (a range then stands in `tolerance`). computed: None where we cannot.
    fitted: True where a constant was fitted to this very value, which then proves nothing.
    """

    quantity: str
    unit: str
    published: float | None
    computed: float | None
    tolerance: Tolerance | None = None
    why: str = ""
    how: How = "predicted"
    fitted: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.computed is None or self.tolerance is None:
            return "not checkable"
        if self.published is None and self.tolerance.needs_published:
            return "not checkable"
        if not math.isfinite(self.computed) or not self.tolerance.holds(self.published, self.computed):
            return "missed"
        near = self.tolerance.rule == "relative" or (self.tolerance.rule == "between" and self.published is not None)
        return "within" if near else "reproduced"

    @property
    def error(self) -> float:
        """Computed over published, minus one; nan where one is missing or nothing was published."""
        if self.published in (None, 0.0) or self.computed is None:
            return math.nan
        return self.computed / float(self.published or math.nan) - 1.0

    @property
    def said(self) -> str:
        """The verdict in words: reproduced, within 1.2 %, missed because …, not checkable because …"""
        if self.verdict == "within":
            return f"within {max(abs(self.error), 0.0005):.1%}" + (" (fitted)" if self.fitted else "")
        if self.verdict == "reproduced":
            return "reproduced" + (" (fitted)" if self.fitted else "")
        off = f" by {self.error:+.1%}" if self.verdict == "missed" and math.isfinite(self.error) else ""
        return f"{self.verdict}{off} because {self.why or NO_REASON}"

    def to_json(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "published": self.published,
            "computed": _finite(self.computed),
            "how": self.how,
            "fitted": self.fitted,
            "tolerance": self.tolerance.text if self.tolerance else None,
            "tolerance_from": self.tolerance.origin if self.tolerance else None,
            "error": _finite(self.error),
            "verdict": self.verdict,
            "said": self.said,
            "why": self.why or None,
        }


@dataclass(frozen=True, slots=True)
class Study:
    """A case that runs: `compute()` yields its checks. Everything but `compute` is plain text for tables.

    note: what a reader must know to judge the agreement, such as that the source itself is a simulation.
    """

    name: str
    title: str
    source: Source
    claim: str
    configuration: Mapping[str, str]
    compute: Callable[[], Iterable[Check]]
    note: str = ""
    sources: tuple[Source, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What became of a study: its checks in order and the wall time it took."""

    study: Study
    checks: tuple[Check, ...]
    wall_s: float

    def count(self, verdict: Verdict) -> int:
        return sum(c.verdict == verdict for c in self.checks)

    @property
    def misses(self) -> tuple[Check, ...]:
        return tuple(c for c in self.checks if c.verdict == "missed")

    def to_json(self) -> dict[str, Any]:
        s = self.study
        return {
            "name": s.name,
            "title": s.title,
            "source": {"url": s.source.url, "date": s.source.date, "title": s.source.title},
            "claim": s.claim,
            "configuration": dict(s.configuration),
            "note": s.note or None,
            "counts": {v: self.count(v) for v in VERDICTS},
            "checks": [c.to_json() for c in self.checks],
            "wall_s": self.wall_s,
        }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
