"""Digits, products and cycle formulas of bit-weight engines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError
from waferline.evidence.studies.cases.bit_weight import (
    booth_digits,
    ent_digits,
    matmul_by_digits,
    mean_cycles,
    mean_digits,
    normal_int8,
)
from waferline.evidence.studies.cases.engine_arrays import (
    ENGINES,
    Array2D,
    output_stationary,
    weight_stationary,
)
from waferline.evidence.studies.registry import load_study, run_study

INT8 = np.arange(-128, 128)

GOLDEN = [  # operand, EN-T digits, Booth digits (least significant first)
    (0, [0, 0, 0, 0], [0, 0, 0, 0]),
    (3, [-1, 1, 0, 0], [-1, 1, 0, 0]),
    (-3, [1, -1, 0, 0], [1, -1, 0, 0]),
    (127, [-1, 0, 0, 2], [-1, 0, 0, 2]),
    (-128, [0, 0, 0, -2], [0, 0, 0, -2]),
    (6, [2, 1, 0, 0], [-2, 2, 0, 0]),
]


@pytest.mark.parametrize(("value", "ent", "booth"), GOLDEN)
def test_digits(value, ent, booth):
    assert ent_digits(value).tolist() == ent
    assert booth_digits(value).tolist() == booth


def test_digit_sets_and_values_of_all_operands():
    magnitude = ent_digits(INT8) * np.where(INT8 < 0, -1, 1)[:, None]
    assert set(magnitude.ravel().tolist()) == {-1, 0, 1, 2}
    assert set(booth_digits(INT8).ravel().tolist()) == {-2, -1, 0, 1, 2}
    for encode in (ent_digits, booth_digits):
        assert np.array_equal(encode(INT8) @ 4 ** np.arange(4), INT8)


def test_operands_beyond_int8_are_refused():
    with pytest.raises(InvalidInputError, match="-128 to 127"):
        ent_digits([128])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), m=st.integers(1, 9), k=st.integers(1, 40), n=st.integers(1, 9))
def test_products_by_digits_are_exact(seed, m, k, n):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    assert np.array_equal(matmul_by_digits(a, b), a @ b)
    assert np.array_equal(matmul_by_digits(a, b, booth_digits), a @ b)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 15), st.integers(1, 15), st.integers(1, 15)),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
)
def test_systolic_formulas_count_what_registers_do(sizes, rows, columns):
    m, k, n = sizes
    rng = np.random.default_rng(m * k * n)
    a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
    array = Array2D(rows, columns)
    for name, run in (
        ("systolic, output stationary", output_stationary),
        ("systolic, weight stationary", weight_stationary),
    ):
        result, cycles = run(a, b, rows, columns)
        assert np.array_equal(result, a @ b)
        assert cycles == ENGINES[name](m, k, n, array)


@given(m=st.integers(1, 500), k=st.integers(1, 500), n=st.integers(1, 500), side=st.integers(1, 32))
def test_no_engine_does_more_than_its_multipliers(m, k, n, side):
    array = Array2D(side, side, depth=side)
    for name, model in ENGINES.items():
        multipliers = side**3 if name == "cube" else side**2
        assert model(m, k, n, array) * multipliers >= m * k * n


def test_an_all_zero_group_costs_a_cycle():
    only_zero = np.zeros(256)
    only_zero[128] = 1.0
    assert mean_digits(only_zero) == 0.0
    assert mean_cycles(only_zero, group=4) == pytest.approx(1.0)  # four bit weights, a quarter of a cycle each


def test_wider_operands_leave_more_digits():
    means = [mean_digits(normal_int8(s)) for s in (1, 5, 10, 20, 40)]
    assert means == sorted(means)
    assert normal_int8(25.0).sum() == pytest.approx(1.0)


def test_the_study_misses_two_figures_and_says_why():
    report = run_study(load_study("bit-weight"))
    assert {c.quantity for c in report.misses} == {"digits left, sigma 50, K 32", "OPT4C, sigma 30"}
    assert all(c.why for c in report.misses)
