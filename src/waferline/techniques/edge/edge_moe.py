"""Edge-MoE's FPGA engine as cycles: an attention unit that streams keys, one linear unit for everything else.

Every unit takes the longer of its arithmetic and its memory traffic. Weight loads overlap the layer before (two buffers).
Source: Sarkar et al. 2023, arXiv:2305.18691, sections III to V, and the released HLS source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from waferline.techniques.edge.key_streaming import row_steps


@dataclass(frozen=True, slots=True)
class Network:
    """A vision transformer whose odd layers have experts."""

    width: int
    heads: int
    layers: int
    tokens: int
    dense_hidden: int
    experts: int
    chosen: int
    expert_hidden: int

    @property
    def macs(self) -> float:
        """Multiply-adds of one image, patch embedding left out."""
        attention = self.tokens * self.width * (4 * self.width + 2 * self.tokens)
        dense, expert = (2 * self.tokens * self.width * h for h in (self.dense_hidden, self.expert_hidden))
        gate = self.tokens * self.width * self.experts
        half = self.layers / 2
        return self.layers * attention + half * dense + half * (self.chosen * expert + gate)


@dataclass(frozen=True, slots=True)
class Engine:
    """The machine. cycles_per_block: of one 256-bit block through a memory port; `queries`: rows held in attention.

    expert_queues: tokens are sorted by expert first, so that every expert's weights are read once a layer.
    """

    clock_hz: float
    tile: int
    queries: int
    activations_per_block: int
    weights_per_block: int
    cycles_per_block: float
    scan_cycles: int
    divide_cycles: int
    expert_queues: bool = True
    single_pass_softmax: bool = True

    def stream(self, rows: float, width: int) -> float:
        """Cycles to move `rows` of activations."""
        return rows * math.ceil(width / self.activations_per_block) * self.cycles_per_block

    def load(self, inputs: int, outputs: int) -> float:
        """Cycles to read a weight matrix."""
        return inputs * outputs / self.weights_per_block * self.cycles_per_block

    def linear(self, rows: float, inputs: int, outputs: int) -> float:
        """Cycles of a dense layer on `rows`, weights already there."""
        macs = rows * math.ceil(inputs / self.tile) * math.ceil(outputs / self.tile)
        return max(macs, self.stream(rows, inputs), self.stream(rows, outputs))

    def overlapped(self, rows: float, inputs: int, outputs: int) -> float:
        """A dense layer while the weights of the next one of the same size arrive."""
        return max(self.linear(rows, inputs, outputs), self.load(inputs, outputs))


@dataclass(frozen=True, slots=True)
class Cycles:
    """Where the cycles of one image go."""

    attention: float  # QKᵀ and AV
    projections: float
    dense: float
    experts: float
    other: float  # norms, additions, gate

    @property
    def total(self) -> float:
        return self.attention + self.projections + self.dense + self.experts + self.other

    @property
    def attention_share(self) -> float:
        return self.attention / self.total

    @property
    def linear_share(self) -> float:
        """Attention's dense layers, dense blocks and expert blocks together."""
        return (self.projections + self.dense + self.experts) / self.total


def image_cycles(net: Network, engine: Engine) -> Cycles:
    """Cycles of one image, experts chosen uniformly."""
    n, d = net.tokens, net.width
    half = net.layers / 2
    norms = 2 * 2 * engine.stream(n, d)  # two a layer, read and written
    additions = 2 * engine.stream(n, d)
    gate = n * (math.ceil(d / engine.activations_per_block) + net.experts * (engine.scan_cycles + 1))
    return Cycles(
        attention=net.layers * _attention(net, engine),
        projections=net.layers * 4 * engine.overlapped(n, d, d),
        dense=half * (engine.overlapped(n, d, net.dense_hidden) + engine.overlapped(n, net.dense_hidden, d)),
        experts=half * _experts(net, engine),
        other=net.layers * (norms + additions) + half * (gate + n * engine.divide_cycles),
    )


def _attention(net: Network, engine: Engine) -> float:
    """Two products that stream one key (or value) row a step, and the softmax passes that are not hidden in them."""
    steps = row_steps(net.tokens, engine.queries)
    product = max(engine.stream(steps, net.width), steps * engine.queries)
    passes = 0 if engine.single_pass_softmax else 2  # for the maximum and for the sum
    return 2 * product + passes * net.tokens**2 * engine.cycles_per_block


def _experts(net: Network, engine: Engine) -> float:
    sizes = ((net.width, net.expert_hidden), (net.expert_hidden, net.width))
    if engine.expert_queues:
        rows, visits = net.tokens * net.chosen / net.experts, net.experts
        return visits * sum(engine.overlapped(rows, *size) for size in sizes)
    visits = net.tokens * net.chosen  # every token fetches its experts
    return visits * sum(engine.overlapped(1, *size) for size in sizes)
