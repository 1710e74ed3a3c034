"""Execution modes: multipliers that say where they are from."""

import numpy as np
import pytest

from waferline.errors import UnknownNameError
from waferline.evidence.studies.cases.classic_ml import Operations
from waferline.evidence.studies.cases.guaranteed_guess import execution_mode, execution_modes
from waferline.evidence.studies.facts import facts
from waferline.evidence.studies.registry import load_study, run_study


def test_modes_are_ordered_and_have_sources():
    modes = execution_modes()
    times = [modes[n].time for n in ("native", "transpiled", "translated", "soft-float")]
    assert times == sorted(times) and times[0] == 1.0
    assert all(m.source and m.machine for m in modes.values())
    assert modes["translated"].time == pytest.approx(1.886, abs=1e-3)


def test_multipliers_broadcast():
    mode = execution_mode("transpiled")
    assert mode.seconds([1.0, 2.0]).tolist() == [mode.time, 2 * mode.time]
    assert np.isnan(execution_mode("soft-float").joules(1.0))


def test_soft_float_is_the_loop_of_the_other_study():
    cost = facts("nonneural-pulp")["cycles"]
    loop = Operations(add=1, mul=1, load=2).cycles(cost["soft"]) + 1
    assert execution_mode("soft-float").time == pytest.approx(loop / 4, rel=1e-9)


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UnknownNameError, match="translated"):
        execution_mode("tranlsated")


def test_a_wrong_kernel_is_never_timed():
    report = run_study(load_study("guaranteed-guess"))
    gate = {c.quantity: c.verdict for c in report.checks if "kernel" in c.quantity}
    assert len(gate) == 3 and set(gate.values()) == {"own check"}
