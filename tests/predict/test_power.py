"""Power of GPUs against measured runs: ML.ENERGY Benchmark v3, vLLM 0.11.1, steady serving (NVML energy counters)."""

import pytest

import waferline as wl

# machine, model, precision, tp, running sequences, output tokens, measured watts of a device
MEASURED = [
    ("nvidia-h100-sxm-80gb", "qwen3-8b", "bf16", 1, 32, 900, 0.68 * 700),
    ("nvidia-h100-sxm-80gb", "llama-3.1-70b", "bf16", 4, 96, 600, 0.75 * 700),
    ("nvidia-b200-sxm", "llama-3.1-70b", "bf16", 2, 8, 600, 0.85 * 1000),
    ("nvidia-b200-sxm", "llama-3.1-405b", "fp8", 4, 64, 600, 0.92 * 1000),
]


@pytest.mark.parametrize(("machine", "model", "precision", "tp", "batch", "output", "watts"), MEASURED)
def test_decode_power_is_near_what_counters_read(machine, model, precision, tp, batch, output, watts):
    r = wl.run(wl.Scenario(model=model, machine=machine, precision=precision, tp=tp, batch=batch, prompt=400,
                           output=output, engine="vllm")).result  # fmt: skip
    assert float(r["decode_power_w"]) / tp == pytest.approx(watts, rel=0.2)


def test_power_rises_with_batch_and_never_passes_the_limit():
    r = wl.run(wl.Scenario(model="llama-3.1-8b", machine="h100", batch=[1, 8, 64, 512], prompt=512, output=256)).result
    watts = r["decode_power_w"]
    assert (watts[1:] > watts[:-1]).all() and (watts < 700).all()


def test_power_and_energy_say_how_far_they_may_be_off():
    r = wl.run(wl.Scenario(model="qwen3-8b", machine="h100", batch=32, prompt=400, output=900, engine="vllm")).result
    assert r["decode_power_low90_w"] < 0.68 * 700 < r["decode_power_high90_w"] <= 700
    assert r["energy_low90_j_per_token"] < 0.163282 < r["energy_high90_j_per_token"]
    # A machine whose shares are assumed is known less well than one that was measured.
    npu = wl.run(wl.Scenario(model="qwen3-8b", machine="gaudi-2", batch=1, prompt=400, output=90)).result
    assert npu["decode_power_low90_w"] / npu["decode_power_w"] < r["decode_power_low90_w"] / r["decode_power_w"]
