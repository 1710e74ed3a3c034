"""Published quality after compression: the rows are sound, and estimates are their medians and ranges."""

import math

import pytest

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError
from waferline.predict.quality import accuracy_delta, quality_rows


def test_every_row_says_what_where_and_how_much() -> None:
    rows = quality_rows()
    assert len(rows) >= 40
    for row in rows:
        assert row.source.startswith("https://") and row.table and row.dataset and row.model
        assert sum(v is not None for v in (row.bits, row.sparsity, row.kept)) == 1
        assert row.bits is None or 1 < row.bits <= 16
        assert all(v is None or 0 < v < 1 for v in (row.sparsity, row.kept))
        assert math.isfinite(row.loss) and row.loss > -0.05  # nothing compressed is much better than its original


# hand-computed from the published tables
GOLDEN = [
    ("wanda", {"sparsity": 0.5, "model_params": 70e9}, 3.98 / 3.12 - 1, 5.16 / 3.12 - 1),
    ("q4_k_m", {"model_params": 70e9}, 3.4725 / 3.4313 - 1, 3.4725 / 3.4313 - 1),
    ("smoothquant", {"bits": 8, "model_params": 1.3e9}, 12.50 / 12.47 - 1, 14.82 / 14.62 - 1),
    ("awq", {"bits": 4, "model_params": 70e9}, 3.41 / 3.32 - 1, 3.41 / 3.32 - 1),
    ("fp8", {"model_params": 8e9}, (68.71 - 68.22) / 68.71, (68.71 - 68.22) / 68.71),
    ("gradual-magnitude", {"sparsity": 0.75}, (78.1 - 76.1) / 78.1, (26.77 - 26.86) / 26.77),
]


@pytest.mark.parametrize(("method", "asked", "low", "high"), GOLDEN[:5])
def test_golden_ranges(method: str, asked: dict[str, float], low: float, high: float) -> None:
    estimate = accuracy_delta(method, **asked)  # type: ignore[arg-type]
    assert estimate.low == pytest.approx(low) and estimate.high == pytest.approx(high)
    assert estimate.low <= estimate.median <= estimate.high and estimate.sources


def test_fewer_bits_and_blunter_methods_lose_more() -> None:
    by_bits = [accuracy_delta("k-quant", bits=b, model_params=8e9).median for b in (6.57, 5.6, 4.7, 3.7)]
    assert by_bits == sorted(by_bits)
    by_method = [accuracy_delta(m, sparsity=0.5, model_params=7e9).median for m in ("wanda", "magnitude")]
    assert by_method == sorted(by_method)


def test_perplexity_and_accuracy_are_never_mixed() -> None:
    perplexity, accuracy = (accuracy_delta("distillation", kept=0.6, metric=m) for m in ("perplexity", "accuracy"))  # type: ignore[arg-type]
    assert {r.metric for r in perplexity.rows} == {"perplexity"} and {r.metric for r in accuracy.rows} == {"accuracy"}
    assert accuracy.low == pytest.approx(1 - 75.9 / 78.2)


def test_a_size_nobody_measured_is_said_in_a_note() -> None:
    assert accuracy_delta("wanda", sparsity=0.5, model_params=7e9).note is None
    assert "all sizes" in (accuracy_delta("wanda", sparsity=0.5, model_params=1e12).note or "")


def test_what_was_not_published_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="near 6 bits"):
        accuracy_delta("gptq", bits=6)
    with pytest.raises(UnsupportedError, match=r"near 0\.9 sparsity"):
        accuracy_delta("wanda", sparsity=0.9)
    with pytest.raises(UnsupportedError, match="do not say their kept"):
        accuracy_delta("wanda", kept=0.5)
    with pytest.raises(UnsupportedError, match="no published accuracy"):
        accuracy_delta("awq", bits=4, metric="accuracy")
    with pytest.raises(UnknownNameError, match="did you mean"):
        accuracy_delta("gptqq", bits=4)
    with pytest.raises(InvalidInputError, match="say which"):
        accuracy_delta("rtn")
    with pytest.raises(InvalidInputError, match="one of"):
        accuracy_delta("wanda", bits=4, sparsity=0.5)
    with pytest.raises(InvalidInputError, match="positive"):
        accuracy_delta("wanda", sparsity=0.5, model_params=-1)
