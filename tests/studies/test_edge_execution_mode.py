"""Execution modes: multipliers that say where they are from."""

import pytest

from waferline.evidence.studies.cases.classic_ml import Operations
from waferline.evidence.studies.facts import facts
from waferline.evidence.studies.registry import load_study, run_study
from waferline.predict.techniques.schedule import execution_times


def test_modes_are_ordered_and_have_sources():
    modes = facts("guaranteed-guess")["modes"]
    times = [execution_times(n) for n in ("native", "transpiled", "translated", "soft-float")]
    assert times == sorted(times) and times[0] == 1.0
    assert all(m["source"] and m["machine"] for m in modes.values())
    assert times[2] == pytest.approx(1.886, abs=1e-3)


def test_soft_float_is_the_loop_of_the_other_study():
    cost = facts("nonneural-pulp")["cycles"]
    loop = Operations(add=1, mul=1, load=2).cycles(cost["soft"]) + 1
    assert execution_times("soft-float") == pytest.approx(loop / 4, rel=1e-9)


def test_a_wrong_kernel_is_never_timed():
    report = run_study(load_study("guaranteed-guess"))
    gate = {c.quantity: c.verdict for c in report.checks if "kernel" in c.quantity}
    assert len(gate) == 3 and set(gate.values()) == {"own check"}
