"""A published row beside its prediction, or beside the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from waferline.evidence.metrics import is_rate
from waferline.evidence.rows import Row

# A published value may round up to its last printed digit: below this share of the bound it is faster than light.
_ROUNDING = 0.98


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of a check. `predicted`, the interval and `light` (the best physics allows) are in the row's unit."""

    row: Row
    predicted: float | None = None
    low90: float | None = None
    high90: float | None = None
    light: float | None = None
    tier: str | None = None
    refused: str | None = None
    refused_kind: str = ""
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        return self.predicted is not None

    @property
    def faster_than_light(self) -> bool:
        """True where the published value beats the bound by more than rounding."""
        if self.light is None or self.light <= 0:
            return False
        ratio = self.light / self.row.value if is_rate(self.row.metric) else self.row.value / self.light
        return ratio < _ROUNDING

    @property
    def suspect(self) -> str:
        """Why the published value is not scored: the collector's reason, or the bound it breaks."""
        if self.row.suspect:
            return self.row.suspect
        if self.faster_than_light:
            return f"faster than light: {self.row.value:.4g} against a bound of {self.light:.4g}"
        return ""

    @property
    def scored(self) -> bool:
        return self.answered and not self.suspect

    @property
    def error(self) -> float:
        """Absolute error over the published value."""
        return abs((self.predicted or math.nan) / self.row.value - 1.0)

    @property
    def slower(self) -> float:
        """log(predicted time / published time): above zero the prediction is too slow, whatever the metric."""
        log = math.log((self.predicted or math.nan) / self.row.value)
        return -log if is_rate(self.row.metric) else log

    @property
    def covered(self) -> bool:
        """True where the published value lies in the 90 % interval."""
        return self.low90 is not None and self.high90 is not None and self.low90 <= self.row.value <= self.high90

    @property
    def stated(self) -> str:
        """How much of the configuration the source states: complete, all but the KV format, or less."""
        if self.row.complete:
            return "complete"
        return "all but KV format" if self.row.missing == "kv_format" else "incomplete"

    def to_json(self) -> dict[str, Any]:
        r = self.row
        return {
            "id": r.id,
            "source": r.source,
            "hardware": r.hardware,
            "model": r.model,
            "phase": r.phase,
            "metric": r.metric,
            "engine": r.engine,
            "value": r.value,
            "predicted": self.predicted,
            "low90": self.low90,
            "high90": self.high90,
            "light": self.light,
            "tier": self.tier,
            "complete": r.complete,
            "suspect": self.suspect or None,
            "refused": self.refused,
            "assumed": list(self.assumed),
            "notes": list(self.notes),
        }
