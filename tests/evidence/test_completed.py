"""Rows that the scripts of their source complete, and what slices cost."""

from __future__ import annotations

import pytest

import waferline as wl
from waferline.evidence.check import check
from waferline.evidence.rows import Row
from waferline.evidence.scenario_training import completed

ROW = Row(
    id="a", hardware="google-tpu-v4", model="maxtext-22b", phase="train", metric="mfu", value=0.532, kind="claimed", devices=512,
    source="MaxText high-performance config tables", weight_format="bf16", activation_format="bf16", tp=1, pp=1, ep=1, dp=512,
    engine="MaxText", notes="parallelism: 8 slice(s) of v4-128",
)  # fmt: skip


def test_a_row_is_completed_by_the_script_that_its_source_links() -> None:
    full = completed(ROW)
    assert full.batch == 15 * 512
    assert full.input_tokens == 2048
    (outcome,) = check([ROW]).outcomes
    assert outcome.predicted == pytest.approx(0.532, rel=0.05)  # TPU v4: slices were fitted on v5e


def test_slices_cost_what_the_tables_of_maxtext_print() -> None:
    """MFU of the 22B model falls from 0.567 on one slice to 0.532 on eight (TPU v4)."""

    def mfu(slices: int) -> float:
        r = wl.TrainingModel().solve(
            "maxtext-22b",
            "tpu-v4",
            2048,
            15 * 64 * slices,
            15,
            dp=64 * slices,
            slices=slices,
            sharding="fsdp",
            recompute="full",
        )
        return float(r["mfu"])

    assert mfu(8) / mfu(1) == pytest.approx(0.532 / 0.567, rel=0.01)
    with pytest.raises(wl.InvalidInputError, match="slices must divide dp"):
        wl.TrainingModel().solve("maxtext-22b", "tpu-v4", 2048, 960, 15, dp=64, slices=3)
