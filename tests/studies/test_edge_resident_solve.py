"""Normal equations on a device: the Cholesky term, its fit, and the three published solves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.evidence.studies.cases.resident_solve import (
    Cholesky,
    Shapes,
    fit_cholesky,
    gram_s,
    leave_one_out,
    other_s,
)
from waferline.evidence.studies.registry import load_study, run_study
from waferline.machines.hardware import load_hardware

V100 = load_hardware("nvidia-v100-sxm2-32gb")
PEAK = V100.peak_flops["fp64"]


@given(step=st.floats(1e-7, 1e-4), share=st.floats(0.05, 1.0))
def test_the_fit_finds_the_constants_that_made_the_times(step, share):
    p = np.array([512.0, 1024.0, 4096.0])
    made = Cholesky(step, share * PEAK)
    found = fit_cholesky(p, made.seconds(p), PEAK)
    np.testing.assert_allclose(found.seconds(p), made.seconds(p), rtol=1e-6)


@given(seconds=st.lists(st.floats(1e-4, 1.0), min_size=2, max_size=2))
def test_no_fit_factorises_faster_than_the_peak(seconds):
    found = fit_cholesky(np.array([1024.0, 4096.0]), np.array(seconds), PEAK)
    assert found.step_s >= 0 and 0 < found.rate_flops <= PEAK * (1 + 1e-12)


def test_a_solve_that_follows_the_model_is_predicted_from_the_others():
    shapes = Shapes(np.array([2000.0, 4000.0, 8000.0]), np.array([2048.0, 4096.0, 1024.0]))
    seconds = gram_s(shapes, V100) + other_s(shapes, V100) + Cholesky(2e-6, 0.3 * PEAK).seconds(shapes.p)
    np.testing.assert_allclose(leave_one_out(shapes, seconds, V100), seconds, rtol=1e-9)


def test_the_gram_product_is_not_faster_than_the_device():
    shapes = Shapes(np.array([2000.0]), np.array([2048.0]))
    assert gram_s(shapes, V100)[0] >= shapes.gram_flops[0] / PEAK


def test_the_study_reports_that_three_rows_do_not_make_a_model():
    report = run_study(load_study("resident-solve"))
    without = [c for c in report.checks if "without its factorisation" in c.quantity]
    assert all(c.verdict == "missed" and c.error < 0 for c in without)  # the Gram product alone is too fast
    assert all(c.why for c in report.misses)
    assert report.checks[0].computed == pytest.approx(0.919, abs=1e-3)
