"""`measure machine`: what this machine reads, multiplies and starts per second, level by level and thread by thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from waferline.measure.caches import Cache, caches
from waferline.measure.conditions import clock_hz
from waferline.measure.contract import Measurement, Outcome, required
from waferline.measure.fingerprint import Fingerprint, fingerprint, free_memory_bytes
from waferline.measure.probes import run

Progress = Callable[[str], None]

# Main memory is read over a buffer this large: far beyond any cache share, small enough for a laptop.
MEMORY_PROBE_BYTES = 512 * 2**20
_MEMORY_SHARE = 8  # but at most this fraction of what is free
# A shared cache is often shared with strangers. It ends where reading falls below the geometric mean of the plateau
# before it and main memory; a level that is not this much faster than memory is left out.
_DISTINCT = 1.2
_SWEEP_STEP = 2


@dataclass(frozen=True, slots=True)
class Level:
    """One memory level of the whole machine: bytes of all instances, and bytes/s by number of reading threads."""

    name: str
    capacity_bytes: int
    by_threads: dict[int, Measurement]

    def bandwidth_bytes_per_s(self, threads: int) -> float:
        return roof(self.by_threads[threads], "bytes")


@dataclass(frozen=True, slots=True)
class MachineProfile:
    """Every figure of a machine, each a `Measurement`. Roofs are best repeats: a disturbance only ever slows."""

    fingerprint: Fingerprint
    threads: int
    clock_hz: float
    levels: tuple[Level, ...]
    peaks: dict[str, dict[int, Measurement]]  # by format, by threads
    fork_join: Measurement
    launch: Measurement
    seconds: float

    def peak_flops(self, fmt: str, threads: int) -> float:
        return roof(self.peaks[fmt][threads], "flops")

    def measurements(self) -> Iterator[Measurement]:
        """All of them, as they were made."""
        for level in self.levels:
            yield from level.by_threads.values()
        for by_threads in self.peaks.values():
            yield from by_threads.values()
        yield from (self.fork_join, self.launch)

    def warnings(self) -> tuple[str, ...]:
        """What disturbed the probes, each kind once with how often."""
        kinds: dict[str, int] = {}
        for m in self.measurements():
            for warning in m.conditions.warnings:
                kind = warning.split(":")[0]
                kinds[kind] = kinds.get(kind, 0) + 1
        return tuple(f"{kind} in {count} of {len(list(self.measurements()))} probes" for kind, count in kinds.items())


def roof(m: Measurement, unit: str) -> float:
    """Work per second in the best repeat: what the machine can do when nothing is in the way."""
    return m.work[unit] / m.best_s


def thread_counts(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `most`."""
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return tuple(dict.fromkeys([*counts, most]))


def probe_machine(progress: Progress = lambda what: None) -> MachineProfile:
    """Measure this machine: bandwidth of each level, arithmetic peaks, fork-join and call cost. A few seconds.

    Raises: DoesNotFitError when there is no memory for the probe; RefusedError when a probe gives a wrong result.
    """
    began = time.perf_counter()
    machine = fingerprint()
    counts = thread_counts(machine.cores)
    progress("clock")
    clock = clock_hz()
    levels = _levels(machine.cores, counts, progress)
    peaks: dict[str, dict[int, Measurement]] = {}
    for fmt in ("fp32", "int8"):
        progress(f"{fmt} peak")
        peaks[fmt] = {n: required(run.peak(fmt, n)) for n in counts}
    progress("fork and join")
    return MachineProfile(
        fingerprint=machine,
        threads=machine.cores,
        clock_hz=clock,
        levels=levels,
        peaks=peaks,
        fork_join=required(run.fork_join(machine.cores)),
        launch=required(run.launch()),
        seconds=time.perf_counter() - began,
    )


def _levels(cores: int, counts: tuple[int, ...], progress: Progress) -> tuple[Level, ...]:
    """Caches and main memory. The last cache counts only as far as this machine really gets it."""
    memory_bytes = min(MEMORY_PROBE_BYTES, free_memory_bytes() // _MEMORY_SHARE)
    progress("main memory")
    memory = {n: required(run.read_bandwidth(memory_bytes // n, n)) for n in counts}
    found: list[Level] = []
    held = 0  # bytes of the levels so far, all cores
    for cache in caches():
        progress(f"{cache.name} cache")
        each = _size_inside(cache, held, cores)
        by_threads = {n: required(run.read_bandwidth(each, n)) for n in counts}
        found.append(Level(cache.name, cache.total_bytes(cores), by_threads))
        held = cache.total_bytes(cores)
    again = {n: required(run.read_bandwidth(memory_bytes // n, n)) for n in counts}  # neighbours come and go
    best = {n: max(memory[n], again[n], key=lambda m: roof(m, "bytes")) for n in counts}
    main = Level("memory", fingerprint().memory_bytes or memory_bytes, best)
    return (*_trimmed(found, main, cores), main)


def _size_inside(cache: Cache, held: int, cores: int) -> int:
    """Bytes for each thread that sit in this level: well beyond the level before, well inside this one."""
    inside = cache.bytes // cache.shared_by // 2
    beyond = 4 * held // cores
    return min(inside, max(beyond, 4096)) if beyond else inside


def _trimmed(found: list[Level], main: Level, cores: int) -> list[Level]:
    """Levels that are faster than main memory, the last one cut to the bytes at which reading slows to its pace."""
    slow = main.bandwidth_bytes_per_s(1)
    kept = [level for level in found if level.bandwidth_bytes_per_s(1) > _DISTINCT * slow]
    if len(kept) < 2:
        return kept
    last, before = kept[-1], kept[-2]
    border = (last.bandwidth_bytes_per_s(1) * slow) ** 0.5
    size = 2 * before.capacity_bytes
    while size * _SWEEP_STEP < last.capacity_bytes:
        outcome: Outcome = run.read_bandwidth(size * _SWEEP_STEP, 1, run.SWEEP)
        if not isinstance(outcome, Measurement) or roof(outcome, "bytes") < border:
            break
        size *= _SWEEP_STEP
    capacity = min(size, last.capacity_bytes)
    return [*kept[:-1], Level(last.name, capacity, last.by_threads)]


def profile_json(profile: MachineProfile) -> dict[str, Any]:
    """The profile as plain data, SI floats, spread beside each figure."""
    return {
        "machine": profile.fingerprint.to_json(),
        "threads": profile.threads,
        "clock_hz": profile.clock_hz,
        "levels": [
            {
                "name": level.name,
                "capacity_bytes": level.capacity_bytes,
                "bandwidth_bytes_per_s": {str(n): _figure(m, "bytes") for n, m in level.by_threads.items()},
            }
            for level in profile.levels
        ],
        "peak_flops": {
            fmt: {str(n): _figure(m, "flops") for n, m in by_threads.items()}
            for fmt, by_threads in profile.peaks.items()
        },
        "fork_join_s": profile.fork_join.median_s,
        "launch_s": profile.launch.median_s,
        "seconds": profile.seconds,
        "warnings": list(profile.warnings()),
    }


def _figure(m: Measurement, unit: str) -> dict[str, float]:
    return {"best": roof(m, unit), "median": m.rate(unit), "spread": m.spread}
