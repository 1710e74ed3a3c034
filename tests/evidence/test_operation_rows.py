"""Rows of papers that time one operation, what they print beside speeds, and wafers with a grid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from waferline.evidence.check import check
from waferline.evidence.outcome import Outcome
from waferline.evidence.rows import Row

PRODUCT = Row(
    id="a", hardware="nvidia-a100-pcie-80gb", model="", phase="", metric="latency", value=5.85, unit="ms", engine="cuda",
    weight_format="fp32", activation_format="fp32", operation="Linear / dim=100x1024x512 dim=512x1024 dim=1024",
)  # fmt: skip
REDUCTION = replace(
    PRODUCT, hardware="amd-mi300x", engine="", operation="all_reduce sum", devices=8.0, metric="busbw", unit="GB/s",
    input_tokens=2.0**30, value=310.0,
)  # fmt: skip
WAFER = Row(
    id="w", hardware="cerebras-wse2", model="qwen2-72b", phase="decode", metric="decode TPR", value=824.3, unit="tokens/s",
    weight_format="fp16", activation_format="fp16", batch=1.0, devices=1.0, input_tokens=4096.0, engine="WaferLLM",
    operation="decode", cores_or_grid="540x540",
)  # fmt: skip


def _one(row: Row) -> Outcome:
    return check([row]).outcomes[0]


def test_a_product_takes_at_least_its_arithmetic() -> None:
    """102,400 rows of 512 by 1,024 are 107 GFLOP: 5.5 ms at the 19.5 TFLOP/s that the sheet states for fp32."""
    found = _one(PRODUCT)
    assert found.light == pytest.approx(2 * 102_400 * 512 * 1024 / 19.5e12 * 1e3, rel=0.01)
    assert found.predicted is not None and found.light is not None and found.predicted >= found.light
    assert found.low90 is not None and found.high90 is not None and found.low90 < PRODUCT.value < found.high90


def test_products_apart_cost_as_much_as_their_sum() -> None:
    """The same multiplications whether the right side is one matrix or one for each of the left: more bytes, no fewer FLOPs."""
    one = _one(replace(PRODUCT, operation="MatMul / dim=1000x64x1024 dim=1024x32"))
    apart = _one(replace(PRODUCT, operation="MatMul / dim=1000x64x1024 dim=1000x1024x32"))
    assert one.predicted is not None and apart.predicted is not None and apart.predicted > one.predicted


def test_bus_bandwidth_is_what_a_ring_sends() -> None:
    rate, time = _one(REDUCTION), _one(replace(REDUCTION, metric="latency", unit="us"))
    assert rate.predicted is not None and time.predicted is not None
    assert rate.predicted * 1e9 == pytest.approx(2**30 * 2 * 7 / 8 / (time.predicted * 1e-6))
    assert _one(replace(REDUCTION, input_tokens=None)).refused


def test_a_rate_of_an_operation_beats_light_from_above() -> None:
    bound = _one(REDUCTION).light
    assert bound is not None
    assert _one(replace(REDUCTION, value=bound / 2)).scored and _one(replace(REDUCTION, value=bound / 2)).slower < 0
    assert _one(replace(REDUCTION, value=bound * 2)).faster_than_light


def test_shares_that_nobody_states_and_machines_that_nobody_names_are_refused() -> None:
    assert "share" in _one(replace(PRODUCT, devices=8.0)).refused
    assert "which machine" in _one(replace(PRODUCT, hardware="apple-mac-unnamed")).refused
    assert _one(replace(PRODUCT, phase="decode", metric="tpot_s", unit="")).refused  # a row of a model, which it lacks


@pytest.mark.parametrize(
    ("metric", "unit", "why"),
    [
        ("quality_MMLU", "score", "accuracy"), ("peak_memory", "KB", "size"), ("speedup, max", "x", "ratio"),
        ("hbm_bandwidth_spec", "TB/s", "machine"), ("score_mean", "SPECrate", "microbenchmark"),
        ("power", "W", "energy"), ("params", "B", "size"),
    ],
)  # fmt: skip
def test_what_is_no_speed_is_said_to_be_what_it_is(metric: str, unit: str, why: str) -> None:
    assert why in _one(replace(PRODUCT, model="llama-3-8b", operation="", metric=metric, unit=unit)).refused


def test_rows_of_a_wafer_are_asked_of_its_grid() -> None:
    """WaferLLM, table 4: Qwen2-72B decodes 824.3 tokens/s on 540 x 540 cores, 787.1 on 660 x 660."""
    small, large = _one(WAFER), _one(replace(WAFER, cores_or_grid="660x660"))
    assert small.predicted == pytest.approx(824.3, rel=0.1) and large.predicted == pytest.approx(787.1, rel=0.1)
    assert small.predicted is not None and large.predicted is not None and small.predicted > large.predicted
    assert "ported" in _one(replace(WAFER, engine="T10 (ported to WSE-2)")).refused
