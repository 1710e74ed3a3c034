"""The figures of plan quality: one for a perfect ranking, and what a wrong one loses."""

import pytest
from benchmarks.plan_quality import quality

from waferline.evidence.outcome import Outcome
from waferline.evidence.rows import Row


def outcomes(predicted: list[float]) -> list[Outcome]:
    found = []
    for metric in ("output_tokens_per_s", "tpot_s"):
        for n, value in enumerate(predicted):
            row = Row(id=f"{metric}{n}", hardware="h100", model="m", phase="serve", metric=metric, value=float(n + 1),
                      devices=1.0, engine="vllm", batch=float(n + 1))  # fmt: skip
            found.append(Outcome(row=row, predicted=value))
    return found


def test_right_and_reversed_rankings():
    right, reversed_ = quality(outcomes([2.0, 4.0, 6.0, 8.0])), quality(outcomes([8.0, 6.0, 4.0, 2.0]))
    assert right["share_of_best_median"] == right["tpot_kendall_tau_median"] == 1.0
    assert reversed_["share_of_best_median"] == pytest.approx(1 / 4) and reversed_["tpot_kendall_tau_median"] == -1.0
