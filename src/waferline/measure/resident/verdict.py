"""Whether a measured rate meets the deployment target: met, unmet, or not to be said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from waferline.measure.contract import Measurement, Outcome

DEPLOYMENT_TARGET_ROWS_PER_SEC = 100_000.0


@dataclass(frozen=True, slots=True)
class Met:
    """The device was engaged throughout and reached the target."""

    rows_per_s: float
    target: float = DEPLOYMENT_TARGET_ROWS_PER_SEC

    @property
    def fraction(self) -> float:
        return self.rows_per_s / self.target

    @property
    def meets_target(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Unmet:
    """The device was engaged throughout and was too slow, or its rate is no rate."""

    rows_per_s: float
    target: float = DEPLOYMENT_TARGET_ROWS_PER_SEC

    @property
    def fraction(self) -> float:
        """0 for a rate that is not finite and positive, infinity too."""
        valid = math.isfinite(self.rows_per_s) and self.rows_per_s > 0
        return self.rows_per_s / self.target if valid else 0.0

    @property
    def meets_target(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Undetermined:
    """No device did the work, so nothing can be said: neither that the target is met nor that it is not."""

    reason: str
    explanation: str

    @property
    def fraction(self) -> float:
        return 0.0

    @property
    def meets_target(self) -> bool:
        return False


Verdict = Met | Unmet | Undetermined


def judge(outcome: Outcome, target: float = DEPLOYMENT_TARGET_ROWS_PER_SEC) -> Verdict:
    """The verdict on an outcome. Only a `Measurement` can be met or unmet: no rate from elsewhere can be passed in."""
    if not isinstance(outcome, Measurement):
        return Undetermined(outcome.reason, outcome.explanation)
    return judge_rate(outcome.rate("rows"), target)


def judge_rate(rows_per_s: float, target: float) -> Met | Unmet:
    """Met at the target and above; a rate that is zero, negative, NaN or infinite is unmet."""
    meets = math.isfinite(rows_per_s) and rows_per_s > 0 and rows_per_s >= target
    return Met(rows_per_s, target) if meets else Unmet(rows_per_s, target)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as data: `verdict`, `meets_target`, `fraction`, and the reason where there is none."""
    data: dict[str, Any] = {
        "verdict": type(verdict).__name__.lower(),
        "meets_target": verdict.meets_target,
        "fraction": verdict.fraction,
    }
    if isinstance(verdict, Undetermined):
        return {**data, "reason": verdict.reason, "explanation": verdict.explanation}
    return {**data, "target_rows_per_s": verdict.target}
