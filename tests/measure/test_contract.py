"""The contract: a measurement is work that the device did; anything else is a refusal that passes no gate."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import DoesNotFitError, InvalidInputError, RefusedError
from waferline.evidence.rows import read_rows
from waferline.measure import Check, Conditions, Measurement, Refusal, measure, store
from waferline.measure.contract import kind_of, relative_error, required
from waferline.measure.engine import Cpu, Plan, foresee_memory
from waferline.measure.rows import evidence_rows, rows_csv

GOOD = Check("itself", 0.0, 0.0)
CALM = Conditions(load_before=0.0, load_after=0.0, cpu_share=1.0, clock_drift=1.0)
SHORT = Plan(repeats=5, warmups=1, least_s=0.0, most_s=5.0)


def record(seconds: tuple[float, ...] = (1.0,) * 5, check: Check = GOOD) -> Measurement:
    return Measurement(
        name="x",
        device="cpu",
        seconds=seconds,
        quiet=(True,) * len(seconds),
        check=check,
        conditions=CALM,
        machine={},
        started="2026-01-01T00:00:00+00:00",
        work={"rows": 10.0},
    )


@pytest.mark.parametrize(
    ("seconds", "check"),
    [
        ((1.0,) * 4, GOOD),
        ((1.0, 1.0, 1.0, 1.0, 0.0), GOOD),
        ((1.0, 1.0, 1.0, 1.0, math.nan), GOOD),
        ((1.0, 1.0, 1.0, 1.0, math.inf), GOOD),
        ((1.0,) * 5, Check("r", 1e-3, 1e-6)),
        ((1.0,) * 5, Check("r", math.nan, 1.0)),
        ((1.0,) * 5, Check("r", math.inf, math.inf)),
    ],
)
def test_a_record_of_nothing_cannot_be_built(seconds: tuple[float, ...], check: Check) -> None:
    with pytest.raises(RefusedError):
        record(seconds, check)


def test_a_refusal_passes_no_gate() -> None:
    refusal = Refusal(name="x", device="cuda:0", reason="no-device", explanation="there is none")
    assert refusal.rate("rows") == 0.0
    assert not refusal.meets("rows", 0.0, "cuda")
    assert not refusal.meets("rows", -1.0, "cuda")
    with pytest.raises(RefusedError) as caught:
        required(refusal)
    assert caught.value.exit_code == 4


@given(st.lists(st.floats(1e-9, 1e3), min_size=5, max_size=40))
def test_median_lies_between_the_repeats_and_the_rate_is_its_inverse(seconds: list[float]) -> None:
    m = record(tuple(seconds))
    assert min(seconds) <= m.median_s <= max(seconds)
    assert m.rate("rows") == pytest.approx(10.0 / m.median_s)
    assert m.spread >= 0
    kind = kind_of(m.device)
    assert m.meets("rows", m.rate("rows"), kind)
    assert not m.meets("rows", math.nextafter(m.rate("rows"), math.inf), kind)
    assert not m.meets("rows", m.rate("rows"), "another")


def test_disturbed_repeats_do_not_count_while_enough_are_quiet() -> None:
    noisy = Measurement(
        name="x", device="cpu", seconds=(1.0,) * 5 + (9.0,) * 6, quiet=(True,) * 5 + (False,) * 6, check=GOOD,
        conditions=CALM, machine={}, started="",
    )  # fmt: skip
    assert noisy.median_s == 1.0
    assert noisy.best_s == 1.0


def test_a_call_may_do_the_work_several_times() -> None:
    def run() -> int:
        time.sleep(0.004)
        return 1

    outcome = measure(run, name="four at once", check=lambda r: GOOD, plan=SHORT, work={"rows": 10.0}, times=4)
    assert isinstance(outcome, Measurement)
    assert 0.001 <= outcome.median_s < 0.004
    assert outcome.calls_per_repeat % 4 == 0


def test_inputs_are_made_outside_the_clock() -> None:
    def slow(call: int) -> tuple[int]:
        time.sleep(0.02)
        return (call,)

    seen: list[int] = []

    def run(call: int) -> int:
        seen.append(call)
        return sum(range(200_000)) + call

    outcome = measure(run, name="sum", check=lambda r: GOOD, inputs=slow, plan=SHORT)
    assert isinstance(outcome, Measurement)
    assert outcome.median_s < 0.02
    assert len(outcome.seconds) >= 5
    assert len(seen) == 1 + len(outcome.seconds) * outcome.calls_per_repeat


def test_the_last_result_is_checked_too() -> None:
    results = iter([0.0] + [1.0] * 1000)
    outcome = measure(
        lambda: (time.sleep(1e-3), next(results))[1],
        name="drifting",
        check=lambda r: Check("zero", abs(r), 0.5),
        plan=SHORT,
    )
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "wrong-result"


def test_a_wrong_first_result_is_never_timed() -> None:
    calls: list[int] = []
    outcome = measure(lambda: calls.append(1) or 1, name="wrong", check=lambda r: Check("x", math.nan, 1.0), plan=SHORT)
    assert isinstance(outcome, Refusal)
    assert len(calls) == SHORT.warmups
    assert "not finite" in outcome.explanation


class FlakyDevice(Cpu):
    """A device whose work really is done by the CPU, and which fails, or hands work elsewhere, when told to."""

    def __init__(self, *, missing: bool = False, elsewhere_from: int = 10**9) -> None:
        super().__init__(threads=1, name="flaky:0")
        object.__setattr__(self, "missing", missing)
        object.__setattr__(self, "left", elsewhere_from)

    def unavailable(self) -> str | None:
        return "no such device" if self.missing else None  # type: ignore[attr-defined]

    def holds(self, result: object) -> bool:
        object.__setattr__(self, "left", self.left - 1)  # type: ignore[attr-defined, has-type]
        return self.left >= 0  # type: ignore[attr-defined, no-any-return]


def test_no_device_is_refused_before_anything_runs() -> None:
    ran: list[int] = []
    outcome = measure(
        lambda: ran.append(1), name="x", check=lambda r: GOOD, device=FlakyDevice(missing=True), plan=SHORT
    )
    assert isinstance(outcome, Refusal)
    assert (outcome.reason, ran) == ("no-device", [])


def test_one_repeat_that_ran_elsewhere_spoils_all() -> None:
    work = lambda: time.sleep(1e-3) or 1  # noqa: E731
    outcome = measure(work, name="x", check=lambda r: GOOD, device=FlakyDevice(elsewhere_from=4), plan=SHORT)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "not-engaged"


def test_a_device_lost_midway_is_refused() -> None:
    count = iter(range(1000))

    def run() -> int:
        time.sleep(1e-3)
        if next(count) == 4:
            raise RuntimeError("the device fell off the bus")
        return 1

    outcome = measure(run, name="x", check=lambda r: GOOD, plan=SHORT)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "device-lost"
    assert "fell off" in outcome.explanation


def test_too_slow_for_enough_repeats_is_refused() -> None:
    plan = Plan(repeats=5, warmups=1, least_s=0.0, most_s=0.05)
    outcome = measure(lambda: time.sleep(0.03) or 1, name="slow", check=lambda r: GOOD, plan=plan)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "out-of-time"


def test_memory_that_runs_out_and_memory_that_would() -> None:
    def run() -> None:
        raise MemoryError

    refused = measure(run, name="big", check=lambda r: GOOD, plan=SHORT)
    assert isinstance(refused, Refusal) and refused.reason == "out-of-memory"
    assert refused.error().exit_code == 3
    with pytest.raises(DoesNotFitError):
        foresee_memory(1e18, "a matrix")


@pytest.mark.parametrize(("repeats", "warmups"), [(4, 1), (5, 0), (0, 1)])
def test_a_plan_needs_repeats_and_a_warm_up(repeats: int, warmups: int) -> None:
    with pytest.raises(InvalidInputError):
        Plan(repeats=repeats, warmups=warmups)


def test_disturbances_are_reported() -> None:
    bad = Conditions(load_before=9.0, load_after=9.0, cpu_share=0.5, clock_drift=0.8, throttle_events=3)
    assert len(bad.warnings) == 3
    assert CALM.warnings == ()


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_relative_error_of_the_same_is_zero_unless_not_finite(x: float) -> None:
    error = relative_error([x, 1.0], [x, 1.0])
    assert (error == 0.0) == math.isfinite(x)
    assert math.isnan(relative_error([1.0], [1.0, 2.0]))


def test_store_appends_reads_back_and_names_the_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.jsonl"
    refusal = Refusal(name="x", device="cuda:0", reason="no-device", explanation="none")
    store.append([record(), refusal], path)
    store.append([record()], path)
    assert [r["engaged"] for r in store.read(path).records] == [True, False, True]


@pytest.mark.parametrize("torn", ['{"engaged": tr', "[1, 2]\n", "[" * 100_000, '"engaged"\n', "\x00"])
def test_a_torn_line_is_skipped_counted_and_not_glued_to(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "m.jsonl"
    store.append([record()], path)
    with path.open("a") as f:
        f.write(torn)
    store.append([record()], path)
    kept = store.read(path)
    assert (len(kept.records), kept.skipped) == (2, 1)


def test_a_repeat_that_does_nothing_is_seen_wherever_it_is() -> None:
    """A solver that is idle in one repeat in the middle is no measurement."""
    calls = 0

    def run() -> int:
        nonlocal calls
        calls += 1
        time.sleep(0.01)  # long enough that a repeat is one call
        return 0 if calls == 5 else 1

    outcome = measure(
        run, name="idle", check=lambda r: Check("one", abs(r - 1.0), 0.0), plan=Plan(repeats=6, warmups=1)
    )
    assert isinstance(outcome, Refusal) and not outcome.engaged


@pytest.mark.parametrize("error", [ValueError("shape"), np.linalg.LinAlgError("singular"), ZeroDivisionError("0")])
def test_work_that_ends_in_an_error_is_a_refusal(error: Exception) -> None:
    def run() -> None:
        raise error

    outcome = measure(run, name="broken", check=lambda r: GOOD, plan=SHORT)
    assert isinstance(outcome, Refusal) and outcome.reason == "failed"


def _write_many(path: Path, who: int) -> None:
    for i in range(20):
        store.append([{"engaged": True, "who": who, "i": i, "pad": "x" * 5000}], path)


def test_two_writers_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, who)) for who in range(2)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert sorted((r["who"], r["i"]) for r in store.read(path).records) == [(w, i) for w in range(2) for i in range(20)]


def test_records_export_as_evidence_rows(tmp_path: Path) -> None:
    outcome = measure(
        lambda: float(np.sin(np.arange(50_000.0)).sum()),
        name="decode",
        check=lambda r: GOOD,
        plan=SHORT,
        work={"output_tokens": 7.0},
        detail={
            "evidence": {
                "model": "tiny",
                "phase": "decode",
                "weight_format": "q4_k",
                "batch": 1,
                "input_tokens": 8,
                "output_tokens": 7,
            }
        },
    )
    lines = json.loads(json.dumps([outcome.to_json()], allow_nan=False))
    rows = list(evidence_rows([*lines, Refusal(name="x", device="y", reason="no-device", explanation="z").to_json()]))
    path = tmp_path / "rows.csv"
    path.write_text(rows_csv(rows))
    (row,) = read_rows(path)
    assert isinstance(outcome, Measurement)
    assert (row.metric, row.kind, row.model, row.weight_format) == ("output_tokens_per_s", "measured", "tiny", "q4_k")
    assert row.value == pytest.approx(outcome.rate("output_tokens"))
