"""Weight streaming: the published equations, what bounds a pass, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.machines.hardware import load_hardware
from waferline.predict.wafer.streaming import WeightStreamingModel

STREAM = WeightStreamingModel()


def test_break_even_of_a_dense_fp16_model(models, cs3):
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048, efficiency=0.5)
    by_hand = cs3.peak("fp16") * 0.5 * 2 / (2 * 150e9)
    assert result["break_even_tokens"] == pytest.approx(by_hand, rel=1e-9)
    assert result["break_even_tokens"] == pytest.approx(53e3, rel=0.01)


def test_bottleneck_turns_at_the_break_even_point(models, cs3):
    batch = np.arange(1, 80)
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048, batch, phase="prefill")
    first = batch[np.argmax(result["bottleneck"] == "compute")]
    assert first == result["optimal_batch_size"][0]
    assert (result["bottleneck"][: first - 1] == "interconnect").all()


def test_streaming_decodes_unless_asked_otherwise_and_takes_a_second_for_70b(models, cs3):
    result = STREAM.solve(models["llama-3-70b"], cs3, 2048)
    assert result.about["phase"] == "decode"
    weights = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672) * 2 + 8192 * 128256 * 2
    assert result["pass_s"] == pytest.approx(weights / 150e9, rel=0.05)
    assert result.throughput.magnitude < 1.2
    assert result.bottleneck == "interconnect"


def test_pass_is_fill_plus_the_longer_of_injection_and_compute(models, cs3):
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048, 64, phase="prefill")
    rows = {row["layer"]: row for row in result.trace}
    fill = result["pass_s"] - sum(row["time_s"] for row in rows.values())
    layer_s = rows["layer"]["bytes"] / rows["layer"]["count"] / 150e9
    assert fill == pytest.approx(layer_s, rel=0.01)  # the link's latency is the rest
    assert rows["layer"]["time_s"] == pytest.approx(rows["layer"]["flops"] / (cs3.peak("fp16") * 0.5))


def test_hiding_the_stream_and_fitting_are_two_batches(models, cs3):
    """A decode step hides 16-bit weights of a dense model at T* sequences, which its KV cache keeps far out of reach."""
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048)
    # attention's arithmetic hides part of the stream, too, so that fewer sequences do
    assert 0.5 * result["break_even_tokens"] < result["break_even_batch_size"] <= result["break_even_tokens"] * 1.01
    assert result["optimal_batch_size"] == result["max_batch_size"] < 200


def test_machines_that_stream_no_weights_are_refused(models):
    for name in ("h100", "m2-ultra", "ryzen-7950x"):
        with pytest.raises(UnsupportedError, match="streams none"):
            STREAM.solve(models["llama-3-8b"], name, 2048)


def test_systems_multiply_throughput_and_pay_only_tree_hops(models, cs3):
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048, 64, phase="prefill", systems=[1, 4, 16, 64])
    per_system = result["throughput_tokens_per_s"] / [1, 4, 16, 64]
    assert per_system == pytest.approx(np.full(4, per_system[0]), rel=1e-3)
    hops = np.diff(result["pass_s"])
    assert hops == pytest.approx(np.full(3, hops[0])) and hops[0] > 0


def test_training_moves_weights_twice_and_computes_three_times(models, cs3):
    prefill, train = (STREAM.solve(models["llama-3-8b"], cs3, 2048, 40, phase=p) for p in ("prefill", "train"))
    assert train["layer_compute_s"] == pytest.approx(3 * prefill["layer_compute_s"])
    assert train["layer_injection_s"] == pytest.approx(2 * prefill["layer_injection_s"])
    assert train["max_batch_size"] < prefill["max_batch_size"]


def test_what_does_not_fit_is_infeasible_and_has_no_rate(models, cs3):
    result = STREAM.solve(models["llama-3-8b"], cs3, 2048, [1, 10_000])
    assert result["feasible"].tolist() == [True, False]
    assert np.isfinite(result["throughput_tokens_per_s"][0]) and np.isnan(result["throughput_tokens_per_s"][1])
    assert result["sram_utilization"][1] > 1


def test_the_largest_batch_that_fits_fits_and_one_more_does_not(models, cs3):
    most = STREAM.solve(models["llama-3-8b"], cs3, 2048)["max_batch_size"]
    assert STREAM.solve(models["llama-3-8b"], cs3, 2048, [most, most + 1])["feasible"].tolist() == [True, False]


def test_all_experts_are_streamed_however_few_tokens_run(moe, cs3):
    row = STREAM.solve(moe, cs3, 1, phase="decode").trace[0]
    experts = 24 * 32 * 3 * 2880 * 2880 * 2
    assert row["bytes"] > experts


@settings(max_examples=30, deadline=None)
@given(
    batch=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    length=st.integers(1, 8192),
    efficiency=st.floats(0.05, 1.0),
    phase=st.sampled_from(["prefill", "decode", "train"]),
)
def test_arrays_answer_as_scalars_do_and_light_is_never_beaten(batch, length, efficiency, phase):
    from conftest import MODELS

    cs3 = load_hardware("cs3")
    many = STREAM.solve(MODELS["llama-3-8b"], cs3, length, batch, efficiency=efficiency, phase=phase)
    assert (many["light_pass_s"] <= many["pass_s"]).all()
    for i, one in enumerate(batch):
        single = STREAM.solve(MODELS["llama-3-8b"], cs3, length, one, efficiency=efficiency, phase=phase)
        for name in ("pass_s", "sram_utilization", "optimal_batch_size", "break_even_tokens"):
            assert np.broadcast_to(many[name], len(batch))[i] == pytest.approx(single[name])


def test_chunks_do_not_show(models, cs3):
    batch = np.tile([1, 16, 64], 20_000)
    many = STREAM.solve(models["llama-3-8b"], cs3, 2048, batch)
    few = STREAM.solve(models["llama-3-8b"], cs3, 2048, [1, 16, 64])
    assert (many["throughput_tokens_per_s"].reshape(-1, 3) == few["throughput_tokens_per_s"]).all()
    assert many.to_dataset()["pass_s"].attrs["units"] == "second"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"seq_len": 0}, InvalidInputError, "seq_len"),
        ({"efficiency": 1.5}, InvalidInputError, "efficiency"),
        ({"phase": "dream"}, InvalidInputError, "prefill, decode, train"),
        ({"batch_size": 1.5}, InvalidInputError, "batch_size"),
        ({"precision": "fp8"}, UnsupportedError, "fp8"),
        ({"systems": 10_000}, InvalidInputError, "2048"),
    ],
)
def test_bad_input_is_refused_by_name(models, cs3, arguments, error, text):
    with pytest.raises(error, match=text):
        STREAM.solve(models["llama-3-8b"], cs3, **{"seq_len": 128, **arguments})
