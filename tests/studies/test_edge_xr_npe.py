"""Exact products of small formats, and a format for each layer."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import DoesNotFitError
from waferline.evidence.studies.cases.quire import SmallFormat, quire_matmul, quire_width
from waferline.evidence.studies.cases.xr_npe import choose_formats, quantisation_error
from waferline.evidence.studies.registry import load_study, run_study

FP4, P4, P8, P16 = SmallFormat.fp4(), SmallFormat.posit(4, 1), SmallFormat.posit(8, 0), SmallFormat.posit(16, 1)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), k=st.integers(1, 24), a=st.sampled_from([FP4, P4, P8, P16]))
def test_sums_are_those_of_rational_arithmetic(seed, k, a):
    rng = np.random.default_rng(seed)
    b = P8
    left, right = (rng.choice(np.flatnonzero(np.isfinite(f.values)), s) for f, s in ((a, (2, k)), (b, (k, 2))))
    quire = quire_matmul(left, right, a, b)
    for i, j in product(range(2), range(2)):
        pairs = zip(a.values[left[i]], b.values[right[:, j]], strict=True)
        exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in pairs)
        assert int(quire.units[i, j]) * Fraction(2) ** quire.exponent == exact
        assert abs(int(quire.units[i, j])) < 2 ** (quire.width - 1)


def test_cancellation_that_a_float_would_lose_survives():
    big, one = int(P16.encode(np.array([2.0**28]))[0]), int(P16.encode(np.array([1.0]))[0])
    minus = (-big) & 0xFFFF
    left, right = np.array([[big, one, minus]]), np.array([[big], [one], [big]])
    quire = quire_matmul(left, right, P16, P16)
    assert quire.rounded(P8)[0, 0] == 1.0
    assert quire_width(P16, P16, 3) > 64


def test_rounding_is_done_once():
    # 1 + 2^-40 in posit(4,1): a first rounding to 1.5's tie point must not decide the second one
    left = P16.encode(np.array([[1.5, 2.0**-14]]))
    right = P16.encode(np.array([[1.0], [2.0**-14]]))
    assert quire_matmul(left, right, P16, P16).rounded(P4)[0, 0] == 2.0  # above the tie of 1 and 2


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), layers=st.integers(1, 4), slack=st.floats(1.0, 50.0))
def test_the_greedy_mix_keeps_its_budget_and_is_no_worse_than_one_format(seed, layers, slack):
    rng = np.random.default_rng(seed)
    error = np.sort(rng.random((layers, 3)), axis=1)[:, ::-1]  # format 2 is the most accurate and the dearest
    cost = np.sort(rng.random((layers, 3)), axis=1)
    budget = slack * error[:, 2].sum()
    chosen = choose_formats(cost, error, budget)
    rows = np.arange(layers)
    assert error[rows, chosen].sum() <= budget * (1 + 1e-12)
    assert cost[rows, chosen].sum() <= cost[:, 2].sum()
    if error[:, 0].sum() <= budget:
        assert chosen.tolist() == [0] * layers


def test_a_budget_below_the_most_accurate_formats_is_refused():
    with pytest.raises(DoesNotFitError, match="most accurate"):
        choose_formats(np.ones((1, 1)), np.ones((1, 1)), 0.5)


def test_more_bits_err_less():
    weights = np.random.default_rng(0).standard_normal(4000)
    errors = [quantisation_error(weights, f.values) for f in (P4, P8, P16)]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0


def test_the_study_reproduces_every_exact_check():
    report = run_study(load_study("xr-npe"))
    assert not report.misses
    assert report.count("not checkable") == 4
