"""The four laws, as properties: broadcasting equals looping, nothing is faster than light, better machines are not slower."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import waferline as wl
from waferline.errors import UnsupportedError
from waferline.machines.device import MemoryLevel

MODELS = ("llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "qwen3-0.6b", "llama-3.2-1b", "kimi-k2")
MACHINES = ("h100", "a100", "mi300x", "m2-ultra", "raspberry-pi-5", "tpu-v5e", "b200", "l4", "epyc-9755", "rtx-4080")
PRECISIONS = ("bf16", "fp16", "int8", "int4", "w8a8", "q4_k_m")
ENGINES = (None, "none", "vllm", "sglang", "tensorrt-llm", "llama.cpp", "static")
LOADS = ("static", "closed", "burst", "full")
SERVING = settings(max_examples=25, deadline=None)

sizes = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 512),
        "seq_len": st.integers(1, 32768),
        "output_len": st.integers(0, 4096),
    }
)
degrees = {"tp": [1, 2, 4, 8], "pp": [1, 2, 4], "ep": [1, 2, 8], "dp": [1, 2, 4, 32]}
points = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 300),
        "seq_len": st.integers(1, 9000),
        "output_len": st.integers(0, 2000),
        "precision": st.sampled_from(PRECISIONS),
        **{name: st.sampled_from(values) for name, values in degrees.items()},
    }
)


def _solved(model: str, machine: object, **arguments: object) -> wl.Result | None:
    """The answer, or None where it is refused: a format or a link that this machine lacks."""
    try:
        return wl.ServingModel().solve(model, machine, **arguments)
    except UnsupportedError:
        return None


def _same(a: object, b: object) -> bool:
    if np.asarray(a).dtype.kind == "f":
        return a == b or abs(float(a) - float(b)) <= 1e-9 * abs(float(b))  # type: ignore[arg-type]
    return bool(a == b)


def _check_light(r: wl.Result) -> None:
    """Every value that has a bound is on the slow side of it, and every interval is ordered and beyond it."""
    bounded = [name for name in r.fields() if f"light_{name}" in r]
    assert {"ttft_s", "itl_s", "request_s", "throughput_tokens_per_s"} <= set(bounded)
    times = [name for name in r.fields() if name.startswith("loaded_") and "0_" not in name]
    assert set(times) <= set(bounded), "a time under load is shown without its bound"
    for name in bounded:
        value, light = np.broadcast_arrays(r[name], r[f"light_{name}"])
        rate = name.endswith("per_s")
        assert (value <= light * (1 + 1e-12)).all() if rate else (value >= light * (1 - 1e-12)).all(), name
        stem, unit = name.removesuffix("_tokens_per_s" if rate else "_s"), "tokens_per_s" if rate else "s"
        ends = [r[f"{stem}_{k}_{unit}"] for k in ("low90", "low50", "high50", "high90") if f"{stem}_{k}_{unit}" in r]
        for low, high in itertools.pairwise(ends):
            assert (low <= high).all(), name
        for end in ends:
            assert (end <= light * (1 + 1e-12)).all() if rate else (end >= light * (1 - 1e-12)).all(), name
    assert (r["decode_mfu"] <= 1).all() and (r["prefill_mfu"] <= 1 + 1e-9).all()


@SERVING
@given(
    model=st.sampled_from(MODELS),
    machine=st.sampled_from(MACHINES),
    engine=st.sampled_from(ENGINES),
    load=st.sampled_from(LOADS),
    point=points,
)
def test_nothing_is_faster_than_light(
    model: str, machine: str, engine: str | None, load: str, point: dict[str, object]
) -> None:
    r = _solved(model, machine, engine=engine, load=load, **point)
    if r is not None:
        _check_light(r)


def test_most_draws_are_answered() -> None:
    """The laws above are about something: few of the machines and formats that they draw from refuse one another."""
    asked = [(m, f) for m in MACHINES for f in PRECISIONS]
    answered = [x for x in asked if _solved("llama-3-8b", x[0], seq_len=128, precision=x[1]) is not None]
    assert len(answered) >= 0.8 * len(asked)


NEIGHBOURS = {
    "batch_size": 4,
    "seq_len": 512,
    "output_len": 128,
    "precision": "int4",
    "tp": 1,
    "pp": 1,
    "ep": 1,
    "dp": 1,
}


@SERVING
@given(
    model=st.sampled_from(MODELS),
    machine=st.sampled_from(MACHINES),
    engine=st.sampled_from(ENGINES),
    load=st.sampled_from(LOADS),
    company=st.lists(points, min_size=2, max_size=4),
)
@example("qwen3-0.6b", "mi300x", None, "static", [NEIGHBOURS, {**NEIGHBOURS, "tp": 8}])
@example("llama-3.2-1b", "epyc-9755", None, "static", [NEIGHBOURS, {**NEIGHBOURS, "dp": 4}])
@example("kimi-k2", "h100", None, "static", [{**NEIGHBOURS, "ep": 8}, {**NEIGHBOURS, "ep": 8, "dp": 32}])
@example("llama-3-8b", "h100", "none", "static", [{**NEIGHBOURS, "batch_size": n} for n in (1, 64, 300)])
def test_broadcasting_equals_looping(
    model: str, machine: str, engine: str | None, load: str, company: list[dict[str, object]]
) -> None:
    """A point's answer does not depend on its neighbours: every field, intervals, bottlenecks and tiers too."""
    alone = [_solved(model, machine, engine=engine, load=load, **point) for point in company]
    together = _solved(
        model, machine, engine=engine, load=load, **{k: np.array([p[k] for p in company]) for k in company[0]}
    )
    assert (together is None) == any(r is None for r in alone)
    for i, one in enumerate(alone if together is not None else ()):
        assert one is not None and together is not None
        assert set(one.fields()) == set(together.fields())
        for name in one.fields():
            value = np.broadcast_to(together[name], (len(company),))[i]
            assert _same(value, one[name][()]), (name, value, one[name])


