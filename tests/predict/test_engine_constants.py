"""Engines: generations, vendors, and laws of what they make of an operator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import waferline as wl
from waferline.errors import UnknownNameError
from waferline.predict.efficiency import coefficients
from waferline.predict.engine import Engine, engine_names, get_engine

seconds = st.floats(1e-7, 1.0)


@given(
    engine=st.sampled_from(engine_names()),
    kind=st.sampled_from(["gemm", "decode_attention", "collective", "norm"]),
    light=seconds,
    above=st.floats(1.0, 50.0),
    decode=st.booleans(),
)
def test_no_engine_beats_light(engine: str, kind: str, light: float, above: float, decode: bool) -> None:
    inside = get_engine(engine).operator_s(kind, np.asarray(light * above), np.asarray(light), decode=decode)
    assert inside >= light


@given(engine=st.sampled_from(engine_names()), sequences=st.integers(0, 4096), more=st.integers(0, 4096))
def test_host_time_never_falls_with_sequences(engine: str, sequences: int, more: int) -> None:
    e = get_engine(engine)
    host = [
        float(e.host_s(layers=32, kernels=np.asarray(300.0), expert_layers=0, sequences=np.asarray(float(n))))
        for n in (sequences, sequences + more)
    ]
    assert 0 <= host[0] <= host[1]


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("vllm", "", "vllm"),
        ("vLLM", "0.5.3", "vllm-v0"),
        ("vllm", "0.7.3", "vllm-v0"),
        ("vllm", "0.12.0", "vllm"),
        ("vllm", "nightly-5b8c30d", "vllm"),
        ("trtllm", "0.20.0", "tensorrt-llm-v0"),
        ("tensorrt-llm", "1.2.0rc6", "tensorrt-llm"),
        ("llama.cpp", "b4520", "llama.cpp"),
    ],
)
def test_a_version_picks_its_generation(name: str, version: str, expected: str) -> None:
    assert get_engine(name, version).name == expected


def test_an_unknown_engine_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError):
        get_engine("vlm")


def test_every_engine_carries_what_its_fit_says() -> None:
    for name in engine_names():
        e = get_engine(name)
        for entry in (e.residual, *(v.get("residual", {}) for v in e.vendors.values())):
            for q in entry.values():
                assert list(q) == sorted(q) and len(q) == 4 and q[1] <= 0 <= q[2]
        if e.fit:
            assert e.fit["rows"] > 0 and 0 <= e.fit["median"] <= e.fit["p90"]


def test_constants_of_another_vendor_are_used_there() -> None:
    engine = get_engine("llama.cpp")
    apple, nvidia = (engine.running_on(wl.load_hardware(h)) for h in ("m2-ultra", "h100"))
    assert apple.kernel_s == engine.vendors["apple soc"]["kernel_s"]
    assert nvidia.kernel_s == engine.kernel_s


def test_long_prompts_overlap_in_a_pipeline_that_takes_them_in_pieces() -> None:
    arguments = {"precision": "fp16", "engine": "llama.cpp"}
    one = wl.ServingModel().solve("llama-3-8b", "rtx-3090", 4096, 1, **arguments)
    two = wl.ServingModel().solve("llama-3-8b", "rtx-3090", 4096, 1, pp=2, **arguments)
    assert two["ttft_s"] < 0.75 * one["ttft_s"]
    assert two["itl_s"] >= 0.99 * one["itl_s"]


@pytest.mark.parametrize(
    ("engine", "machine", "known"),
    [
        ("pytorch", "m2-ultra", "spec only"),  # its runs are on CPUs and on GPUs of two vendors
        ("vllm", "tpu-v6e", "spec only"),  # its runs are on GPUs and NPUs
        ("vllm", "gaudi3", "spec only"),  # its runs on NPUs are of vendors with compilers of their own
        ("vllm", "intel-max-1550", "transferred"),  # of the generation before
        ("openvino", "h100", "spec only"),
        ("llama.cpp", "tpu-v6e", "spec only"),
        ("sglang", "mi300x", "transferred"),  # of NVIDIA's GPUs
        ("sglang", "dgx-spark", "transferred"),  # the same vendor's kernels
        ("vllm", "h100", ""),
        ("vllm-v0", "mi300x", ""),
        ("static", "xeon-8480+", ""),  # an assumption everywhere
    ],
)
def test_constants_never_travel_between_kinds_of_machine(engine: str, machine: str, known: str) -> None:
    here = get_engine(engine).running_on(wl.load_hardware(machine))
    assert here.known == known
    assert bool(here.notes) == bool(known)
    if known == "spec only":
        assert all(getattr(here, name) == value for name, value in get_engine(engine).assumed.items())
    assert here.running_on(wl.load_hardware(machine)) is here


def test_a_new_generation_takes_the_constants_that_the_one_before_has_on_the_machine() -> None:
    machine = wl.load_hardware("intel-max-1550")
    new, old = (get_engine(name).running_on(machine) for name in ("vllm", "vllm-v0"))
    assert (new.step_s, new.decode_scale, new.prefill_scale) == (old.step_s, old.decode_scale, old.prefill_scale)
    assert "those of vllm-v0 there" in new.notes[0]


def test_a_step_of_an_engine_without_runs_on_the_machine_is_no_slower_than_its_host_allows() -> None:
    """OpenVINO on a GPU, of which no run is known: constants of the processors it runs on stay with them."""
    arguments = {"precision": "int4", "output_len": 64, "engine": "openvino"}
    result = wl.ServingModel().solve("mistral-7b", "rtx-4090", 64, 8, **arguments)
    assert result["itl_s"] < 0.01
    assert str(result["decode_tier"]) == "spec only"
    assert result["itl_high90_s"] > 3 * result["itl_s"]
    assert any("no published runs" in note for note in result.notes)


def test_a_measured_machine_has_the_constants_of_the_engine_it_was_measured_with() -> None:
    record = {"c": {"bandwidth_efficiency": 0.9}, "residual": [[None, -0.1, -0.03, 0.03, 0.1]]}
    record |= {"rows": 9, "groups": 1, "median": 0.02, "p90": 0.05}
    spec = coefficients("x", "gemm", "bf16", "x", "intel", "cpu")[0].c
    section = {"date": "2026-11-29", "source": "here", "split": "none"}
    section |= {"records": {"gemm": record | {"c": {**spec, "bandwidth_efficiency": 0.95}}}}
    here = wl.load_hardware("xeon-8480+").with_(efficiency=section)
    own, other = (
        wl.ServingModel().solve("llama-3-8b", here, 64, 1, "q4_k_m", output_len=16, engine=e)
        for e in (None, "llama.cpp")
    )
    assert own.about["engine"] == "waferline" and other.about["engine"] == "llama.cpp"
    tiers = {str(r["decode_tier"]) for r in (other,)}
    assert tiers == {"spec only"}
    assert own["itl_s"] < other["itl_s"]


def test_an_interval_grows_where_no_run_of_the_engine_was_seen():
    def spread(machine: str) -> float:
        r = wl.run(wl.Scenario(model="llama-3-8b", machine=machine, prompt=512, output=128, engine="vllm-v0")).result
        return float(np.log(r["itl_high90_s"] / r["itl_s"]))

    # MI300X was measured with this engine, MI325X not, and nothing but the sheets of both is known of their operators.
    assert spread("amd-mi325x") > 1.5 * spread("amd-mi300x")
    # Operators of H100 and H200 were measured: a sibling's runs say as much.
    assert spread("nvidia-gh200-96gb") == pytest.approx(spread("nvidia-h100-sxm-80gb"))


def _step_s(
    model: str, machine: str, engine: str, prompt: int = 128, batch: int = 1, tp: int = 1, precision: str = "bf16"
) -> float:
    asked = {"prompt": prompt, "batch": batch, "tp": tp, "precision": precision, "engine": engine}
    return float(wl.run(wl.Scenario(model=model, machine=machine, output=32, **asked)).result["itl_s"])


def test_an_eager_step_takes_what_its_host_needs_to_issue_it() -> None:
    small = [_step_s("qwen2.5-0.5b", machine, "pytorch") for machine in ("a100-sxm-80gb", "h100")]
    assert small[0] == pytest.approx(small[1], rel=0.02)  # neither device is waited for
    deep = _step_s("qwen2.5-14b", "h100", "pytorch")  # 48 layers for 24
    assert deep == pytest.approx(2.0 * small[1], rel=0.2)
    assert _step_s("qwen2.5-0.5b", "h100", "vllm") < 0.5 * small[1]


def test_an_eager_host_issues_experts_one_by_one() -> None:
    issued = _step_s("qwen2-57b-a14b", "h200", "pytorch", precision="int4")
    assert issued > 3.0 * _step_s(
        "qwen2.5-7b", "h200", "pytorch"
    )  # 64 products a layer beside a dozen operators; 28 layers each


@pytest.mark.parametrize(("model", "shared"), [("llama-3-8b", True), ("llama-2-7b", False)])
def test_heads_that_share_nothing_read_the_cache_once_each(model: str, shared: bool) -> None:
    """vLLM before 0.8 on MI300X: above 512 sequences times heads of a device its kernel takes a block for every query head."""
    more = _step_s(model, "mi300x", "vllm-v0", 2048, 17) / _step_s(
        model, "mi300x", "vllm-v0", 2048, 16
    )  # of 32 heads each
    assert more > 1.5 if shared else more < 1.2  # without groups there is nothing to share
    assert _step_s(model, "mi300x", "vllm-v0", 2048, 17, tp=2) < 1.2 * _step_s(
        model, "mi300x", "vllm-v0", 2048, 16, tp=2
    )


def test_attention_without_fusion_pays_for_its_scores_by_the_square_of_the_prompt() -> None:
    """Eight bytes read and written of each of 32 heads' scores do not fit any cache: twice the prompt, about four times the gap."""

    def gap_s(prompt: int) -> float:
        fused, apart = (
            wl.run(
                wl.Scenario(model="llama-3-8b", machine="rtx-4090", precision="q4_k_m", prompt=prompt, engine=e)
            ).result
            for e in ("llama.cpp", "llama.cpp-unfused")
        )
        assert fused["itl_s"] == apart["itl_s"]
        return float(apart["ttft_s"] - fused["ttft_s"])

    assert 3.9 < gap_s(8192) / gap_s(4096) < 4.1
    assert gap_s(8192) > 0.9 * 32 * 32 * 8192**2 / 2 * 20 / 1008e9


def test_convolutions_of_packed_images_take_what_memory_gives_and_their_arithmetic_more() -> None:
    fitted = replace(get_engine("tensorrt-network"), conv_scale=2.0, prefill_scale=1.0, launch_s=0.0)
    packed, plain = (replace(fitted, packed=on) for on in (True, False))

    def taken(engine: Engine, expected_s: float, compute_s: float, memory_s: float) -> float:
        return float(engine.operator_s("conv", expected_s, 0.0, decode=False, compute_s=compute_s, memory_s=memory_s))

    assert taken(plain, 3.0, 0.1, 2.0) == 6.0 and taken(packed, 3.0, 0.1, 2.0) == 2.0  # images alone
    assert taken(plain, 3.0, 2.0, 0.1) == taken(packed, 3.0, 2.0, 0.1) == 6.0  # arithmetic alone
