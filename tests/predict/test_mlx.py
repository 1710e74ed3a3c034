"""MLX on Apple silicon: published runs that nothing was fitted on (`benchmarks/fit/engines.py`, `KEPT_APART`)."""

from __future__ import annotations

import numpy as np
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


def test_rows_of_quantised_products_cost_apiece_under_mlx() -> None:
    """Rapid-MLX, Qwen 27B in 4 bits on an M2 Pro: 11.64 tokens/s, 9.89 with three drafts of which 88 % are accepted."""
    asked = {
        "model": "qwen3.5-27b",
        "machine": "m2-pro-16c",
        "engine": "mlx",
        "precision": "int4",
        "prompt": 512,
        "output": 64,
    }
    plain, drafted = (
        1.0 / float(wl.run(wl.Scenario(**asked, batch=1, techniques=t)).result["itl_s"])  # type: ignore[arg-type]
        for t in (None, "mtp:tokens=3,acceptance=0.881")
    )
    assert plain == pytest.approx(11.64, rel=0.25) and drafted == pytest.approx(9.89, rel=0.3)
    assert drafted < 1.2 * plain
    batches = np.array([1, 2, 4, 8, 16, 32, 64, 128])
    steps = wl.run(wl.Scenario(**asked, batch=batches)).result["itl_s"]  # type: ignore[arg-type]
    assert np.all(np.diff(steps) >= 0) and 1.5 < steps[1] / steps[0] < 2.1 and steps[4] < 8 * steps[0]
    assert np.all(np.diff(steps / batches) <= 1e-9)  # a sequence more is never slower for all together


def test_prompts_take_longer_where_bfloat16_is_emulated():
    """M1 and M2 have no bfloat16, which MLX's checkpoints are in: 178 over 133 prompt tokens/s in float16 on an M2 Max (Rapid-MLX
    issue 3154). llama.cpp computes in float16 there."""

    def slower(engine, precision):
        emulating = wl.load_hardware("apple-m2-max-38c")
        native = emulating.with_(peak_flops={**emulating.peak_flops, "bf16": emulating.peak_flops["fp16"]})
        times = [
            wl.ServingModel().solve("llama-3.1-8b", d, 2048, 1, precision, output_len=2, engine=engine)
            for d in (emulating, native)
        ]
        return [float(times[0][name]) / float(times[1][name]) for name in ("ttft_s", "itl_s")]

    assert 1.25 < slower("mlx", "int4")[0] < 1.8
    assert slower("mlx", "int4")[1] == pytest.approx(1.0)
    assert slower("llama.cpp", "q4_k_m") == pytest.approx([1.0, 1.0])
