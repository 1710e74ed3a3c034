"""A study: one published system, what it claims, what is computed for it, and how near the two are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from waferline.evidence.studies.tolerance import Tolerance

# What the agreement of a check shows. data: computed beside something measured or simulated elsewhere. identity: printed
# figures beside one another, or a printed formula or count worked out again; it cannot show that a prediction is good.
# bound: a one-sided law or a stated range. own: our code beside our code, an exact reference, or a finding of ours.
Kind = Literal["data", "identity", "bound", "own"]
Verdict = Literal["compared with data", "identity", "bound holds", "own check", "missed", "not checkable"]
VERDICTS: tuple[Verdict, ...] = (
    "compared with data",
    "identity",
    "bound holds",
    "own check",
    "missed",
    "not checkable",
)
_HOLDS: Mapping[Kind, Verdict] = {
    "data": "compared with data",
    "identity": "identity",
    "bound": "bound holds",
    "own": "own check",
}
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
    """One quantity beside ours. `why` is the reason of a miss, or why there is nothing to compare.

    reference: what `computed` is held against, None where the source prints no value (a range then stands in
    `tolerance`). computed: None where we cannot. fitted: True where a constant was fitted to this very value, which then
    proves nothing. stated_kind: what the agreement shows; where it is not stated, ranges are bounds and the rest data.
    """

    quantity: str
    unit: str
    reference: float | None
    computed: float | None
    tolerance: Tolerance | None = None
    why: str = ""
    how: How = "predicted"
    fitted: bool = False
    stated_kind: Kind | None = None

    @property
    def kind(self) -> Kind:
        if self.stated_kind is not None:
            return self.stated_kind
        return "bound" if self.tolerance is not None and self.tolerance.is_range else "data"

    @property
    def published(self) -> float | None:
        """The reference where a publication printed it: an own check has none."""
        return None if self.kind == "own" else self.reference

    @property
    def expectation(self) -> str:
        """The tolerance in words, with the value of ours that an own check is held against."""
        if self.tolerance is None:
            return ""
        own = self.kind == "own" and self.reference is not None and not self.tolerance.is_range
        return f"{self.reference:g} {self.tolerance.text}" if own else self.tolerance.text

    @property
    def verdict(self) -> Verdict:
        if self.computed is None or self.tolerance is None:
            return "not checkable"
        if self.reference is None and not self.tolerance.is_range:
            return "not checkable"
        if not math.isfinite(self.computed) or not self.tolerance.holds(self.reference, self.computed):
            return "missed"
        return _HOLDS[self.kind]

    @property
    def is_comparison(self) -> bool:
        """True where a value that nothing was fitted to stands beside data, near or far."""
        return self.kind == "data" and not self.fitted and self.verdict != "not checkable"

    @property
    def error(self) -> float:
        """Computed over reference, minus one; nan where one is missing or nothing was published."""
        if self.reference in (None, 0.0) or self.computed is None:
            return math.nan
        return self.computed / float(self.reference or math.nan) - 1.0

    @property
    def verdict_text(self) -> str:
        """The verdict in words: within 1.2 % of data, bound holds, missed by … because …, not checkable because …"""
        if self.verdict in ("missed", "not checkable"):
            off = f" by {self.error:+.1%}" if self.verdict == "missed" and math.isfinite(self.error) else ""
            return f"{self.verdict}{off} because {self.why or NO_REASON}"
        near = self.verdict == "compared with data" and math.isfinite(self.error)
        text = f"within {max(abs(self.error), 0.0005):.1%} of data" if near else self.verdict
        return text + (" (fitted)" if self.fitted else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "kind": self.kind,
            "published": self.published,
            "reference": self.reference,
            "computed": _finite(self.computed),
            "how": self.how,
            "fitted": self.fitted,
            "tolerance": self.tolerance.text if self.tolerance else None,
            "tolerance_from": self.tolerance.origin if self.tolerance else None,
            "error": _finite(self.error),
            "verdict": self.verdict,
            "verdict_text": self.verdict_text,
            "why": self.why or None,
        }


identity, own, bound = (partial(Check, stated_kind=kind) for kind in ("identity", "own", "bound"))


@dataclass(frozen=True, slots=True)
class Study:
    """A case that runs: `compute()` yields its checks. Everything but `compute` is plain text for tables.

    note: what a reader must know to judge the agreement, such as that the source itself is a simulation. own: its mechanism on
    a model and a machine of one's own: fields of a scenario `with` it and `without` it, and a `command` that is tested; or
    `why` there is none.
    """

    name: str
    title: str
    source: Source
    claim: str
    configuration: Mapping[str, str]
    compute: Callable[[], Iterable[Check]]
    note: str = ""
    sources: tuple[Source, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)


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

    @property
    def comparisons(self) -> tuple[int, int]:
        """(near enough, all) of the values that were compared with data and not fitted to it."""
        compared = [c for c in self.checks if c.is_comparison]
        return sum(c.verdict != "missed" for c in compared), len(compared)

    def to_json(self) -> dict[str, Any]:
        s = self.study
        within, compared = self.comparisons
        return {
            "name": s.name,
            "title": s.title,
            "source": {"url": s.source.url, "date": s.source.date, "title": s.source.title},
            "claim": s.claim,
            "configuration": dict(s.configuration),
            "note": s.note or None,
            "counts": {v: self.count(v) for v in VERDICTS},
            "comparisons": {"within": within, "all": compared},
            "checks": [c.to_json() for c in self.checks],
            "wall_s": self.wall_s,
        }


def headline(reports: Iterable[StudyReport]) -> str:
    """How many comparisons with data are near enough: the only count that says something of predictions."""
    within, compared = (sum(column) for column in zip(*(r.comparisons for r in reports), strict=True))
    return f"{within} of {compared} comparisons with data are within their tolerance"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
