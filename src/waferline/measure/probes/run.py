"""Running the probes: every figure is a `Measurement` with its check, spread and conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.kernels.cpu.aligned import aligned_empty
from waferline.kernels.cpu.amx import PEAK_CHAINS, TILE_K, TOKENS
from waferline.kernels.cpu.isa import current_isa
from waferline.kernels.cpu.threads import use_threads
from waferline.measure.contract import Check, Measurement, Outcome
from waferline.measure.engine import Cpu, Plan, foresee_memory, measure
from waferline.measure.probes import kernels

# One exact float counts to 2**24: the sums below are checked bit for bit, so a repeat must stay under that per lane.
MOST_COUNT = 2**24
SHORTEST_READ_BYTES = 16 * 2**20  # a repeat reads at least this much, so that starting threads does not count
MULTIPLY_STEPS = 100_000
TILE_STEPS = 40_000
BYTES_PER_STEP, LANES, BYTE_PRODUCTS = 64, 16, 4

PROBE = Plan(repeats=11, warmups=2, least_s=0.1, most_s=2.0)
SWEEP = Plan(repeats=5, warmups=1, least_s=0.03, most_s=1.0)


def read_bandwidth(each_bytes: int, threads: int, plan: Plan = PROBE) -> Outcome:
    """Bytes per second when each of `threads` threads reads `each_bytes` of its own again and again, by the faster of two
    loops where once is long enough.

    Raises: DoesNotFitError when the buffer does not fit in free memory.
    """
    each = max(kernels.STRIDE_BYTES, each_bytes // kernels.STRIDE_BYTES * kernels.STRIDE_BYTES)
    foresee_memory(each * threads, "the bandwidth probe")
    times = max(1, SHORTEST_READ_BYTES // each)
    data = aligned_empty(each * threads).view(np.float32)  # a vector across two lines costs two reads
    data.fill(1.0)
    out = np.zeros(threads * LANES, np.float32)
    use_threads(threads)

    detail = {"bytes_each": each, "times": times, "threads": threads}
    work = {"bytes": float(times * each * threads)}

    def run() -> Any:
        if threads == 1:
            kernels.read_alone(data, each, times, out)
        else:
            kernels.read_parallel(data, each, times, threads, out)
        return out

    name, device = f"read {each} bytes on each of {threads} threads", Cpu(threads)
    lanes = measure(
        run,
        name=name,
        check=lambda got: _exactly(got, times * each // BYTES_PER_STEP, "the count of what was read"),
        device=device,
        plan=plan,
        work=work,
        detail=detail,
    )
    if times > 1:
        return lanes
    words, sums = data.view(np.int64), np.zeros(threads, np.int64)

    def run_words() -> Any:
        kernels.read_words(words, each // words.itemsize, threads, sums)
        return sums

    total = int(words[0]) * (each // words.itemsize) % 2**64  # sums of i64 wrap
    wanted = total - 2**64 if total >= 2**63 else total

    def check_words(got: Any) -> Check:
        error = 0.0 if (got == wanted).all() else math.inf
        got.fill(wanted ^ 1)  # the next repeat has to sum anew
        return Check("the sum of what was read", error, 0.0)

    plain = measure(
        run_words,
        name=name,
        check=check_words,
        device=device,
        plan=plan,
        work=work,
        detail=detail,
    )
    both = [m for m in (lanes, plain) if isinstance(m, Measurement)]
    return min(both, key=lambda m: m.best_s) if len(both) == 2 else lanes


@dataclass(frozen=True, slots=True)
class _Peak:
    """A multiply-add loop: what one step does in each of sixteen lanes, how many such lanes, how many steps."""

    kernel: Any
    dtype: Any
    products: int
    rows: int = 1
    steps: int = MULTIPLY_STEPS


def _peak_of(kind: str) -> _Peak:
    if kind == "fp32":
        return _Peak(kernels.multiply_f32, np.float32, kernels.CHAINS)
    if current_isa().tiles:
        return _Peak(kernels.multiply_tiles, np.int8, PEAK_CHAINS * TILE_K, rows=TOKENS, steps=TILE_STEPS)
    return _Peak(kernels.multiply_i8, np.uint8, kernels.CHAINS * BYTE_PRODUCTS)


def peak(kind: str, threads: int, plan: Plan = PROBE) -> Outcome:
    """Operations per second of multiply-adds in registers: `kind` is "fp32" or "int8"."""
    p = _peak_of(kind)
    ones = aligned_empty(2048).view(p.dtype)
    ones.fill(1)
    ones[1024 // ones.itemsize :] = 0  # where the byte kernel reads its zeros
    out = np.zeros(threads * LANES, np.float32)
    use_threads(threads)

    def run() -> Any:
        p.kernel(ones, p.steps, threads, out)
        return out

    return measure(
        run,
        name=f"{kind} multiply-add in registers on {threads} threads",
        check=lambda got: _exactly(got, p.steps * p.products, "the count of products"),
        device=Cpu(threads),
        plan=plan,
        work={"flops": 2.0 * p.steps * p.products * LANES * p.rows * threads},
        detail={"threads": threads},
    )


def fork_join(threads: int, plan: Plan = PROBE) -> Outcome:
    """Seconds to start `threads` threads on nothing and to wait for them."""
    out = np.zeros(threads * LANES, np.float64)
    use_threads(threads)

    def run() -> Any:
        kernels.fork_join(out, threads)
        return out

    return measure(
        run,
        name=f"fork and join {threads} threads",
        check=_grown(),
        device=Cpu(threads),
        plan=plan,
        detail={"threads": threads},
    )


def launch(plan: Plan = PROBE) -> Outcome:
    """Seconds to call a compiled function."""
    out = np.zeros(1)

    def run() -> Any:
        kernels.call(out)
        return out

    return measure(run, name="call a compiled function", check=_grown(), device=Cpu(1), plan=plan)


def _exactly(got: Any, count: int, reference: str) -> Check:
    assert count < MOST_COUNT * 8, count
    error = float(np.abs(got - np.float32(count)).max()) if np.isfinite(got).all() else math.nan
    got.fill(np.nan)  # the next repeat has to count anew
    return Check(reference, error, 0.0)


def _grown() -> Callable[[Any], Check]:
    """Checks that every thread's counter is beyond where it was at the last check."""
    last: Any = 0.0

    def check(got: Any) -> Check:
        nonlocal last
        before, last = last, got[::LANES].copy()
        return Check("a counter that every thread advances", 0.0 if (last > before).all() else math.inf, 0.0)

    return check
