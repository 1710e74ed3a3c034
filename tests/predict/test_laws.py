"""The four laws, as properties: broadcasting equals looping, nothing is faster than light, better machines are not slower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import waferline as wl
from waferline.errors import UnsupportedError
from waferline.machines.device import MemoryLevel

MODELS = ("llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "qwen3-0.6b")
MACHINES = ("h100", "a100", "mi300x", "m2-ultra", "raspberry-pi-5", "tpu-v5e", "b200", "l4")
PRECISIONS = ("bf16", "fp16", "int8", "int4", "w8a8", "q4_k_m")
SERVING = settings(max_examples=25, deadline=None)

sizes = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 512),
        "seq_len": st.integers(1, 32768),
        "output_len": st.integers(0, 4096),
    }
)


def _solve(model: str, machine: object, precision: object, **sizes: object) -> wl.Result:
    try:
        return wl.ServingModel().solve(model, machine, precision=precision, **sizes)
    except UnsupportedError:  # a format this machine lacks: refused, which is lawful
        pytest.skip(f"{machine} does not compute {precision}")


@SERVING
@given(
    model=st.sampled_from(MODELS), machine=st.sampled_from(MACHINES), precision=st.sampled_from(PRECISIONS), size=sizes
)
def test_nothing_is_faster_than_light(model: str, machine: str, precision: str, size: dict[str, int]) -> None:
    r = _solve(model, machine, precision, **size)
    for name in ("ttft_s", "itl_s", "request_s"):
        assert r[name] >= r[f"light_{name}"] * (1 - 1e-12)
    for name in ("ttft", "itl"):
        low90, low50, high50, high90 = (r[f"{name}_{k}_s"] for k in ("low90", "low50", "high50", "high90"))
        assert r[f"light_{name}_s"] * (1 - 1e-12) <= low90 <= low50 <= high50 <= high90
    assert r["decode_mfu"] <= 1 and r["prefill_mfu"] <= 1 + 1e-9


@SERVING
@given(
    model=st.sampled_from(MODELS),
    machine=st.sampled_from(MACHINES),
    batches=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=3),
    tps=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=2),
)
def test_broadcasting_equals_looping(
    model: str, machine: str, batches: list[int], lengths: list[int], tps: list[int]
) -> None:
    device = wl.load_hardware(machine)
    if device.link("scale-up") is None:
        tps = [1]
    precisions = ["bf16", "int8", "int4"]
    axes = {"batch_size": batches, "seq_len": lengths, "precision": precisions, "tp": tps}
    together = wl.ServingModel().solve(model, device, output_len=7, **wl.grid(**axes))
    for index in np.ndindex(len(batches), len(lengths), len(precisions), len(tps)):
        one = dict(zip(axes, (values[i] for values, i in zip(axes.values(), index, strict=True)), strict=True))
        alone = wl.ServingModel().solve(model, device, output_len=7, **one)
        shape = together.shape
        for name in ("ttft_s", "itl_s", "device_memory_bytes", "light_itl_s", "feasible", "decode_bottleneck"):
            value = np.broadcast_to(together[name], shape)[index]
            if np.asarray(value).dtype.kind == "f":
                assert value == pytest.approx(float(alone[name]), rel=1e-9), name
            else:
                assert value == alone[name], name


@SERVING
@given(model=st.sampled_from(MODELS), machine=st.sampled_from(MACHINES), size=sizes, factor=st.floats(1.0, 4.0))
def test_more_bandwidth_is_never_slower(model: str, machine: str, size: dict[str, int], factor: float) -> None:
    device = wl.load_hardware(machine)
    last = device.memory[-1]
    faster = replace(last, bandwidth_bytes_per_s=last.bandwidth_bytes_per_s * factor)
    nearer = tuple(
        MemoryLevel(m.name, m.capacity_bytes, max(m.bandwidth_bytes_per_s, faster.bandwidth_bytes_per_s))
        for m in device.memory[:-1]
    )
    better = replace(device, memory=(*nearer, faster))
    slow, fast = (wl.ServingModel().solve(model, d, precision="fp16", **size) for d in (device, better))
    assert fast["itl_s"] <= slow["itl_s"] * (1 + 1e-9)
    assert fast["ttft_s"] <= slow["ttft_s"] * (1 + 1e-9)


@SERVING
@given(model=st.sampled_from(MODELS), machine=st.sampled_from(MACHINES), size=sizes)
def test_more_work_is_never_quicker(model: str, machine: str, size: dict[str, int]) -> None:
    more = {**size, "batch_size": size["batch_size"] + 1}
    a, b = (wl.ServingModel().solve(model, machine, precision="fp16", **s) for s in (size, more))
    assert b["light_itl_s"] >= a["light_itl_s"] * (1 - 1e-12)
    assert b["device_memory_bytes"] >= a["device_memory_bytes"]
    longer = wl.ServingModel().solve(model, machine, precision="fp16", **{**size, "seq_len": size["seq_len"] * 2})
    assert longer["light_ttft_s"] >= a["light_ttft_s"]
