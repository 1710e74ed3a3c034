"""Whether a measured rate meets the deployment target: met, unmet, or not to be said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from waferline.measure.contract import Measurement, Outcome, kind_of


@dataclass(frozen=True, slots=True)
class Gate:
    """What is demanded: rows per second, and the kind of device that has to do the work."""

    rows_per_s: float
    device: str = "cuda"


DEPLOYMENT = Gate(100_000.0)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A rate of the device that the gate demands, engaged throughout."""

    device: str
    rows_per_s: float
    gate: Gate

    @property
    def fraction(self) -> float:
        """Of the target; 0 for a rate that is not finite and positive, infinity too."""
        return self.rows_per_s / self.gate.rows_per_s if 0 < self.rows_per_s < math.inf else 0.0


@dataclass(frozen=True, slots=True)
class Met(_Judged):
    """The device reached the target. Neither of the other verdicts is one of these: a gate may test the type."""

    meets_target: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Unmet(_Judged):
    """The device was too slow, or its rate is no rate."""

    meets_target: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Undetermined:
    """Nothing can be said, neither that the target is met nor that it is not: no device did the work, or another one."""

    reason: str
    explanation: str
    gate: Gate
    fraction: ClassVar[float] = 0.0
    meets_target: ClassVar[bool] = False


Verdict = Met | Unmet | Undetermined
GpuThroughputVerdict = Verdict  # the original's name


def judge(outcome: Outcome, gate: Gate = DEPLOYMENT) -> Verdict:
    """The verdict on an outcome. Only a `Measurement` on the gate's device can be met or unmet: no rate from elsewhere
    can be passed in."""
    if not isinstance(outcome, Measurement):
        return Undetermined(outcome.reason, outcome.explanation, gate)
    if kind_of(outcome.device) != gate.device:
        return Undetermined("other-device", f"the target is for {gate.device}, this ran on {outcome.device}", gate)
    return judge_rate(outcome.device, outcome.rate("rows"), gate)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as data: `verdict`, `meets_target`, `fraction`, the gate, and the reason where there is none."""
    data: dict[str, Any] = {
        "verdict": type(verdict).__name__.lower(),
        "meets_target": verdict.meets_target,
        "fraction": verdict.fraction,
        "target_rows_per_s": verdict.gate.rows_per_s,
        "target_device": verdict.gate.device,
    }
    if isinstance(verdict, Undetermined):
        return {**data, "reason": verdict.reason, "explanation": verdict.explanation}
    return data


def judge_rate(device: str, rows_per_s: float, gate: Gate) -> Met | Unmet:
    """Met at the target and above; a rate that is zero, negative, NaN or infinite is unmet."""
    meets = 0 < rows_per_s < math.inf and rows_per_s >= gate.rows_per_s
    return (Met if meets else Unmet)(device, rows_per_s, gate)
