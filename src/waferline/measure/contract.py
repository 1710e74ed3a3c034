"""What a measurement is: a record of work that the device really did, or a refusal that can pass no gate.

Both answer the same questions (`engaged`, `rate`, `meets`), so that code that forgets to ask which one it holds gets
a rate of zero and a gate that stays shut, never a number from elsewhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from waferline.errors import DoesNotFitError, RefusedError, WaferlineError

FEWEST_REPEATS = 5  # below this a median and its spread say nothing

Reason = Literal[
    "no-device",  # there is none, or it cannot be used
    "device-lost",  # it was there and failed on the way
    "not-engaged",  # the work ran, but not on it (or not all of it)
    "wrong-result",  # the check against the reference failed
    "not-finite",  # a time or a result that is no number
    "out-of-time",  # too few repeats within the time allowed
    "no-kernel",  # nothing here can run it
    "failed",  # the work itself ended in an error
    "out-of-memory",  # while it was measured
]


@dataclass(frozen=True, slots=True)
class Check:
    """How the result was checked: against which reference, how far off, and how far off is allowed.

    error: relative, `max |got - want| / scale`. `exact` results have tolerance 0.
    """

    reference: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """NaN passes nothing."""
        return math.isfinite(self.error) and self.error <= self.tolerance


@dataclass(frozen=True, slots=True)
class Conditions:
    """What else went on while the clock ran.

    load_before, load_after: runnable processes (1-minute average), NaN where the system does not say. cpu_share: CPU
    seconds this process got per second and thread asked for; 1 when nobody interfered. clock_drift: speed of a fixed
    chain of instructions after the run over before it. interrupted: repeats in which the system took a core away.
    """

    load_before: float
    load_after: float
    cpu_share: float
    clock_drift: float
    interrupted: int = 0
    throttle_events: int = 0
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each disturbance that was noticed."""
        found = list(self.notes)
        if abs(self.clock_drift - 1.0) > MOST_CLOCK_DRIFT:
            found.append(f"the clock drifted: {self.clock_drift:.2f} of its speed at the start")
        if self.cpu_share < LEAST_CPU_SHARE:
            found.append(f"contention: this process got {self.cpu_share:.0%} of the time it asked for")
        if self.throttle_events:
            found.append(f"thermal throttling: {self.throttle_events} events")
        return tuple(found)


