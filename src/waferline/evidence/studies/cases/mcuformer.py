"""MCUFormer: which vision transformers fit 320 KB, by placing their buffers.

Buffers of a vision transformer on a microcontroller, with and without MCUFormer's three ways to need fewer.

Operator integration computes attention a query row at a time, so the map of all pairs never exists. Patch-embedding
decomposition writes each token over the pixels it came from. Token overwriting writes a layer's output over its input.
Source: Liang et al. 2023, MCUFormer, arXiv:2310.16898, section 3.3; the memory rule is that of the released search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from waferline.evidence.studies.cases.arena import Buffer, peak_bytes, place, separate_bytes
from waferline.evidence.studies.cases.edge_moe_algorithms import gelu
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import EXACT, SOURCE, at_most, between, printed
from waferline.machines.hardware import load_hardware

_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class SmallViT:
    """One point of the search space. rank_ratio: each weight is three factors, of rank `rank_ratio` x the smaller side.

    The released search counts image / patch without rounding; so does `tokens`.
    """

    width: int
    depth: int
    heads: int
    mlp_ratio: float
    rank_ratio: float
    patch: int
    image: int
    classes: int = 1000

    @property
    def tokens(self) -> float:
        """Patches and the class token."""
        return (self.image / self.patch) ** 2 + 1

    @property
    def weights(self) -> float:
        """Parameters of all factors, biases left out."""
        w, hidden = self.width, self.mlp_ratio * self.width
        block = sum(self._factors(a, b) for a, b in ((w, 3 * w), (w, w), (w, hidden), (hidden, w)))
        return self.depth * block + _CHANNELS * self.patch**2 * w + w * self.classes

    @property
    def macs(self) -> float:
        """Multiply-adds of one image."""
        attention = 2 * self.depth * self.tokens**2 * self.width
        return (self.weights - self.width * self.classes) * self.tokens + attention + self.width * self.classes

    def _factors(self, inputs: float, outputs: float) -> float:
        rank = self.rank_ratio * min(inputs, outputs)
        return inputs * rank + rank * rank + rank * outputs


@dataclass(frozen=True, slots=True)
class Tricks:
    """Which of the three are on. hidden_tokens: tokens whose MLP hidden layer exists at once (None: all of them)."""

    operator_integration: bool = True
    patch_decomposition: bool = True
    token_overwriting: bool = True
    hidden_tokens: int | None = None


NO_TRICKS = Tricks(operator_integration=False, patch_decomposition=False, token_overwriting=False)
RELEASED = Tricks()  # what the released search's rule counts

_EMBED, _QKV, _ATTEND, _PROJECT, _EXPAND, _SHRINK = range(6)


def block_buffers(net: SmallViT, tricks: Tricks) -> Iterator[Buffer]:
    """Buffers of the embedding and one block, one byte a value; a weight is there as its largest factor."""
    plane, overwrite = net.tokens * net.width, tricks.token_overwriting
    if not tricks.patch_decomposition:
        yield Buffer("image", _CHANNELS * net.image**2, _EMBED, _EMBED)
    yield Buffer("tokens", plane, _EMBED, _SHRINK)
    yield Buffer("queries, keys, values", 3 * plane, _QKV, _ATTEND)
    rows = 1.0 if tricks.operator_integration else net.tokens
    yield Buffer("attention map", net.heads * rows * net.tokens, _ATTEND, _ATTEND)
    if not overwrite:
        yield Buffer("attention output", plane, _ATTEND, _PROJECT)
        yield Buffer("projected", plane, _PROJECT, _EXPAND)
        yield Buffer("block output", plane, _SHRINK, _SHRINK)
    hidden_rows = net.tokens if tricks.hidden_tokens is None else min(tricks.hidden_tokens, net.tokens)
    yield Buffer("hidden", hidden_rows * net.mlp_ratio * net.width, _EXPAND, _SHRINK)
    rank = net.rank_ratio * net.width
    for name, outputs, step in (
        ("QKV", 3.0, _QKV),
        ("projection", 1.0, _PROJECT),
        ("expansion", net.mlp_ratio, _EXPAND),
    ):
        yield Buffer(f"{name} factor", outputs * net.width * rank, step, step)
    yield Buffer("shrinking factor", net.mlp_ratio * net.width * rank, _SHRINK, _SHRINK)


def released_rule_bytes(net: SmallViT) -> float:
    """Peak as the released search counts it: tokens, all hidden values and one low-rank factor of the MLP."""
    w = net.width
    return w * (net.tokens * (1 + net.mlp_ratio) + w * net.mlp_ratio * net.rank_ratio)


def largest_weight_bytes(net: SmallViT) -> float:
    """The largest low-rank factor of a block, one byte a weight."""
    return max(b.size_bytes for b in block_buffers(net, RELEASED) if b.name.endswith("factor"))


_SAME = 1e-12
_WHY_FLASH = (
    "the deployed network is not given, and the smallest of the published space has more weights than this at one byte "
    "each (computed)"
)
_WHY_LATENCY = "no latency was published; multiply-adds over the core's two a cycle, unvalidated"


def compute(data: Facts) -> Iterator[Check]:
    device = load_hardware(data["machine"])
    sram = device.memory[0].capacity_bytes
    yield identity(f"SRAM of {data['machine']}", "bytes", data["budget_bytes"], sram, EXACT)
    space = list(_space(data["space"]))
    yield from _fits(data, space, sram)
    yield _gelu(data["gelu"])
    smallest = min(net.weights for net in space)
    yield Check("weights of the smallest network", "MB", data["flash_mb"], smallest / 1e6, None, why=_WHY_FLASH)
    seconds = min(2 * net.macs for net in space) / device.peak_flops["int8"]
    yield Check("latency of the smallest network", "s", None, seconds, None, why=_WHY_LATENCY)


def _space(choices: Facts) -> Iterator[SmallViT]:

    for values in product(*choices.values()):
        yield SmallViT(**dict(zip(choices, values, strict=True)))


def _fits(data: Facts, space: list[SmallViT], sram: float) -> Iterator[Check]:
    rules = [released_rule_bytes(net) for net in space]
    placements = [place(list(block_buffers(net, RELEASED))) for net in space]
    peaks = [peak_bytes(p) for p in placements]
    wrong = sum((peak <= sram) != (rule <= sram) for peak, rule in zip(peaks, rules, strict=True))
    yield own("fits or not, other than the released rule", f"of {len(space)}", 0, wrong, EXACT)
    off = max(abs(peak / rule - 1) for peak, rule in zip(peaks, rules, strict=True))
    yield own("placed peak against the rule, farthest", "share", 0.0, off, at_most(_SAME))
    overlaps = sum(
        a.buffer.meets(b.buffer) and a.offset_bytes < b.end_bytes and b.offset_bytes < a.end_bytes
        for p in placements for i, a in enumerate(p) for b in p[:i]
    )  # fmt: skip
    yield own("buffers that live together and overlap", "pairs", 0, overlaps, EXACT)
    best = max((i for i, rule in enumerate(rules) if rule <= sram), key=lambda i: rules[i])
    activations = [b for b in block_buffers(space[best], NO_TRICKS) if not b.name.endswith("factor")]
    naive = separate_bytes(activations) + largest_weight_bytes(space[best])
    low, high = (data["unoptimised_kb"] / kb for kb in reversed(data["deployed_kb"]))
    name = "memory without reuse over with, at the network nearest the budget"
    yield Check(name, "×", None, naive / peaks[best], between(low, high, SOURCE))


def _gelu(facts: Facts) -> Check:

    x = np.linspace(-8.0, 8.0, 16_001)
    error = np.abs(x / (1 + np.exp(-facts["slope"] * x)) - gelu(x)).max()
    said = facts["error"]
    return identity("GELU as x sigmoid(1.702 x)", "max error", float(said), float(error), printed(said))
