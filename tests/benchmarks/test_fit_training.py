"""What frameworks of one library lend one another."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.fit.training import Sample, around, entry, lent_to


def steps(stack: str, slower: float, models: int = 3) -> list[Sample]:
    """Steps whose operators take `slower` times as long as measured alone."""
    return [
        Sample(stack, "hopper", f"{stack}-{i}", slower * (1.0 + i) + 0.1, 0.1, 1.0 + i, 0.0, 0.0) for i in range(models)
    ]


def test_a_framework_borrows_from_those_of_its_library() -> None:
    by_stack = {
        "torchtitan": steps("torchtitan", 1.4),
        "llm-foundry": steps("llm-foundry", 1.2),
        "oneflow": steps("oneflow", 3),
    }
    assert 1.05 < lent_to("torchtitan", by_stack) <= 1.2  # the others alone, drawn towards 1
    assert lent_to("oneflow", by_stack) == lent_to("megatron-bridge", by_stack) == 1.0


def test_factors_stand_only_where_models_left_out_are_better_for_them() -> None:
    alike = entry(steps("torchtitan", 1.5), 1.2)
    assert float(str(alike["operators"])) > 1.3
    one = entry(steps("torchtitan", 1.5, models=1), 1.2)
    assert (one["operators"], one["attention"]) == (1.2, 1.0)
    assert one["apart"] == {"median": one["median_error"], "p90": one["p90_error"]}
    assert float(str(one["median_error"])) == pytest.approx(1.0 - 1.3 / 1.6, rel=0.01)


def test_a_prediction_lies_in_its_interval() -> None:
    low, lower, upper, high = around(np.array([-0.3, -0.2, -0.1]))  # all measured slower
    assert low == lower == 0.0 < upper < high
