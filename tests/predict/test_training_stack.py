"""What training frameworks do beside their operators: hosts that issue them, attention's kernels, what is computed again."""

from __future__ import annotations

import numpy as np
import pytest

import waferline as wl
from waferline.machines.hardware import load_hardware
from waferline.predict.training import TrainingModel
from waferline.predict.training_stack import Stack, get_stack, usual_recompute

ISSUE = 1e-4  # seconds an operator


def step(
    stack: Stack | str, model: str = "llama-3-8b", machine: str = "h100", seq_len: object = 2048, **asked: object
) -> float:
    options = {"dp": 8, "recompute": "none", **asked}
    result = TrainingModel().solve(model, machine, seq_len, 64, options.pop("micro_batch", 1), stack=stack, **options)  # type: ignore[arg-type]
    assert (result["light_step_time_s"] <= result["step_time_s"]).all()
    return float(np.max(result["step_time_s"]))


def test_a_host_issues_operators_beside_the_device() -> None:
    """No pass takes less than its host, nor more than both one after the other; experts are issued one by one."""
    for model, ep in (("llama-3-8b", 1), ("qwen3-30b-a3b", 8)):
        alone, hosted, host = (
            step(Stack("x", issue_s=s, operators=f), model, ep=ep) for s, f in ((0, 1), (ISSUE, 1), (ISSUE, 1e-6))
        )
        assert max(alone, 0.99 * host) <= hosted < alone + host
    slower = [step(Stack("x", issue_s=ISSUE), "qwen3-30b-a3b", ep=8, micro_batch=m) for m in (1, 8)]
    assert slower[0] > 1.5 * slower[1]  # the same tokens in eight times the passes


def test_scores_in_memory_cost_what_they_move() -> None:
    fused, whole = (step(Stack("x", kernel=k), machine="a100") for k in ("", "whole"))
    assert whole > 1.2 * fused
    longer = [step(Stack("x", kernel=k), machine="a100", seq_len=4096) for k in ("", "whole")]
    assert longer[1] - longer[0] > 2.0 * (whole - fused)  # quadratic


def test_kernels_of_an_earlier_generation_are_slower_where_they_are_named() -> None:
    for machine, slower in (("h100", True), ("a100", False)):
        fused, earlier = (step(Stack("x", kernel=k), machine=machine) for k in ("", "flash-2"))
        assert (earlier > fused) == slower


def test_a_stack_without_its_factors_keeps_its_kernels_and_its_host() -> None:
    device = load_hardware("a100")
    fitted, bare = (get_stack("llm-foundry", device, 16.0, fitted=f) for f in (True, False))
    assert (bare.operators, bare.attention) == (1.0, 1.0) and fitted.operators > 1.0
    assert bare.kernel == fitted.kernel == "flash-2" and bare.issue_s == fitted.issue_s > 0.0
    assert usual_recompute("torchtitan") == "half" and usual_recompute("nobody") == ""


def test_the_usual_framework_follows_the_format() -> None:
    names = {
        p: TrainingModel().solve("llama-3-8b", "b300", 2048, 8, precision=p).about["engine"]
        for p in ("bf16", "fp8", "mxfp8", "nvfp4")
    }
    assert names == {
        "bf16": "llm-foundry",
        "fp8": "megatron-bridge",
        "mxfp8": "megatron-bridge",
        "nvfp4": "megatron-bridge",
    }


def test_hardware_utilisation_adds_what_is_computed_again_and_nothing_else() -> None:
    """Replicas that have no sequence do nothing: one sequence on eight of them is counted once."""
    for batch in (1, 64):
        ratio = {
            mode: float(r["hfu"] / r["mfu"])
            for mode in ("none", "half", "full")
            for r in [wl.TrainingModel().solve("llama-3-8b", "h100", 2048, batch, 1, dp=8, recompute=mode)]
        }
        assert ratio["none"] == pytest.approx(1.0) and ratio["full"] == pytest.approx(4.0 / 3.0)
        assert 1.0 < ratio["half"] < 7.0 / 6.0


def test_what_is_multiplied_arrives_in_its_format() -> None:
    """Nothing is quantised at the door of a product: half the bits are faster, however narrow the model is."""
    for model in ("bert-large", "llama-3-8b"):
        wide, narrow = (step("none", model, precision=p, seq_len=512, micro_batch=8) for p in ("bf16", "fp8"))
        assert narrow < wide


def test_a_stack_broadcasts_as_it_loops() -> None:
    lengths = np.array([1024, 2048, 8192])
    for stack in ("megatron-lm", "torchtitan"):
        many = TrainingModel().solve("llama-3-8b", "a100", lengths, 64, 1, dp=8, stack=stack)
        for i, length in enumerate(lengths):
            one = TrainingModel().solve("llama-3-8b", "a100", int(length), 64, 1, dp=8, stack=stack)
            for name in many.values:
                assert np.broadcast_to(many[name], lengths.shape)[i] == one[name]
