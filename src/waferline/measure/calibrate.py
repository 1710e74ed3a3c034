"""Which operators `measure machine` runs to learn how near its roofs the kernels come, within the time it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waferline.formats import Precision
from waferline.kernels.cpu.matmul import LEAST_FOR_TILES
from waferline.measure.constants import Fitted, TimeOf, fit
from waferline.measure.contract import Measurement, Outcome, required
from waferline.measure.engine import Plan
from waferline.measure.machine import MachineProfile, Progress, roof
from waferline.measure.operators import OperatorRequest, measure_operator, operator_of
from waferline.measure.probes import run
from waferline.workloads.operator import Operator

# Formats in order of how many models come in them; the time allowed may end before the list does.
FORMATS = ("q4_k", "q6_k", "q8_0", "fp32", "q4_0", "q5_k", "bf16", "fp16", "tq2_0")
# (rows, columns, batch): memory bound, small enough to show the floor, where arithmetic takes over, and the wide kernels
# of prefill. Four compiled widths in all: compiling is most of the time this takes on a first run.
MATRICES = (
    (4096, 4096, 1),
    (512, 2048, 1),
    (4096, 4096, 4),
    (4096, 4096, 8),
    (4096, 4096, 16),
    (2048, 2048, 64),
    (2048, 2048, 512),
)
# (heads, key heads, head size, context): grouped and not, short and long.
DECODES = ((32, 8, 128, 512), (32, 8, 128, 4096), (32, 4, 64, 1024), (16, 16, 64, 2048))
PREFILLS = ((32, 8, 128, 256), (32, 4, 64, 512), (8, 8, 64, 1024))
# (elements of a row, rows): decode and prefill.
VECTORS = ((2048, 1), (8192, 1), (4096, 64))
QUICK = Plan(repeats=9, warmups=2, least_s=0.1, most_s=2.0)
# Vectors stay in the caches from one operator to the next, so they may move faster than main memory does.
_FROM_CACHE = {"bandwidth_efficiency": (1e-3, 100.0)}


@dataclass(frozen=True, slots=True)
class Target:
    """One record to fit: the operators that are run for it, and how a profile names it."""

    key: str
    requests: tuple[OperatorRequest, ...]
    wider: Mapping[str, tuple[float, float]] | None = None


def targets(threads: int, formats: tuple[str, ...] = FORMATS) -> Iterator[Target]:
    """What is worth calibrating, first things first: the usual format, attention, vectors, then other formats."""
    yield _matrices(formats[0], threads)
    for name, key, shapes in (
        ("attention", "decode_attention", DECODES),
        ("prefill_attention", "prefill_attention", PREFILLS),
    ):
        yield Target(key, tuple(OperatorRequest(name, shape, "fp16", 1, threads) for shape in shapes))
    for name, key in (("norm", "norm"), ("swiglu", "elementwise"), ("softmax", "softmax")):
        rows = tuple(OperatorRequest(name, (n,), "fp32", count, 1, cold=False) for n, count in VECTORS)
        yield Target(key, rows, _FROM_CACHE)
    for fmt in formats[1:]:
        yield _matrices(fmt, threads)


def _matrices(fmt: str, threads: int) -> Target:
    rows = tuple(
        OperatorRequest("gemv" if batch == 1 else "gemm", (n, k), fmt, batch, threads) for n, k, batch in MATRICES
    )
    return Target(f"gemm/{fmt}", rows)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted constants of one operator kind in one format, with the measurements they rest on."""

    key: str  # as a profile names it: `gemm/q4_k`, `decode_attention`
    fitted: Fitted
    measured: tuple[Measurement, ...]

    def to_json(self) -> dict[str, Any]:
        """Constants and errors as plain data, with what was measured for them."""
        return {
            "c": dict(self.fitted.c),
            "median_error": self.fitted.median_error,
            "worst_error": self.fitted.worst_error,
            "cases": [
                {"name": m.name, "median_s": m.median_s, "log_error": e}
                for m, e in zip(self.measured, self.fitted.errors, strict=True)
            ],
        }


# Where the search for the wide kernels' constants begins: a tenth of the peak, an instruction a weight.
_WIDE = {"wide_from_m": float(LEAST_FOR_TILES), "wide_compute_efficiency": 0.1, "wide_unpack_s": 1e-10}

# predict's seconds of an operator under given constants, with main memory as fast as given (bytes/s)
TimeAt = Callable[[Operator, Mapping[str, float], float], float]


