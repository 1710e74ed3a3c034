"""The quantisation lesson runs, and says what physics says."""

from __future__ import annotations

import pytest
from docs.lessons import quantization as lesson


def test_bits_buy_speed_only_where_bytes_bind() -> None:
    speed = lesson.decode_speedups()
    assert speed["int8"][0] == pytest.approx(2, abs=0.1)
    assert 3.5 < speed["int4"][0] < 4
    assert 1 < speed["int4"][1] < speed["int4"][0]  # expected: less than at the speed of light
    large = lesson.decode_speedups("llama-3-70b")
    assert large["int4"][1] > speed["int4"][1]  # overheads hide behind more weights


def test_weight_only_does_not_speed_up_arithmetic() -> None:
    train = lesson.resnet_training()
    assert train["int8"] == pytest.approx(1, abs=0.1) and train["int4"] == pytest.approx(1, abs=0.1)
    assert train["w8a8"] > 1.1
    roofs = lesson.prefill_roofs()
    assert roofs["int8"][0] == pytest.approx(1, abs=0.01)
    assert roofs["w8a8"][0] > 1.5 and roofs["w8a8"][1] == pytest.approx(2 * roofs["fp16"][1], rel=0.01)


def test_int4_stops_paying_as_the_batch_grows() -> None:
    cross = lesson.crossover()
    assert cross[2.0][0] is not None and cross[1.5][0] is not None
    assert 1 < cross[2.0][0] < cross[1.5][0]


def test_engines_reached_less_than_light() -> None:
    rows = lesson.measured_ratios()
    assert len(rows) > 20 and any("gpt-fast" in r[0] for r in rows)
    four_bit = [r for r in rows if r[3] in ("int4", "q4_0", "q4_k_m")]
    assert all(1 < r[4] < 4 for r in four_bit)


def test_the_frontier_orders_methods() -> None:
    rows = {name: (ratio, delta, metric) for name, ratio, delta, metric in lesson.frontier()}
    assert rows["quantisation, 8 bits"][1] > rows["quantisation, 4 bits"][1] > rows["quantisation, 2 bits"][1]
    assert rows["quantisation, 4 bits"][0] > rows["pruning, 0.5 of weights"][0]
