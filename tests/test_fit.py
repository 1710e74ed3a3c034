"""The one fit: constants are found again, outliers do not drag them, groups stay together, and SciPy waits until it is needed."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.fit import Errors, bounded, folds, held_out, left_out, residual_quantiles, shrunk, sweep_weights

SIZES = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])


def _errors(measured: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda c: np.log((c["floor"] + c["each"] * SIZES) / measured)


@given(floor=st.floats(1e-5, 1e-3), each=st.floats(1e-6, 1e-4))  # within a factor of 20 of the start: what still pulls
@settings(max_examples=25, deadline=None)
def test_constants_are_found_again_where_little_holds_them_back(floor: float, each: float) -> None:
    start, spread = {"floor": 1e-4, "each": 1e-5}, {"floor": 1e3, "each": 1e3}
    found = shrunk(_errors(floor + each * SIZES), start, spread, noise=0.05)
    assert np.abs(_errors(floor + each * SIZES)(found)).max() < 0.01


def test_constants_that_no_row_tells_of_stay_and_limits_hold() -> None:
    start, spread = {"floor": 1e-4, "each": 1e-5, "other": 7.0}, {"floor": 1.0, "each": 1.0, "other": 1.0}
    measured = 100 * (1e-4 + 1e-5 * SIZES)
    found = shrunk(_errors(measured), start, spread, noise=0.05, most={"each": 0.5})
    assert found["other"] == pytest.approx(7.0, rel=1e-6)
    assert found["each"] <= 1e-5 * math.exp(0.5) * (1 + 1e-9)


def test_one_wild_row_does_not_drag_the_others() -> None:
    measured = 1e-4 + 1e-5 * SIZES
    measured[2] *= 50
    low, high = np.log([1e-7, 1e-8]), np.log([1.0, 1.0])
    found, cost = bounded(
        lambda x: _errors(measured)({"floor": math.exp(x[0]), "each": math.exp(x[1])}),
        [low, (low + high) / 2],
        low,
        high,
        noise=0.02,
    )
    assert np.exp(found) == pytest.approx([1e-4, 1e-5], rel=0.05)
    assert cost > 0


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.integers(2, 6))
@settings(deadline=None)
def test_no_group_is_split_and_folds_differ_by_a_group_at_most(groups: list[int], count: int) -> None:
    fold = folds(groups, count)
    for group in set(groups):
        assert len({f for f, g in zip(fold, groups, strict=True) if g == group}) == 1
    filled, largest = np.bincount(fold), max(groups.count(g) for g in groups)
    assert len(filled) == min(count, len(set(groups))) and filled.max() - filled.min() <= largest


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40))
def test_every_row_is_left_out_once_and_never_by_a_fit_that_saw_its_group(groups: list[str]) -> None:
    masks = list(left_out(groups))
    assert len(masks) == (len(set(groups)) if len(set(groups)) > 1 else 0)
    if masks:
        assert (np.sum(masks, axis=0) == 1).all()
    labels = np.array(groups)
    for inside in masks:
        assert not set(labels[inside]) & set(labels[~inside])
    held = held_out(groups, lambda inside: np.full(inside.sum(), float((~inside).sum())))
    assert np.isnan(held).all() if not masks else (held == [len(groups) - groups.count(g) for g in groups]).all()


def test_figures_of_errors() -> None:
    e = Errors.of(np.log([1.1, 1.1, 0.5, np.nan]))
    assert e.median == pytest.approx(0.1) and e.bias == pytest.approx(0.1) and 0.1 < e.p90 < 0.5
    assert math.isnan(Errors.of(np.array([np.nan])).median)
    low, near_low, near_high, high = residual_quantiles(np.log([2.0, 1.0, 0.5]), "nearest")
    assert (low, high) == pytest.approx((math.log(0.5), math.log(2.0)))
    assert low <= near_low <= near_high <= high


def test_a_long_sweep_counts_as_its_root() -> None:
    weights = sweep_weights(["a"] * 4 + ["b"])
    assert weights.mean() == pytest.approx(1.0)
    assert weights[4] == pytest.approx(2 * weights[0])


def test_folds_are_those_of_scikit_learn() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 23, 400)
    expected = np.empty(400, dtype=int)
    for f, (_, test) in enumerate(model_selection.GroupKFold(5).split(groups, groups=groups)):
        expected[test] = f
    assert (folds(groups, 5) == expected).all()


def test_scipy_is_imported_by_a_fit_alone() -> None:
    code = "import sys, waferline, waferline.fit, waferline.predict.calibrate; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