def test_blocks_do_not_show() -> None:
    """A call large enough to be solved in blocks answers as its points alone, along either axis of a grid."""
    axes = {"batch_size": np.arange(1, 151), "seq_len": np.arange(100, 15_100, 100), "precision": ["fp16", "int4"]}
    together = wl.ServingModel().solve("llama-3-8b", "h100", output_len=7, engine="none", **wl.grid(**axes))
    for index in ((0, 0, 0), (149, 149, 1), (54, 149, 0), (55, 3, 1)):
        one = {name: values[i] for (name, values), i in zip(axes.items(), index, strict=True)}
        alone = wl.ServingModel().solve("llama-3-8b", "h100", output_len=7, engine="none", **one)
        for name in alone.fields():
            assert _same(np.broadcast_to(together[name], together.shape)[index], alone[name][()]), name


@SERVING
@given(
    model=st.sampled_from(MODELS),
    seq_len=st.integers(1, 9000),
    shape=st.sampled_from([(8, 1), (256, 1), (64, 4), (1024, 2)]),
    layout=st.sampled_from([(1, 1, 1), (8, 1, 2), (4, 2, 4), (2, 4, 1)]),
    recompute=st.sampled_from(["none", "selective", "full"]),
    sharding=st.sampled_from(["none", "zero1", "fsdp"]),
)
def test_no_training_step_is_faster_than_light(
    model: str,
    seq_len: int,
    shape: tuple[int, int],
    layout: tuple[int, int, int],
    recompute: str,
    sharding: str,
) -> None:
    (batch, micro), (tp, pp, dp) = shape, layout
    how = {"tp": tp, "pp": pp, "dp": dp, "recompute": recompute, "sharding": sharding}
    r = wl.TrainingModel().solve(model, "h100", seq_len, batch, micro, **how)
    assert r["step_time_s"] >= r["light_step_time_s"] * (1 - 1e-12)
    assert r["step_time_low90_s"] >= r["light_step_time_s"] * (1 - 1e-12)
    assert 0 < r["causal_mfu"] <= r["mfu"] and r["causal_mfu"] <= 1


@SERVING
@given(
    model=st.sampled_from(("resnet-50", "bert-large", "mobilenet-v2", "llama-3.2-1b")),
    machine=st.sampled_from(MACHINES),
    batch=st.integers(1, 512),
    phase=st.sampled_from(("infer", "train")),
)
def test_no_pass_is_faster_than_light(model: str, machine: str, batch: int, phase: str) -> None:
    r = wl.SingleNodeModel().solve(model, machine, np.array([batch, 1, 77]), "fp16", phase=phase)
    assert (r["latency_s"] >= r["light_latency_s"] * (1 - 1e-12)).all()
    assert (r["latency_low90_s"] <= r["latency_s"]).all() and (r["latency_s"] <= r["latency_high90_s"]).all()
    alone = wl.SingleNodeModel().solve(model, machine, batch, "fp16", phase=phase)
    for name in alone.fields():
        assert _same(np.broadcast_to(r[name], (3,))[0], alone[name][()]), name


@SERVING
@given(model=st.sampled_from(MODELS), machine=st.sampled_from(MACHINES), size=sizes, dp=st.sampled_from([2, 8]))
def test_replicas_of_one_batch_change_nothing_but_the_rate(
    model: str, machine: str, size: dict[str, int], dp: int
) -> None:
    one = wl.ServingModel().solve(model, machine, precision="fp16", **size)
    many = wl.ServingModel().solve(
        model, machine, precision="fp16", **{**size, "batch_size": size["batch_size"] * dp}, dp=dp
    )
    for name in ("ttft_s", "itl_s", "light_ttft_s", "light_itl_s", "device_memory_bytes"):
        assert many[name] == pytest.approx(float(one[name]), rel=1e-9), name


@SERVING
@given(model=st.sampled_from(MODELS), machine=st.sampled_from(MACHINES), size=sizes, engine=st.sampled_from(ENGINES))
def test_the_largest_batch_fits_and_one_more_does_not(
    model: str, machine: str, size: dict[str, int], engine: str | None
) -> None:
    device = wl.load_hardware(machine)
    serve = lambda batch: wl.ServingModel().solve(  # noqa: E731
        model, device, precision="fp16", engine=engine, **{**size, "batch_size": batch}
    )
    asked = serve(size["batch_size"])
    most = int(asked["max_batch_size"])
    if most > 0:
        assert serve(most)["device_memory_bytes"] <= serve(most)["usable_bytes"] * (1 + 1e-9)
    assert serve(most + 1)["device_memory_bytes"] > asked["usable_bytes"] * (1 - 1e-9)
    assert serve(most + 1)["max_batch_size"] == most


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
