"""The one way anything is timed here: warm up, make inputs, start the clock, run, wait for the device, stop, check."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from waferline.errors import DoesNotFitError, InvalidInputError, WaferlineError
from waferline.measure.conditions import Instant, Watch
from waferline.measure.contract import FEWEST_REPEATS, Check, Measurement, Outcome, Reason, Refusal
from waferline.measure.fingerprint import fingerprint, free_memory_bytes

SHORTEST_REPEAT_S = 200e-6  # a repeat is as many calls as it takes: the clock and the loop cost under 0.1 %
_MOST_CALLS = 100_000


class DeviceLost(Exception):
    """The device failed after it had started."""


class NotEngaged(Exception):
    """The work was done, but not by the device that was asked for."""


class ComputeDevice(Protocol):
    """Where work runs. `unavailable` says why it cannot; `synchronise` returns when all work queued so far is done."""

    @property
    def name(self) -> str: ...

    @property
    def threads(self) -> int:
        """CPU threads that compute (0 where another device does)."""
        ...

    def unavailable(self) -> str | None: ...

    def synchronise(self) -> None: ...

    def holds(self, result: Any) -> bool:
        """Whether `result` was made on, and lies on, this device."""
        ...


@dataclass(frozen=True, slots=True)
class Cpu:
    """This processor with `threads` threads: work is done when a call returns."""

    threads: int = 1
    name: str = "cpu"

    def unavailable(self) -> str | None:
        return None

    def synchronise(self) -> None:
        return None

    def holds(self, result: Any) -> bool:
        return result is not None


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: at least `repeats` times, and for `least_s` if that is longer, but not past `most_s`."""

    repeats: int = 15
    warmups: int = 2
    least_s: float = 0.2
    most_s: float = 30.0

    def __post_init__(self) -> None:
        if self.repeats < FEWEST_REPEATS or self.warmups < 1:
            raise InvalidInputError(
                f"{self.repeats} repeats after {self.warmups} warm-ups", hint=f"at least {FEWEST_REPEATS} after 1"
            )


def measure(
    run: Callable[..., Any],
    *,
    name: str,
    check: Callable[[Any], Check],
    inputs: Callable[[int], tuple[Any, ...]] | None = None,
    device: ComputeDevice | None = None,
    plan: Plan | None = None,
    work: Mapping[str, float] | None = None,
    detail: Mapping[str, Any] | None = None,
    times: int = 1,
) -> Outcome:
    """Time `run(*inputs(i))` on `device` and check what it returns.

    inputs: makes the arguments of call i, outside the clock. check: compares a result with a reference, after the
    warm-up and after every repeat, when its clock has stopped; one failed check is a refusal. work: what is done once, by
    unit. times: how often one call does it; seconds are of one time.

    Every way of not measuring is a `Refusal`. Raises: what `inputs`, `run` and `check` raise of this package's own errors.
    """
    job = _Job(run, name, check, inputs or _no_inputs, device or Cpu(), plan or Plan(), times)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = fingerprint().to_json()

    def refuse(reason: Reason, explanation: str) -> Refusal:
        return Refusal(
            name=name,
            device=job.device.name,
            reason=reason,
            explanation=explanation,
            machine=machine,
            started=started,
            detail=detail or {},
        )

    missing = job.device.unavailable()
    if missing is not None:
        return refuse("no-device", missing)
    try:
        outcome = job.measure()
    except NotEngaged as error:
        return refuse("not-engaged", str(error))
    except DeviceLost as error:
        return refuse("device-lost", str(error))
    except MemoryError:
        return refuse("out-of-memory", "memory ran out")
    except WaferlineError:
        raise
    except (ValueError, ArithmeticError) as error:  # NumPy's LinAlgError is a ValueError
        return refuse("failed", f"{type(error).__name__}: {_first_line(error)}")
    checked, seconds, quiet, calls, conditions = outcome
    if not checked.passed:
        wrong = "is not finite" if math.isnan(checked.error) else f"is off by {checked.error:.3g}"
        return refuse(
            "wrong-result", f"the result {wrong} against {checked.reference}, {checked.tolerance:.3g} allowed"
        )
    if len(seconds) < FEWEST_REPEATS:
        return refuse("out-of-time", f"{len(seconds)} repeats in {job.plan.most_s:g} s, {FEWEST_REPEATS} needed")
    return Measurement(
        name=name,
        device=job.device.name,
        seconds=tuple(seconds),
        quiet=tuple(quiet),
        check=checked,
        conditions=conditions,
        machine=machine,
        started=started,
        warmups=job.plan.warmups,
        calls_per_repeat=calls * times,
        work=dict(work or {}),
        detail=dict(detail or {}),
    )


