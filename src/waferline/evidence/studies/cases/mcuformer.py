"""MCUFormer: which vision transformers fit 320 KB, by placing their buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import EXACT, SOURCE, at_most, between, printed

if TYPE_CHECKING:
    from waferline.techniques.edge.mcu_transformer import SmallViT

_SAME = 1e-12
_WHY_FLASH = (
    "the deployed network is not given, and the smallest of the published space has more weights than this at one byte "
    "each (computed)"
)
_WHY_LATENCY = "no latency was published; multiply-adds over the core's two a cycle, unvalidated"


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.machines.hardware import load_hardware

    data = facts("mcuformer")
    device = load_hardware(data["machine"])
    sram = device.memory[0].capacity_bytes
    yield Check(f"SRAM of {data['machine']}", "bytes", data["budget_bytes"], sram, EXACT)
    space = list(_space(data["space"]))
    yield from _fits(data, space, sram)
    yield _gelu(data["gelu"])
    smallest = min(net.weights for net in space)
    yield Check("weights of the smallest network", "MB", data["flash_mb"], smallest / 1e6, None, why=_WHY_FLASH)
    seconds = min(2 * net.macs for net in space) / device.peak_flops["int8"]
    yield Check("latency of the smallest network", "s", None, seconds, None, why=_WHY_LATENCY)


def _space(choices: Mapping[str, Any]) -> Iterator[SmallViT]:
    from itertools import product

    from waferline.techniques.edge.mcu_transformer import SmallViT

    for values in product(*choices.values()):
        yield SmallViT(**dict(zip(choices, values, strict=True)))


def _fits(data: Mapping[str, Any], space: list[SmallViT], sram: float) -> Iterator[Check]:
    from waferline.techniques.edge.arena import peak_bytes, place, separate_bytes
    from waferline.techniques.edge.mcu_transformer import (
        NO_TRICKS,
        RELEASED,
        block_buffers,
        largest_weight_bytes,
        released_rule_bytes,
    )

    rules = [released_rule_bytes(net) for net in space]
    placements = [place(list(block_buffers(net, RELEASED))) for net in space]
    peaks = [peak_bytes(p) for p in placements]
    wrong = sum((peak <= sram) != (rule <= sram) for peak, rule in zip(peaks, rules, strict=True))
    yield Check("fits or not, other than the released rule", f"of {len(space)}", 0, wrong, EXACT)
    off = max(abs(peak / rule - 1) for peak, rule in zip(peaks, rules, strict=True))
    yield Check("placed peak against the rule, farthest", "share", 0.0, off, at_most(_SAME))
    overlaps = sum(
        a.buffer.meets(b.buffer) and a.offset_bytes < b.end_bytes and b.offset_bytes < a.end_bytes
        for p in placements for i, a in enumerate(p) for b in p[:i]
    )  # fmt: skip
    yield Check("buffers that live together and overlap", "pairs", 0, overlaps, EXACT)
    best = max((i for i, rule in enumerate(rules) if rule <= sram), key=lambda i: rules[i])
    activations = [b for b in block_buffers(space[best], NO_TRICKS) if not b.name.endswith("factor")]
    naive = separate_bytes(activations) + largest_weight_bytes(space[best])
    low, high = (data["unoptimised_kb"] / kb for kb in reversed(data["deployed_kb"]))
    name = "memory without reuse over with, at the network nearest the budget"
    yield Check(name, "×", None, naive / peaks[best], between(low, high, SOURCE))


def _gelu(facts: Mapping[str, Any]) -> Check:
    import numpy as np

    from waferline.techniques.edge.gelu_table import gelu

    x = np.linspace(-8.0, 8.0, 16_001)
    error = np.abs(x / (1 + np.exp(-facts["slope"] * x)) - gelu(x)).max()
    said = facts["error"]
    return Check("GELU as x sigmoid(1.702 x)", "max error", float(said), float(error), printed(said))


STUDY = Study(
    name="mcuformer",
    title="MCUFormer: vision transformers on a microcontroller",
    source=Source("https://arxiv.org/abs/2310.16898", "2023-10-25"),
    sources=(Source("https://github.com/liangyn22/MCUFormer", "2023", "search code"),),
    claim="73.62 % top-1 on ImageNet in 320 KB of memory on an STM32F746",
    configuration={"machine": "STM32F746, 320 KB SRAM", "values": "int8", "space": "4320 networks"},
    compute=compute,
    note="Weights count as the largest low-rank factor, in the naive plan too, as in the paper's formula.",
)