def calibrate(
    profile: MachineProfile,
    time_at: TimeAt,
    precision_of: Callable[[str], Precision],
    start_of: Callable[[Operator], Mapping[str, float]],
    *,
    within_s: float,
    formats: tuple[str, ...] = FORMATS,
    progress: Progress = lambda what: None,
) -> tuple[MachineProfile, list[Calibration]]:
    """Calibrations of this machine's kernels, one kind and format after another, none begun after `within_s` seconds.

    Main memory is read again after each, because neighbours come and go by the second; the roof is the best reading
    (large cold weights are one, too), and the constants are fitted under it once everything was measured. precision_of: formats
    of a named precision here. start_of: the constants predict would use without a calibration. Returns the profile with
    the better roof, and the calibrations.
    """
    began = time.perf_counter()
    reads = [profile.levels[-1].by_threads[profile.threads]]
    done: list[tuple[Target, tuple[Measurement, ...]]] = []
    for target in targets(profile.threads, formats):
        if time.perf_counter() - began > within_s:
            break
        progress(target.key)
        outcomes = [_calm(request) for request in target.requests]
        reads.append(required(run.read_bandwidth(MEMORY_BYTES // profile.threads, profile.threads, run.SWEEP)))
        measured = tuple(o for o in outcomes if isinstance(o, Measurement))
        if len(measured) == len(outcomes):  # where a case was refused, half a fit is none
            done.append((target, measured))
    streamed = [m for target, measured in done for m in _streams(target, measured)]
    best = max([*reads, *streamed], key=lambda m: roof(m, "bytes"))
    found = []
    for target, measured in done:
        operators = [operator_of(r, precision_of(r.format)) for r in target.requests]
        start = {**start_of(operators[0]), "floor_s": profile.fork_join.median_s}
        if operators[0].kind == "gemm":
            start |= _WIDE
        problem = _Problem(target, operators, lambda op, c: time_at(op, c, roof(best, "bytes")), start)
        fitted = problem.fit(measured)
        again = _measured_again(target, measured, fitted)
        found.append(Calibration(target.key, fitted if again == measured else problem.fit(again), again))
    return _with_memory(profile, best), found


MEMORY_BYTES = 256 * 2**20  # read between calibrations: beyond any share of a cache, and quick
_MOST_SPREAD = 0.2


def _streams(target: Target, measured: tuple[Measurement, ...]) -> Iterator[Measurement]:
    """Those measurements that read so many cold weights once that they are readings of main memory."""
    for request, m in zip(target.requests, measured, strict=True):
        if request.operator == "gemv" and m.work["bytes"] >= _LARGE_BYTES:
            yield m


_LARGE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class _Problem:
    """What the constants of one target are found from, but for the measurements."""

    target: Target
    operators: Sequence[Operator]
    time: TimeOf
    start: Mapping[str, float]

    def fit(self, measured: Sequence[Measurement]) -> Fitted:
        cases = [(op, m.median_s) for op, m in zip(self.operators, measured, strict=True)]
        return fit(cases, self.time, self.start, self.target.wider)


def _measured_again(target: Target, measured: tuple[Measurement, ...], f: Fitted) -> tuple[Measurement, ...]:
    """Cases far from the rest, and those that say how fast weights stream, are measured once more at another time, and
    the faster of the two counts, as with the roofs: neighbours only ever slow."""
    streams = list(_streams(target, measured))
    kept = []
    for request, m, error in zip(target.requests, measured, f.errors, strict=True):
        other = measure_operator(request, QUICK) if error > _FAR or m in streams else m
        kept.append(other if isinstance(other, Measurement) and other.median_s < m.median_s else m)
    return tuple(kept)


_FAR = 0.15  # |log(measured / fitted)|


def _calm(request: OperatorRequest) -> Outcome:
    """A measurement, made again when the first was disturbed; the steadier one counts."""
    first = measure_operator(request, QUICK)
    if not isinstance(first, Measurement) or first.spread <= _MOST_SPREAD:
        return first
    second = measure_operator(request, QUICK)
    return second if isinstance(second, Measurement) and second.spread < first.spread else first


def _with_memory(profile: MachineProfile, best: Measurement) -> MachineProfile:
    main = profile.levels[-1]
    better = replace(main, by_threads={**main.by_threads, profile.threads: best})
    return replace(profile, levels=(*profile.levels[:-1], better))