def _no_inputs(call: int) -> tuple[Any, ...]:
    return ()


@dataclass(slots=True)
class _Job:
    run: Callable[..., Any]
    name: str
    check: Callable[[Any], Check]
    inputs: Callable[[int], tuple[Any, ...]]
    device: ComputeDevice
    plan: Plan
    times: int

    def measure(self) -> tuple[Check, list[float], list[bool], int, Any]:
        watch = Watch(self.device.threads)
        watch.start()
        first, call_s = self._warm_up()
        checked = self.check(first)
        if not checked.passed:
            return checked, [], [], 1, None
        calls = max(1, min(_MOST_CALLS, math.ceil(SHORTEST_REPEAT_S / max(call_s, 1e-9))))
        seconds: list[float] = []
        quiet: list[bool] = []
        busy_wall_s = busy_cpu_s = 0.0
        deadline = time.perf_counter() + self.plan.most_s
        enough = time.perf_counter() + self.plan.least_s
        while (len(seconds) < self.plan.repeats or time.perf_counter() < enough) and time.perf_counter() < deadline:
            before, after, result = self._repeat(len(seconds) * calls, calls)
            checked = max(checked, self.check(result), key=_failing)
            if not checked.passed:
                return checked, [], [], calls, None
            seconds.append((after.wall_s - before.wall_s) / (calls * self.times))
            quiet.append(before.quiet_until(after, self.device.threads))
            busy_wall_s += after.wall_s - before.wall_s
            busy_cpu_s += after.cpu_s - before.cpu_s
        return checked, seconds, quiet, calls, watch.stop(len(quiet) - sum(quiet), busy_wall_s, busy_cpu_s)

    def _warm_up(self) -> tuple[Any, float]:
        """The last warm-up's result and the seconds it took."""
        result, spent = None, 0.0
        for i in range(self.plan.warmups):
            before, after, result = self._repeat(i, 1)
            spent = after.wall_s - before.wall_s
        return result, spent

    def _repeat(self, first_call: int, calls: int) -> tuple[Instant, Instant, Any]:
        """Run `calls` calls between two instants; the clock stops when the device is done."""
        run, device = self.run, self.device
        result: Any = None
        try:
            arguments = [self.inputs(first_call + i) for i in range(calls)]
            device.synchronise()
            before = Instant.now()
            for each in arguments:
                result = run(*each)
            device.synchronise()
            after = Instant.now()
        except RuntimeError as error:
            raise DeviceLost(f"{device.name} failed: {_first_line(error)}") from error
        if not device.holds(result):
            raise NotEngaged(f"the result is not on {device.name}")
        return before, after, result


def _failing(check: Check) -> float:
    """Checks in order of how bad they are: what is not finite is worst."""
    return check.error - check.tolerance if math.isfinite(check.error) else math.inf


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "no reason"


def foresee_memory(needed_bytes: float, what: str) -> None:
    """Refuse an allocation that would not fit, before it is made.

    Raises: DoesNotFitError (exit code 3) when less than `needed_bytes` is free.
    """
    free = free_memory_bytes()
    if needed_bytes > free:
        raise DoesNotFitError(
            f"{what} needs {needed_bytes / 1e9:.2f} GB of memory, {free / 1e9:.2f} GB are free",
            hint="use a smaller shape",
        )
