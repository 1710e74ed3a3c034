"""Three softmax algorithms that must agree, and the look-up-table product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnknownNameError
from waferline.kernels import reference
from waferline.kernels.cpu import lut
from waferline.kernels.cpu.softmax import ALGORITHMS, softmax

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@every_algorithm
@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 200), spread=st.sampled_from([1e-3, 1.0, 30.0, 1000.0]), seed=st.integers(0, 999))
def test_softmax_equals_the_reference(algorithm: str, n: int, spread: float, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-spread, spread, n).astype(np.float32)
    y, expected = softmax(x, algorithm=algorithm), reference.softmax(x)
    large = expected > 1e-30
    # x - max is rounded to f32 at |x| = 1000: one part in 2**24 of 1000 is 6e-5 in the exponent (two-pass avoids it)
    np.testing.assert_allclose(y[large], expected[large], rtol=2e-6 + spread * 1.3e-7)
    assert abs(float(y.sum(dtype=np.float64)) - 1) < 1e-5


@every_algorithm
@pytest.mark.parametrize("x", [[1.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf], [np.nan] * 20])
def test_what_has_no_softmax_is_nan(algorithm: str, x: list[float]) -> None:
    assert np.isnan(softmax(np.array(x, np.float32), algorithm=algorithm)).all()


@every_algorithm
def test_minus_infinity_and_extremes(algorithm: str) -> None:
    np.testing.assert_array_equal(softmax(np.array([-np.inf, 3.0], np.float32), algorithm=algorithm), [0, 1])
    np.testing.assert_array_equal(softmax(np.array([3e38, -3e38], np.float32), algorithm=algorithm), [1, 0])
    np.testing.assert_allclose(softmax(np.full((2, 3), -1e5, np.float32), algorithm=algorithm), 1 / 3, rtol=1e-6)


def test_softmax_checks_its_input() -> None:
    with pytest.raises(UnknownNameError, match="two-pass"):
        softmax(np.zeros(3), algorithm="two-pas")
    with pytest.raises(InvalidInputError):
        softmax(np.zeros((3, 0)))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize(("rows", "cols", "groups"), [(50, 384, 3), (16, 32, 1), (1, 256, 8)])
def test_look_up_equals_dequantised_weights(bits: int, rows: int, cols: int, groups: int) -> None:
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (rows, cols))
    scale, offset = (rng.standard_normal((rows, groups)).astype(np.float32) for _ in range(2))
    x = rng.standard_normal(cols).astype(np.float32)
    wide = [np.repeat(a.astype(np.float64), cols // groups, axis=1) for a in (scale, offset)]
    expected = (codes * wide[0] + wide[1]) @ x
    matrix = lut.pack_codes(codes, bits, scale, offset)
    y = lut.matvec(matrix, x)
    assert np.linalg.norm(y - expected) / np.linalg.norm(expected) < 1e-6
    np.testing.assert_array_equal(lut.matvec(matrix, x, threads=2), y)
    assert matrix.code_bytes == -(-rows // 16) * 16 * cols * bits // 8


def test_look_up_checks_its_input() -> None:
    one = np.ones((2, 1), np.float32)
    for codes, bits in (
        (np.full((2, 32), 2), 1),
        (np.zeros((2, 32), int), 5),
        (np.zeros((2, 33), int), 2),
        (np.zeros(32, int), 2),
    ):
        with pytest.raises(InvalidInputError):
            lut.pack_codes(codes, bits, one, one)
    with pytest.raises(InvalidInputError, match="32 columns"):
        lut.matvec(lut.pack_codes(np.zeros((2, 32), int), 2, one, one), np.zeros(31))
