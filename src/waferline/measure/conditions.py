"""Noticing what disturbs a measurement: other processes, a drifting clock, thermal throttling."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from waferline.kernels.cpu.jit import jit
from waferline.measure.contract import Conditions

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CHAIN_STEPS = 200_000  # about half a millisecond
STEP_CYCLES = 6  # three shifts and three exclusive ors, each waiting for the one before
_PROBES = 5

# A repeat counts as disturbed when the process lost a core in it, seen as an involuntary switch or as missing CPU time.
_LEAST_REPEAT_SHARE = 0.9


@jit
def _chain(x: int, steps: int) -> int:
    """xorshift64: every instruction depends on the one before, so its time is a clock count (Marsaglia 2003)."""
    for _ in range(steps):
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
    return x


def clock_hz() -> float:
    """Clock of a core under this light load, from a chain of dependent one-cycle instructions; best of a few."""
    _chain(88172645463325252, 10)
    best = math.inf
    for _ in range(_PROBES):
        start = time.perf_counter()
        _chain(88172645463325252, CHAIN_STEPS)
        best = min(best, time.perf_counter() - start)
    return CHAIN_STEPS * STEP_CYCLES / best


@dataclass(frozen=True, slots=True)
class Instant:
    """Counters at one moment: wall and CPU seconds, and how often the system took the core away."""

    wall_s: float
    cpu_s: float
    switches: int

    @staticmethod
    def now() -> Instant:
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0
        return Instant(time.perf_counter(), time.process_time(), switches)

    def quiet_until(self, end: Instant, threads: int) -> bool:
        """Whether this process kept its cores from here to `end`.

        Waiting threads may sleep, so CPU time is asked for one thread only; switches are counted for all.
        """
        wall, cpu = end.wall_s - self.wall_s, end.cpu_s - self.cpu_s
        return end.switches == self.switches and cpu >= _LEAST_REPEAT_SHARE * wall * (1 if threads else 0)


@dataclass(slots=True)
class Watch:
    """Started before the warm-up, stopped after the last repeat: gathers `Conditions`."""

    threads: int
    load_before: float = math.nan
    clock_before_hz: float = math.nan
    throttles_before: int = 0
    started: Instant | None = None

    def start(self) -> None:
        self.load_before = load_average()
        self.clock_before_hz = clock_hz()
        self.throttles_before = throttle_events()
        self.started = Instant.now()

    def stop(self, interrupted: int, busy_wall_s: float, busy_cpu_s: float) -> Conditions:
        """`busy_*`: seconds inside the timed repeats. `threads` 0 waits for another device, not for cores."""
        asked = busy_wall_s * self.threads
        return Conditions(
            load_before=self.load_before,
            load_after=load_average(),
            cpu_share=min(1.0, busy_cpu_s / asked) if asked else 1.0,
            clock_drift=clock_hz() / self.clock_before_hz,
            interrupted=interrupted,
            throttle_events=throttle_events() - self.throttles_before,
        )


def load_average() -> float:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return math.nan


def throttle_events() -> int:
    """Thermal throttling events of all cores since boot, where Linux counts them."""
    total = 0
    for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            total += int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return total
