"""The models through their public doors: golden sizes, broadcasting of labels, units, provenance and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import waferline as wl
from waferline.predict.blocks import over_labels
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.search.frontier import pareto
from waferline.search.sweep import chunks, points_of, sweep
from waferline.units import quantity, to_si, unit_of

# model, precision -> weights in GB, KV cache bytes per token; from the published configurations
SIZES = [
    ("llama-3-8b", "bf16", 16.06, 131_072),
    ("llama-3-70b", "bf16", 141.1, 327_680),
    ("mixtral-8x7b", "bf16", 93.4, 131_072),
    ("deepseek-v3", "fp8", 673.0, 70_272),
    ("qwen3-0.6b", "bf16", 1.19, 114_688),
]


@pytest.mark.parametrize(("model", "precision", "gigabytes", "kv"), SIZES)
def test_sizes_follow_the_published_structure(model: str, precision: str, gigabytes: float, kv: int) -> None:
    r = wl.ServingModel().solve(model, "h200", 1024, 1, precision, output_len=0)  # whole pages
    assert float(r["weights_bytes"]) / 1e9 == pytest.approx(gigabytes, rel=0.01)
    assert float(r["kv_cache_bytes"]) / 1024 == pytest.approx(kv, rel=1e-6)


def test_speed_of_light_of_batch_one_decode_is_bytes_over_bandwidth() -> None:
    r = wl.ServingModel().solve("llama-3-8b", "h100", 1, 1, "bf16")
    read = 16.06e9 - 128256 * 4096 * 2  # the embedding table is looked up, not read
    assert float(r["light_itl_s"]) == pytest.approx(read / 3.35e12, rel=0.02)


def test_prefill_flops_are_twice_parameters_times_tokens() -> None:
    r = wl.ServingModel().solve("llama-3-8b", "h100", 2048, 1, "bf16")
    flops = sum(float(o.flops) for o in r.operators if o.phase == "prefill" and o.kind == "gemm")
    body = 8.03e9 - 2 * 128256 * 4096
    assert flops == pytest.approx(2 * body * 2048, rel=0.01)


def test_results_are_quantities_arrays_and_datasets() -> None:
    r = wl.ServingModel().solve("llama-3-8b", "h100", 2048, [1, 8, 64], "int4")
    assert r.itl.to("ms").magnitude.shape == (3,)
    assert r.ttft.check("[time]") and r.throughput.check("[token]/[time]")
    data = r.to_dataset()
    assert data["itl_s"].dims == ("batch_size",) and list(data["batch_size"].values) == [1, 8, 64]
    assert data["itl_s"].attrs["units"] == "second" and data.attrs["how"] == "predicted"
    assert "attention.core" in wl.ServingModel().solve("llama-3-8b", "h100", 2048).explain()
    with pytest.raises(wl.UnknownNameError, match="itl_s"):
        r["itl"]


def test_every_answer_names_sources_and_tiers() -> None:
    r = wl.ServingModel().solve("llama-3-8b", "h100", 2048)
    assert all(s["url"].startswith("http") and s["date"] for s in r.sources)
    assert {o.tier for o in r.operators} <= {"calibrated", "transferred", "spec only"}


@given(
    labels=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5),
    other=st.integers(1, 4),
    axis_last=st.booleans(),
)
def test_labels_split_and_join_in_order(labels: list[str], other: int, axis_last: bool) -> None:
    shape = (1, len(labels)) if axis_last else (len(labels), 1)
    names = np.array(labels).reshape(shape)
    x = np.arange(other, dtype=float).reshape((other, 1) if axis_last else (1, other))
    value = {"a": 1.0, "b": 2.0, "c": 3.0}
    out = over_labels(names, {"x": x}, lambda name, a: {"y": a["x"] * value[name], "z": np.asarray(value[name])})
    expected = x * np.vectorize(value.get)(names)
    assert np.array_equal(np.broadcast_to(out["y"], expected.shape), expected)
    assert np.array_equal(
        np.broadcast_to(out["z"], expected.shape), np.broadcast_to(np.vectorize(value.get)(names), expected.shape)
    )


@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.integers(1, 64), min_size=1, max_size=6, unique=True),
    lengths=st.lists(st.integers(1, 4096), min_size=1, max_size=6, unique=True),
    points=st.integers(1, 40),
)
def test_a_sweep_in_chunks_is_the_grid(batches: list[int], lengths: list[int], points: int) -> None:
    axes = {"precision": ["fp16", "int4"], "batch": batches, "prompt": lengths}
    parts = list(chunks(axes, points))
    assert all(np.prod(np.broadcast_shapes(*(v.shape for v in p.values()))) <= max(points, 1) for p in parts)
    asked = wl.Scenario(model="qwen3-0.6b", machine="l4")
    rows = list(sweep(asked, axes, ["itl_s"], points=points))
    itl = np.concatenate([r["itl_s"] for r in rows])
    assert itl.size == points_of(axes)
    whole = wl.run(replace(asked, **wl.grid(**axes))).result
    assert np.allclose(itl, np.broadcast_to(whole["itl_s"], whole.shape).ravel(), rtol=1e-9)


def test_pareto_keeps_what_nothing_beats() -> None:
    columns = {"cost": np.array([1.0, 2.0, 3.0, 2.5]), "speed": np.array([1.0, 3.0, 3.0, 2.0])}
    assert pareto(columns, least=["cost"], most=["speed"]).tolist() == [0, 1]


@given(st.floats(1e-12, 1e15))
def test_units_round_trip(value: float) -> None:
    for name, unit, other in (
        ("a_s", "second", "ms"),
        ("b_bytes", "byte", "GiB"),
        ("c_w", "watt", "kW"),
        ("d_usd", "usd", "usd"),
        ("samples_per_s", "sample/s", "sample/hour"),
        ("tokens_per_s", "token/s", "token/ms"),
        ("throughput_tokens_per_s", "token/s", "token/minute"),
    ):
        assert unit_of(name) == unit
        there = quantity(value, unit).to(other)
        assert float(to_si(name, there, unit)) == pytest.approx(value, rel=1e-12)
    assert float(to_si("x", "80 GB", "byte")) == 80e9
    with pytest.raises(wl.InvalidInputError, match="memory"):
        to_si("memory", "80 apples", "byte")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": [1, -2]}, "-2"),
        ({"batch_size": 1.5}, "whole"),
        ({"seq_len": float("nan")}, "seq_len"),
        ({"seq_len": float("inf")}, "seq_len"),
        ({"seq_len": "many"}, "seq_len"),
        ({"batch_size": []}, "empty"),
        ({"batch_size": [1, 2, 3], "seq_len": [1, 2]}, "broadcast"),
        ({"precision": "int5"}, "int5"),
        ({"precision": "w5a16"}, "w5a16"),
        ({"precision": "w=fp8,q=int4"}, "precision part"),
        ({"tp": 0}, "tp"),
        ({"engine": "vlm"}, "vllm"),
        ({"model": 3}, "model"),
        ({"hardware": None}, "hardware"),
    ],
)
def test_bad_arguments_raise_typed_errors(arguments: dict, words: str) -> None:
    given_arguments = {"model": "llama-3-8b", "hardware": "h100", "seq_len": 128} | arguments
    with pytest.raises(wl.WaferlineError, match=words):
        wl.ServingModel().solve(**given_arguments)


def test_compression_quotes_published_quality() -> None:
    eight, four = (wl.CompressionModel().solve("llama-3-8b", "h100", target_bitwidth=b) for b in (8, 4))
    assert eight.compression_ratio == pytest.approx(2) and four.compression_ratio == pytest.approx(3.85, abs=0.01)
    assert 0 > eight.estimated_accuracy_delta > four.estimated_accuracy_delta > -0.1
    assert four.memory_savings_pct == pytest.approx(74, abs=1)
    assert any("quality" in s["title"] for s in four.sources)
    pruned = wl.CompressionModel().solve("llama-3-8b", "h100", "pruning", sparsity=0.5)
    assert pruned.decode_speedup == pytest.approx(1)  # dense units do not skip zeros
    for bad in (
        {"target_bitwidth": 5},
        {"method": "pruning", "sparsity": 1.0},
        {"method": "distillation", "kept": 0},
        {"method": "magic"},
    ):
        with pytest.raises(wl.WaferlineError):
            wl.CompressionModel().solve("llama-3-8b", "h100", **bad)  # type: ignore[arg-type]


def test_training_counts_what_published_tables_count() -> None:
    r = wl.TrainingModel().solve("llama-2-7b", "h100", 4096, 64, 1, dp=8, recompute="full")
    assert 0 < r.causal_mfu < r.mfu < r.hfu < 1
    one = wl.TrainingModel().solve("llama-2-7b", "h100", 4096, 64, 1, dp=8, recompute="none")
    assert float(one["step_time_s"]) < float(r["step_time_s"])
    piped = wl.TrainingModel().solve("llama-2-70b", "a100", 2048, 64, 1, tp=4, pp=4, dp=2)
    assert float(piped["bubble_share"]) == pytest.approx(3 / (32 + 3))


def test_a_training_step_takes_the_framework_of_its_precision() -> None:
    """Nobody says which: 16 bits as LLM Foundry's published steps, fp8 as Megatron-Bridge's; the answer names it. In fp8 eight H100
    train Llama 3 8B at 14,451 tokens a second each (Megatron-Bridge 25.11, sequences of 8,192): in 16 bits at fewer."""
    rates = {}
    for precision, stack in (("bf16", "llm-foundry"), ("fp8", "megatron-bridge")):
        shape = {"devices": 8, "batch": 128, "prompt": 8192, "phase": "train"}
        result = run(Scenario(model="llama-3-8b", machine="h100", precision=precision, **shape)).result
        assert result.about["engine"] == stack
        assert float(result["causal_mfu"]) < float(result["mfu"]) < float(result["hfu"])
        rates[precision] = float(result["total_tokens_per_s"]) / 8
    assert rates["fp8"] == pytest.approx(14_451, rel=0.1) and rates["bf16"] < 0.8 * 14_451
