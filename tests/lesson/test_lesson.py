"""Code written for the package that the quantisation lesson was written for, with only the import changed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import waferline
from waferline import CompressionModel, Engine, ServingModel, SingleNodeModel, WeightStreamingModel
from waferline.show import banner, info, table

PRECISIONS = ("fp16", "int8", "int4")


def test_the_lesson_reads_speed_ups_of_decode_off_formatted_quantities() -> None:
    model, hardware = waferline.Models.Llama3_8B, waferline.Hardware.Cloud.H100
    rows = []
    for precision in PRECISIONS:
        r = ServingModel().solve(model=model, hardware=hardware, seq_len=2048, batch_size=1, precision=precision)
        rows.append((r.itl.to("ms").magnitude, f"{r.itl.to('ms'):>10.3f~}", f"{r.model_weights_size:>10.2f~}"))
    gains = [float(f"{rows[0][0] / itl:.1f}") for itl, *_ in rows]
    assert gains[0] == 1.0 and gains == sorted(gains) and 1.0 < gains[-1] < 4.0  # of a quarter of the bytes
    assert rows[0][2].split() == ["16.06", "GB"]  # 8.03 billion parameters of two bytes (Meta's model card)


def test_the_lesson_trains_resnet_and_compresses() -> None:
    hardware = waferline.Hardware.Cloud.A100
    for precision in PRECISIONS:
        p = SingleNodeModel().solve(
            model=waferline.Models.ResNet50, hardware=hardware, batch_size=256, precision=precision
        )
        assert f"{p.latency.to('ms'):>10.2f~}".endswith("ms")
        assert f"{p.throughput:>10.0f} img/s"
    sizes = []
    for bits in (16, 8, 4):
        c = CompressionModel().solve(
            model=waferline.Models.Llama3_8B, hardware=hardware, method="quantization", target_bitwidth=bits
        )
        sizes.append(c.compressed_size_gb.to("gigabyte").magnitude)
        assert f"{c.compressed_size_gb:>12.2f~}".endswith("GB")
        assert f"{c.compression_ratio:>11.1f}x {c.estimated_accuracy_delta:>+11.1%} {c.memory_savings_pct:>9.1f}%"
        assert c.original_size_gb.to("gigabyte").magnitude == pytest.approx(16.06, rel=1e-3)
    assert sizes == sorted(sizes, reverse=True)


def test_sixteen_bits_lose_nothing_and_no_sparsity_is_better_than_a_lower_one() -> None:
    def change(**asked: object) -> float:
        answer = CompressionModel().solve("llama-3-8b", "h100", **asked)  # type: ignore[arg-type]
        assert answer.about["quality_metric"] == "perplexity"
        return float(answer.estimated_accuracy_delta)

    assert f"{change(target_bitwidth=16):+.1%}" == "+0.0%"
    losses = [change(method="pruning", sparsity=s) for s in np.linspace(0.0, 0.95, 20)]
    assert losses[0] == 0.0
    assert all(b <= a for a, b in pairwise(losses))
    beyond = CompressionModel().solve("llama-3-8b", "h100", "pruning", sparsity=0.9)
    assert any("nobody published beyond 0.7" in note for note in beyond.notes)


def test_pruning_by_half_loses_what_was_published_of_it() -> None:
    """Wanda, WikiText: LLaMA-2 7B 5.12 -> 6.42; LLaMA 7B 5.68 -> 85.77 at 70 % (OWL's table)."""
    half = CompressionModel().solve("llama-2-7b", "h100", "pruning", sparsity=0.5)
    assert float(half["accuracy_delta_low"]) <= -(6.42 / 5.12 - 1) <= float(half["accuracy_delta_high"])
    most = CompressionModel().solve("llama-2-7b", "h100", "pruning", sparsity=0.7)
    assert float(most["accuracy_delta_low"]) <= -(85.77 / 5.68 - 1) * (1 - 1e-9)


def test_result_names_of_the_lesson_are_there() -> None:
    serving = ServingModel().solve("llama-3-70b", "h100", 2048, 1, "fp16", tp=4)
    assert serving.total_memory_required.to("gigabyte").magnitude > 141  # its weights alone
    assert serving.constraint_trace[0].startswith("memory: ")
    assert "fits" in serving.constraint_trace[0]
    single = Engine.solve("resnet-50", "a100", batch_size=8)
    parts = [getattr(single, f"latency_{part}").to("s").magnitude for part in ("compute", "memory", "overhead")]
    assert 0 < max(parts) <= single.latency.to("s").magnitude
    assert CompressionModel().solve("llama-3-8b", "h100", target_bitwidth=4).inference_speedup > 1
    wafer = WeightStreamingModel().solve("gpt-3-175b", waferline.Hardware.Cloud.Cerebras_CS3, 2048, 1)
    for name in ("layer_compute_time", "layer_injection_time"):
        assert getattr(wafer, name).to("ms").magnitude > 0
    assert f"{wafer.throughput_tokens_per_sec:.0f} tokens/s {wafer.wafer_memory_utilization:.1%}"


def test_a_textbook_efficiency_is_arithmetic_at_that_share_of_peak() -> None:
    """ResNet-50: 4.1 GMAC an image (He et al. 2016 count 3.8 for the first version), so 256 images at half of 312 TFLOP/s."""
    half, full = (Engine.solve("resnet-50", "a100", 256, efficiency=e) for e in (0.5, 1.0))
    by_hand = 2 * 4.09e9 * 256 / (0.5 * 312e12)
    assert half.latency.to("s").magnitude >= by_hand * 0.98
    assert full["latency_s"] >= full["light_latency_s"]
    assert half["latency_s"] > full["latency_s"]
    for bad in (0.0, 1.5, "half", True):
        with pytest.raises(waferline.InvalidInputError, match="efficiency"):
            Engine.solve("resnet-50", "a100", 256, efficiency=bad)


def test_names_as_lessons_write_them() -> None:
    assert waferline.Models.Language.GPT3.name == waferline.Models.GPT3.name
    assert waferline.Models.Vision.ResNet50.name == "resnet-50"
    assert waferline.Hardware.H100 == waferline.Hardware.Cloud.H100
    with pytest.raises(AttributeError, match="H1000"):
        _ = waferline.Hardware.Cloud.H1000


def test_tables_blocks_and_banners_print(capsys: pytest.CaptureFixture[str]) -> None:
    table(["GPU", "TTFT (ms)", "Speed"], [["A100", 12.3, "1.0x"], ["H100", 6.1, "2.0x"]])
    result = ServingModel().solve("llama-3-8b", "h100", 2048)
    info("Memory", KV_cache=result.kv_cache_size, Share=f"{result.memory_utilization:.1%}")
    info(result)
    banner("Node")
    table(["model", "itl_s"], [result])
    out = capsys.readouterr().out
    assert "A100" in out
    assert "KV cache:" in out
    assert "0.2684 GB" in out  # 2,048 tokens x 32 layers x 2 x 8 heads x 128 x 2 bytes
    assert "=== Node ===" in out
    for bad in ([["one"]], [object()]):
        with pytest.raises(waferline.InvalidInputError):
            table(["a", "b"], bad)


def test_the_difference_of_two_answers_adds_up() -> None:
    a, b = (ServingModel().solve("llama-3-8b", name, 2048) for name in ("a100", "h100"))
    rows = waferline.explain(a, b)
    for phase, total in (("prefill", "ttft_s"), ("decode", "itl_s")):
        parts = sum(r.difference_s for r in rows if r.phase == phase)
        assert parts == pytest.approx(float(a[total] - b[total]), rel=1e-9)
    with pytest.raises(waferline.InvalidInputError, match="no phase in common"):
        waferline.explain(a, Engine.solve("resnet-50", "a100"))


def test_what_binds_a_pass_and_what_a_pass_needs_are_read_off_the_roofline() -> None:
    hardware, model = waferline.Hardware.Cloud.A100, waferline.Models.Llama3_8B
    told = waferline.SensitivitySolver().solve(model=model, hardware=hardware, precision="fp16", perturbation_pct=10.0)
    assert told.binding_constraint in told.sensitivities and told.sensitivities["memory_capacity"] == 0.0
    assert all(-0.1 <= change <= 0.0 for change in told.sensitivities.values())
    need = waferline.SynthesisSolver().solve(model=model, target_latency="10 ms", precision="fp16", efficiency=0.5)
    assert need.required_memory.to("GB").magnitude == pytest.approx(
        16.06, rel=1e-3
    )  # Meta's model card: 8.03 billion of two bytes
    assert need.required_bw.to("GB/s").magnitude == pytest.approx(1606, rel=1e-3)
    ratio = need.required_flops.to_base_units() / need.required_bw.to_base_units()
    assert ratio.magnitude == pytest.approx(need.compute_memory_ratio.to_base_units().magnitude)


def test_lessons_read_machines_and_models_as_quantities() -> None:
    """NVIDIA's sheet: A100 312 TFLOP/s and 2,039 GB/s; Meta's card: Llama 3 8B has 32 layers, 32 heads, 8 of keys and values."""
    hardware, model = waferline.Hardware.Cloud.A100, waferline.Models.Language.Llama3_8B
    flops, bandwidth = hardware.compute.peak_flops.to("TFLOPs/s"), hardware.memory.bandwidth.to("TB/s")
    assert flops.magnitude == pytest.approx(312.0) and bandwidth.magnitude == pytest.approx(2.039)
    assert hardware.compute.precision_flops["int8"].to("TFLOP/s").magnitude == pytest.approx(624.0)
    assert hardware.memory_capacity == hardware.memory.capacity
    assert 80.0 <= hardware.memory.capacity.to("GB").magnitude <= 86.0
    assert (model.layers, model.hidden_dim, model.heads, model.kv_heads) == (32, 4096, 32, 8)
    assert f"{model.parameters.to('Gparam'):.0f}".startswith("8 ")
    for size, gigabytes in (("2 byte", 16.06), (waferline.ureg("1 byte"), 8.03), ("0.5 byte", 4.015)):
        assert model.size_in_bytes(precision=size).to("GB").magnitude == pytest.approx(gigabytes, rel=1e-3)
    assert waferline.Models.ResNet50.parameters.to("Mparam").magnitude == pytest.approx(25.6, rel=0.01)
    assert waferline.Q_("500 KB").to("byte").magnitude == 500e3


def test_lessons_import_models_from_a_module_of_their_own() -> None:
    from waferline.solvers import CompressionModel as same
    from waferline.solvers import TailLatencyModel

    assert same is CompressionModel and TailLatencyModel is waferline.TailLatencyModel
    with pytest.raises(ImportError):
        from waferline.solvers import NoSuchModel  # type: ignore[attr-defined]  # noqa: F401


def test_lessons_ask_for_drafts_training_and_zeros_by_their_own_names() -> None:
    target, draft = waferline.Models.Llama3_70B, waferline.Models.Llama3_8B
    asked = {"seq_len": 2048, "batch_size": 1, "tp": 4}
    plain = ServingModel().solve(target, "h100", **asked)
    drafted = ServingModel().solve(target, "h100", **asked, draft_model=draft, draft_acceptance_rate=0.75)
    same = ServingModel().solve(target, "h100", **asked, techniques="speculative:draft=llama-3-8b,acceptance=0.75")
    assert float(drafted["itl_s"]) == float(same["itl_s"]) < float(plain["itl_s"])
    for bad in ({"draft_acceptance_rate": 0.5}, {"draft_model": draft, "techniques": "eagle"}):
        with pytest.raises(waferline.InvalidInputError):
            ServingModel().solve(target, "h100", **asked, **bad)
    train = Engine.solve("resnet-50", "a100", 32, is_training=True)
    assert float(train["latency_s"]) == float(
        SingleNodeModel().solve("resnet-50", "a100", 32, phase="train")["latency_s"]
    )
    assert train.memory_footprint == train.memory
    thought = waferline.InferenceScalingModel().solve("llama-3-8b", "h100", reasoning_steps=[0, 8])
    assert (
        thought["total_s"][0] == pytest.approx(float(np.ravel(thought["ttft_s"])[0]))
        and thought["tokens_generated"][0] == 0
    )
    assert thought["total_s"][1] > thought["total_s"][0] > 0 and 0 < thought["energy_j"][0] < thought["energy_j"][1]
    zeros = [
        CompressionModel().solve("llama-3-8b", "h100", "pruning", sparsity=0.5, sparsity_type=kind).inference_speedup
        for kind in ("unstructured", "n_m")
    ]
    assert zeros[0] == 1.0 < zeros[1]
    with pytest.raises(waferline.InvalidInputError, match="sparsity_type"):
        CompressionModel().solve("llama-3-8b", "h100", target_bitwidth=4, sparsity_type="n_m")