MOST_CLOCK_DRIFT = 0.05  # share; turbo steps are about 3 %
LEAST_CPU_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Something that ran. Cannot be built from too few repeats, impossible times or a failed check.

    name: what ran. device: where ("cpu", "cuda:0"). seconds: time of ONE execution in each repeat, in order. quiet:
    which repeats ran undisturbed; the median is over these when there are enough. work: what one execution does, by
    unit ("bytes", "flops", "tokens", "rows"). machine: the fingerprint's facts. detail: what else the reader needs.

    Raises: RefusedError when the record would not be a measurement.
    """

    name: str
    device: str
    seconds: tuple[float, ...]
    quiet: tuple[bool, ...]
    check: Check
    conditions: Conditions
    machine: Mapping[str, Any]
    started: str  # ISO 8601, UTC
    warmups: int = 1
    calls_per_repeat: int = 1
    work: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.seconds) < FEWEST_REPEATS:
            raise RefusedError(
                f"{self.name}: {len(self.seconds)} repeats are no measurement", hint=f"at least {FEWEST_REPEATS}"
            )
        if not all(math.isfinite(s) and s > 0 for s in self.seconds):
            raise RefusedError(f"{self.name}: a repeat took {min(self.seconds)!r} s")
        if not self.check.passed:
            raise RefusedError(f"{self.name}: result is off by {self.check.error:.3g} from {self.check.reference}")

    @property
    def engaged(self) -> bool:
        """Always: a measurement exists only if its device did the work."""
        return True

    @property
    def counted(self) -> tuple[float, ...]:
        """The repeats that count: the quiet ones, or all where fewer than `FEWEST_REPEATS` were quiet."""
        calm = tuple(s for s, q in zip(self.seconds, self.quiet, strict=True) if q)
        return calm if len(calm) >= FEWEST_REPEATS else self.seconds

    @property
    def median_s(self) -> float:
        return statistics.median(self.counted)

    @property
    def best_s(self) -> float:
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Interquartile range over the median, of the repeats that count."""
        low, _, high = statistics.quantiles(self.counted, n=4, method="inclusive")
        return (high - low) / self.median_s

    def rate(self, unit: str) -> float:
        """Work per second at the median, in `unit` of `work`."""
        return self.work[unit] / self.median_s

    def meets(self, unit: str, target: float, on: str) -> bool:
        """Whether the rate reaches `target` and a device of the kind `on` ("cpu", "cuda") did the work."""
        rate = self.rate(unit)
        return kind_of(self.device) == on and math.isfinite(rate) and rate > 0 and rate >= target

    def to_json(self) -> dict[str, Any]:
        """The record as plain data, SI floats; `engaged` tells it from a refusal."""
        return {
            "engaged": True,
            "name": self.name,
            "device": self.device,
            "started": self.started,
            "median_s": self.median_s,
            "best_s": self.best_s,
            "spread": self.spread,
            "repeats": len(self.seconds),
            "quiet_repeats": sum(self.quiet),
            "warmups": self.warmups,
            "calls_per_repeat": self.calls_per_repeat,
            "seconds": list(self.seconds),
            "work": dict(self.work),
            "rates": {f"{unit}_per_s": self.rate(unit) for unit in self.work},
            "check": {
                "reference": self.check.reference,
                "error": self.check.error,
                "tolerance": self.check.tolerance,
            },
            "conditions": conditions_json(self.conditions),
            "machine": dict(self.machine),
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why there is no measurement. Its rate is zero and it passes no gate."""

    name: str
    device: str
    reason: Reason
    explanation: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def engaged(self) -> bool:
        return False

    def rate(self, unit: str) -> float:
        """Zero, whatever the unit."""
        return 0.0

    def meets(self, unit: str, target: float, on: str) -> bool:
        """Never, not even a target of zero."""
        return False

    def error(self) -> WaferlineError:
        """The refusal as the error that ends a command: exit code 4, or 3 where memory ran out."""
        kind = DoesNotFitError if self.reason == "out-of-memory" else RefusedError
        return kind(f"{self.name} was not measured: {self.explanation}", where=self.device)

    def to_json(self) -> dict[str, Any]:
        return {
            "engaged": False,
            "name": self.name,
            "device": self.device,
            "started": self.started,
            "reason": self.reason,
            "explanation": self.explanation,
            "rates": {},
            "machine": dict(self.machine),
            "detail": dict(self.detail),
        }


def conditions_json(c: Conditions) -> dict[str, Any]:
    """Conditions as plain data; what the system does not say is null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "load_before": number(c.load_before),
        "load_after": number(c.load_after),
        "cpu_share": number(c.cpu_share),
        "clock_drift": number(c.clock_drift),
        "interrupted": c.interrupted,
        "throttle_events": c.throttle_events,
        "warnings": list(c.warnings),
    }


Outcome = Measurement | Refusal


def kind_of(device: str) -> str:
    """`cuda` of `cuda:0`."""
    return device.split(":")[0]


def required(outcome: Outcome) -> Measurement:
    """The measurement. Raises: RefusedError (exit code 4) when it was refused, DoesNotFitError (3) for want of memory."""
    if isinstance(outcome, Refusal):
        raise outcome.error()
    return outcome


def relative_error(got: Any, want: Any) -> float:
    """`max |got - want| / max |want|` of two arrays; NaN when shapes differ or a value is not finite."""
    import numpy as np

    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape or not np.isfinite(a).all() or not np.isfinite(b).all():
        return math.nan
    scale = float(np.abs(b).max(initial=0.0))
    return float(np.abs(a - b).max(initial=0.0)) / (scale or 1.0)


__all__ = [
    "FEWEST_REPEATS",
    "Check",
    "Conditions",
    "Measurement",
    "Outcome",
    "Reason",
    "Refusal",
    "conditions_json",
    "kind_of",
    "relative_error",
    "required",
]
