"""Groups of devices: which exist, which degrees a model can be cut into, and what the link between devices costs."""

from __future__ import annotations

import numpy as np
import pytest

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.machines.hardware import hardware_names, load_hardware
from waferline.predict.degrees import group_sizes
from waferline.predict.engine import get_engine
from waferline.predict.roofline import Machine, time_operator
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.load import load_model
from waferline.workloads.operator import Operator

# Per direction: lanes × transfer rate × 128/130 (PCI Express base specification; 2.0 GB/s a lane of generation 4).
PCIE = {"3.0 x16": 15.75e9, "4.0 x16": 31.5e9, "4.0 x8": 15.75e9, "5.0 x16": 63e9, "5.0 x8": 31.5e9}


@pytest.mark.parametrize("name", [n for n in hardware_names() if load_hardware(n).kind == "gpu"])
def test_a_slot_is_a_link_of_one_direction_that_cards_meet_over(name: str) -> None:
    device = load_hardware(name)
    slot = device.link("host")
    if slot is None or "PCIe" not in slot.name:
        return
    assert slot.bandwidth_bytes_per_s == PCIE[slot.name.removeprefix("PCIe ")], name
    bridged = [x for x in device.links if x.scope == "scale-up" and x.max_devices in (2, 4) and "PCIe" not in x.name]
    if bridged or not device.link("scale-out"):
        assert device.reach("scale-up") >= 4, f"{name}: cards of one host meet over its slots"


def _all_reduce(machine: str, ranks: object) -> np.ndarray:
    op = Operator(
        name="all_reduce", kind="collective", count=1.0, flops=0.0, weight_bytes=0.0, activation_bytes=0.0, kv_bytes=0.0,
        weights="bf16", activations="bf16", kv="bf16", shape={"bytes": 64e6, "ranks": ranks}, operation="all_reduce",
    )  # fmt: skip
    timed = time_operator(op, Machine(load_hardware(machine)))
    assert np.all(timed.expected_s >= timed.light_s)
    return np.asarray(timed.expected_s)


def test_two_cards_take_their_bridge_and_four_their_slots() -> None:
    pair, four = _all_reduce("rtx-3090", 2.0), _all_reduce("rtx-3090", 4.0)
    assert 64e6 / 56.25e9 <= pair < four
    assert four >= 64e6 * 1.5 / 31.5e9  # a ring of four sends 2 · 3/4 of the buffer over each slot
    assert four == pytest.approx(float(_all_reduce("rtx-4090", 4.0)), rel=0.5)  # the same slots, without a bridge
    assert np.array_equal(_all_reduce("rtx-3090", np.array([1.0, 2.0, 4.0])), [0.0, pair, four])


def test_four_cards_serve_what_two_cannot_hold() -> None:
    answer = run(Scenario(model="llama-3-70b", machine="rtx-3090", precision="int4", tp=4))
    assert answer.fits and float(answer.result["devices"]) == 4


