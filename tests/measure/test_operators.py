"""Operators really run: right results, the same work that predict counts, and bad input named."""

from __future__ import annotations

import pytest

from waferline.errors import DoesNotFitError, InvalidInputError, UnknownNameError, UnsupportedError
from waferline.formats import Precision
from waferline.measure.contract import Measurement
from waferline.measure.engine import Plan
from waferline.measure.operators import OPERATORS, OperatorRequest, entry_of, measure_operator, operator_of, parse_shape

QUICK = Plan(repeats=5, warmups=1, least_s=0.0, most_s=20.0)
SMALL = {
    "gemv": ((100, 512), "q4_k", 1, 2),
    "gemm": ((48, 256), "q8_0", 12, 1),
    "attention": ((8, 2, 64, 208), "fp16", 2, 1),
    "prefill_attention": ((4, 4, 32, 80), "fp16", 1, 1),
    "norm": ((1000,), "fp32", 3, 1),
    "swiglu": ((1003,), "fp32", 1, 1),
    "softmax": ((999,), "fp32", 2, 1),
}


@pytest.mark.parametrize("name", list(OPERATORS))
def test_every_operator_runs_right_and_does_the_work_predict_counts(name: str) -> None:
    shape, fmt, batch, threads = SMALL[name]
    request = OperatorRequest(name, shape, fmt, batch, threads, cold=False)
    outcome = measure_operator(request, QUICK)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.check.error <= outcome.check.tolerance
    op = operator_of(request, Precision("fp32" if fmt == "fp16" else fmt, "fp32", "fp16", fmt))
    if "flops" in outcome.work:
        assert outcome.work["flops"] == float(op.flops)
    if name.startswith("gem"):
        assert outcome.work["bytes"] == pytest.approx(float(op.weight_bytes), rel=0.01)
    elif "attention" in name:
        assert outcome.work["bytes"] == pytest.approx(float(op.kv_bytes), rel=1e-9)
    else:
        assert outcome.work["bytes"] == float(op.bytes)
    assert outcome.detail["evidence"]["operation"] == outcome.name


@pytest.mark.parametrize(
    ("name", "kernel", "shape", "fmt"),
    [("softmax", "two-pass", (999,), "fp32"), ("softmax", "recompute", (999,), "fp32"), ("softmax", "reload", (999,), "fp32"),
     ("gemv", "lut", (100, 512), "q4_k"), ("gemv", "lut", (33, 256), "tq2_0")],
)  # fmt: skip
def test_another_kernel_of_an_operator_runs_right_too(name: str, kernel: str, shape: tuple[int, ...], fmt: str) -> None:
    outcome = measure_operator(OperatorRequest(name, shape, fmt, cold=False, kernel=kernel), QUICK)
    assert isinstance(outcome, Measurement), outcome
    assert outcome.check.error <= outcome.check.tolerance
    assert outcome.name.startswith(f"{name}:{kernel} ") and outcome.detail["kernel"] == kernel


def test_cold_weights_rotate_through_more_than_the_caches_and_warm_ones_do_not() -> None:
    cold, warm = (
        measure_operator(OperatorRequest("gemv", (256, 512), "q8_0", cold=c), Plan(5, 1, 0.0, 20.0))
        for c in (True, False)
    )
    one = warm.detail["weights_in_rotation_bytes"]
    assert cold.detail["weights_in_rotation_bytes"] > 100 * one


@pytest.mark.parametrize(
    ("request_of", "error", "text"),
    [
        (lambda: OperatorRequest("gemv", (64, 256), batch=0), InvalidInputError, "batch"),
        (lambda: OperatorRequest("gemv", (0, 256)), InvalidInputError, "shape"),
        (lambda: OperatorRequest("gemv", (-4, 256)), InvalidInputError, "shape"),
        (lambda: OperatorRequest("gemv", ()), InvalidInputError, "shape"),
        (lambda: OperatorRequest("gemv", (64, 256), "q4_kk"), UnknownNameError, "q4_k"),
        (lambda: OperatorRequest("gemx", (64, 256)), UnknownNameError, "gemv"),
        (lambda: OperatorRequest("gemv", (64,)), InvalidInputError, "rows x columns"),
        (lambda: OperatorRequest("attention", (64, 64), "fp16"), InvalidInputError, "heads"),
        (lambda: OperatorRequest("gemv", (64, 256), "q2_k"), UnsupportedError, "Q4_K"),
        (lambda: OperatorRequest("attention", (8, 8, 64, 64), "q4_k"), UnsupportedError, "fp16"),
        (lambda: OperatorRequest("gemv", (64, 300)), InvalidInputError, "256"),
        (lambda: OperatorRequest("norm", (64,), "fp32", threads=2), UnsupportedError, "one thread"),
        (lambda: OperatorRequest("gemv", (64, 256), threads=10_000), InvalidInputError, "threads"),
        (lambda: OperatorRequest("gemv", (2**30, 2**30)), DoesNotFitError, "memory"),
        (lambda: OperatorRequest("gemv", (2**20, 2**20), kernel="lut"), DoesNotFitError, "memory"),
        (lambda: OperatorRequest("gemv", (64, 256), kernel="lot"), UnknownNameError, "lut"),
        (lambda: OperatorRequest("gemv", (64, 256), batch=2, kernel="lut"), UnsupportedError, "one column"),
        (lambda: OperatorRequest("gemv", (64, 256), "q8_0", kernel="lut"), UnsupportedError, "bits"),
        (lambda: OperatorRequest("norm", (64,), "fp32", kernel="lut"), InvalidInputError, "one kernel"),
        (lambda: OperatorRequest("attention", (32, 32, 128, 2**30), "fp16"), DoesNotFitError, "memory"),
        (lambda: OperatorRequest("softmax", (2**31 - 1,), "fp32", batch=10**6), DoesNotFitError, "memory"),
    ],
)
def test_bad_requests_are_named(request_of: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        measure_operator(request_of(), QUICK)  # type: ignore[operator]


def test_shapes_as_users_write_them() -> None:
    assert parse_shape("14336x4096") == parse_shape(" 14336×4096 ") == parse_shape("14336*4096") == (14336, 4096)
    for bad in ("", "x", "4096x", "40 96", "-1x2", "1e3x2", "4096,4096"):
        with pytest.raises(InvalidInputError):
            parse_shape(bad)
    assert entry_of("gemv").format == "q4_k"
