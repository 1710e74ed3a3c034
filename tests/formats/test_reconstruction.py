"""Error statistics: hand-checked values, laws, and edge cases."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import InvalidInputError
from waferline.formats.reconstruction import ErrorSums, compare, error_of


def test_hand_checked() -> None:
    stats = compare(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]))
    assert stats.relative_l2 == pytest.approx(0.1) and stats.max_abs == 0.5 and stats.mean == 0.25
    assert stats.sqnr_db == pytest.approx(20) and stats.cosine == pytest.approx(27 / math.sqrt(25 * 29.25))


def test_exact_zero_and_wrong_copies() -> None:
    x = np.ones((2, 2))
    assert compare(x, x).sqnr_db == math.inf and compare(x, x).to_json()["sqnr_db"] is None
    assert compare(0 * x, 0 * x).relative_l2 == 0 and compare(0 * x, 0 * x).cosine == 1
    assert compare(0 * x, x).relative_l2 == math.inf and compare(0 * x, x).cosine == 0
    json.dumps(compare(0 * x, x).to_json(), allow_nan=False)
    with pytest.raises(InvalidInputError, match="cannot be compared"):
        compare(x, np.ones(3))


@given(scale=st.sampled_from([2.0**-3, 1.0, 2.0**12]))  # as far as half-precision block scales stay normal numbers
def test_relative_figures_do_not_depend_on_scale(scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    one, other = error_of(x, "q6_k"), error_of(x * np.float32(scale), "q6_k")
    assert other.relative_l2 == pytest.approx(one.relative_l2, rel=1e-6)
    assert other.sqnr_db == pytest.approx(-20 * math.log10(other.relative_l2))


def test_merged_sums_are_sums_of_everything() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 10, 64))
    first, second = ErrorSums(), ErrorSums()
    first.add(x[:4], y[:4], 4.0)
    second.add(x[4:], y[4:], 4.0)
    first.merge(second)
    assert first.stats().relative_l2 == pytest.approx(compare(x, y, bits=4.0).relative_l2)
    assert first.stats().max_abs == compare(x, y).max_abs and first.stats().bits == 4.0


def test_more_bits_lose_less() -> None:
    x = np.random.default_rng(0).standard_normal((16, 1024))
    losses = [error_of(x, f).relative_l2 for f in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "fp16")]
    assert losses == sorted(losses, reverse=True)