@pytest.mark.parametrize(
    ("model", "machine", "asked", "said"),
    [
        ("llama-3-8b", "h100", {"tp": 3}, "tp 3 does not divide the 32 heads"),
        ("qwen2.5-7b", "h100", {"tp": 7}, "tp 7 does not divide the 4 key-value heads"),
        ("mixtral-8x7b", "h100", {"tp": 2, "ep": 3}, "ep 3 does not divide the 8 experts"),
        ("mixtral-8x7b", "h100", {"tp": 2, "ep": 4}, "ep 4 does not divide the 2 ranks"),
        ("llama-3-8b", "h100", {"ep": 4}, "has no experts"),
        ("llama-3-8b", "h100", {"tp": 2, "devices": 4}, "4 devices cannot be split into tp 2"),
        ("llama-3-8b", "h100", {"tp": 2, "pp": 2, "dp": 2, "devices": 4}, "4 devices cannot be split"),
        ("mixtral-8x7b", "h100", {"phase": "train", "tp": 2, "ep": 3}, "ep 3 does not divide"),
        ("llama-3-8b", "h100", {"phase": "train", "tp": 4, "devices": 6}, "6 devices cannot be split"),
    ],
)
def test_impossible_degrees_are_refused(model: str, machine: str, asked: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        run(Scenario(model=model, machine=machine, **asked))


@pytest.mark.parametrize(
    ("machine", "asked"),
    [("rtx-4090", {"tp": 16}), ("rtx-4090", {"tp": 4, "pp": 4}), ("apple-m2-max-38c", {"pp": 2})],
)
def test_a_group_that_no_link_joins_is_refused(machine: str, asked: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError, match="has no link for"):
        run(Scenario(model="llama-3-8b", machine=machine, **asked))


@pytest.mark.parametrize(
    ("engine", "model", "machine", "first"),
    [
        ("vllm", "llama-3-70b", "rtx-4090", [(1, 1), (2, 1), (4, 1), (8, 1)]),
        ("vllm", "qwen2.5-7b", "rtx-4090", [(1, 1), (2, 1), (4, 1), (4, 2)]),  # 28 heads
        ("vllm", "llama-3-70b", "h100", [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2)]),
        ("llama.cpp", "llama-3-70b", "rtx-4090", [(1, n) for n in range(1, 9)]),
        ("llama.cpp", "llama-3-70b", "apple-m2-max-38c", [(1, 1)]),
    ],
)
def test_groups_are_formed_the_engines_own_way(
    engine: str, model: str, machine: str, first: list[tuple[int, int]]
) -> None:
    found = group_sizes(load_model(model), load_hardware(machine), get_engine(engine))
    assert found[: len(first)] == first
    assert len(found) == len(first) or machine == "h100"


def test_auto_keeps_degrees_that_are_given() -> None:
    asked = {
        "model": "llama-3-70b",
        "machine": "rtx-4090",
        "precision": "q4_k_m",
        "devices": "auto",
        "memory_share": 0.95,
    }
    assert float(run(Scenario(**asked, tp=2)).result["devices"]) == 2
    with pytest.raises(InvalidInputError, match="tp 3"):
        run(Scenario(**asked, tp=3))


def test_macs_meet_over_thunderbolt_5_and_older_ones_do_not() -> None:
    pair, four = _all_reduce("m3-ultra-80c", 2.0), _all_reduce("m3-ultra-80c", 4.0)
    assert pair >= 64e6 / 10e9 and four >= 64e6 * 1.5 / 30e9
    assert load_hardware("m2-ultra-76c").reach("scale-up") == 1
    assert run(Scenario(model="deepseek-v3", machine="m3-ultra-80c", precision="int4", devices="auto")).fits


def test_auto_spreads_experts_over_ranks_that_exist() -> None:
    asked = Scenario(model="mixtral-8x7b", machine="h100", precision="bf16", devices="auto", ep=4)
    assert float(run(asked).result["devices"]) == 4


def test_layers_are_split_and_the_faster_card_is_faster() -> None:
    """Published, llama.cpp, Llama 3 70B Q4_K_M on two RTX 4090: 19.06 tok/s over 1,024 tokens (XiongjieDai, May 2024)."""
    rate = {}
    for name in ("rtx-3090", "rtx-4090"):
        asked = {"model": "llama-3-70b", "machine": name, "precision": "q4_k_m", "engine": "llama.cpp"}
        r = run(Scenario(**asked, prompt=1, output=1024, devices="auto")).result
        assert float(r["devices"]) == 2
        assert run(Scenario(**asked, prompt=1, output=1024, devices=2)).result["itl_s"] == r["itl_s"]
        rate[name] = float(r["user_tokens_per_s"])
    assert rate["rtx-4090"] == pytest.approx(19.06, rel=0.05)
    assert rate["rtx-4090"] > rate["rtx-3090"]
