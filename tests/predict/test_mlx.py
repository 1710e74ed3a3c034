"""MLX on Apple silicon: published runs that nothing was fitted on (`benchmarks/fit/engines.py`, `_KEPT_APART`)."""

from __future__ import annotations

import pytest

import waferline as wl

FOUR_BITS = "w=int4_g64_affine,a=bf16,head=int4_g64_affine"
SIX_BITS = "w=int6_g64_affine,a=bf16,head=int6_g64_affine"


@pytest.mark.parametrize(
    ("model", "machine", "precision", "tokens_per_s"),
    [
        ("llama-3.1-8b", "apple-m3-ultra-60c", FOUR_BITS, 119.4),
        ("qwen3-0.6b", "apple-m3-ultra-60c", FOUR_BITS, 387.6),
        ("qwen2.5-72b", "apple-m4-max-40c", SIX_BITS, 7.92),
        ("gemma-3-1b", "apple-m3-ultra-60c", FOUR_BITS, 257.7),
        ("qwen3.6-35b-a3b", "apple-m2-max-30c", FOUR_BITS, 79.8),
    ],
)
def test_published_speeds_lie_in_the_interval(model: str, machine: str, precision: str, tokens_per_s: float) -> None:
    result = wl.ServingModel().solve(model, machine, 128, 1, precision, output_len=128, engine="mlx")
    assert result["itl_low90_s"] <= 1 / tokens_per_s <= result["itl_high90_s"]


def test_a_checkpoint_of_mlx_runs_on_mlx() -> None:
    answer = wl.run(wl.Scenario(model="mlx-community/Llama-3.1-8B-4bit", machine="m3-ultra"))
    assert answer.result.about["engine"] == "mlx"
