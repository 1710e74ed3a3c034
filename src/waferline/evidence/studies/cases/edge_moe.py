"""Edge-MoE: a vision transformer with experts on an FPGA, as cycles, and its four algorithms running.

Edge-MoE's FPGA engine as cycles: an attention unit that streams keys, one linear unit for everything else.

Every unit takes the longer of its arithmetic and its memory traffic. Weight loads overlap the layer before (two buffers).
Source: Sarkar et al. 2023, arXiv:2305.18691, sections III to V, and the released HLS source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from waferline.evidence.studies.cases.edge_moe_algorithms import (
    Experts,
    GeluTable,
    expert_by_expert,
    fixed_point,
    gelu,
    online_softmax,
    row_loads,
    row_steps,
    token_by_token,
    visits,
)
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, bound, identity, own
from waferline.evidence.studies.tolerance import AIM, EXACT, SOURCE, absolute, at_most, relative
from waferline.machines.hardware import load_hardware


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


_LATENCY = 0.15
_EXACT_ARITHMETIC = 1e-12
_BLOCK_BYTES = 32  # 256 bits
_WHY_SHARE = "fixed costs between the units (pipeline fill, kernel control) are not modelled and would fall on the rest"
_WHY_WIDE = "a 256-bit block in one cycle would need ports twice as wide as the chip has"
_WHY_NO_REORDER = (
    "the sources do not show the engine without reordering; with one query a step the model still reads a key row at "
    "full speed, which an engine built for it may not"
)
_WHY_GOP = "the two papers count different operations (2.5 against 1.6 a multiply-add pair); milliseconds are compared"


def compute(data: Facts) -> Iterator[Check]:
    net, engine = Network(**data["network"]), Engine(**data["engine"])
    yield from _latency(data, net, engine)
    yield from _energy(data)
    yield from _algorithms(data, net, engine)


def _latency(data: Facts, net: Network, engine: Engine) -> Iterator[Check]:
    cycles = image_cycles(net, engine)
    seconds = cycles.total / engine.clock_hz
    slack = absolute(data["share_slack"], SOURCE)
    yield Check("latency of an image", "s", data["latency_s"], seconds, relative(_LATENCY))
    said = data["shares"]
    yield Check("QKᵀ and AV", "of latency", said["attention"], cycles.attention_share, slack)
    share = cycles.linear_share
    yield Check("dense layers, blocks, experts", "of latency", said["linear_and_blocks"], share, slack, why=_WHY_SHARE)
    wide = image_cycles(net, replace(engine, cycles_per_block=1)).total / engine.clock_hz
    name = "latency if ports were 256 bits wide"
    yield Check(name, "s", data["latency_s"], wide, relative(_LATENCY), why=_WHY_WIDE)
    memory = load_hardware(data["machine"]).bandwidth_bytes_per_s
    port = _BLOCK_BYTES / engine.cycles_per_block * engine.clock_hz
    yield Check(
        "traffic of one port over that of the board's memory", "×", None, port / memory, at_most(1.0, "DDR peak")
    )
    steps = [replace(engine, queries=1, expert_queues=False, single_pass_softmax=False)]
    steps += [replace(steps[0], expert_queues=True)]
    steps += [replace(steps[1], single_pass_softmax=True), engine]
    times = [image_cycles(net, e).total / engine.clock_hz for e in steps]
    limit = relative(_LATENCY)
    yield Check("latency without key streaming", "s", data["no_reordering_s"], times[2], limit, why=_WHY_NO_REORDER)
    falls = sum(a > b for a, b in pairwise(times))
    name = "ablation: steps that make it faster (token order, softmax, streaming)"
    yield bound(name, "of 3", 3, falls, EXACT)
    yield Check("operations of an image, as elsewhere", "GOP", data["gop_elsewhere"], 2e-9 * net.macs, None, _WHY_GOP)


def _energy(data: Facts) -> Iterator[Check]:
    ours = data["latency_s"] * data["power_w"]
    for other in data["others"]:
        ratio = other["latency_s"] * other["power_w"] / ours
        name = f"energy of an image, {other['name']} over FPGA, from latency and power"
        yield identity(name, "×", other["energy_ratio"], ratio, relative(data["energy_slack"], AIM))


def _algorithms(data: Facts, net: Network, engine: Engine) -> Iterator[Check]:
    rng = np.random.default_rng(0)
    x = 3.0 * rng.standard_normal((300, net.tokens))
    exact = np.exp(x - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    error = np.abs(online_softmax(x) - exact).max()
    yield own("one-pass softmax, double precision", "max error", None, float(error), at_most(_EXACT_ARITHMETIC))
    bits = data["fixed_point"]["fraction_bits"]
    error = np.abs(online_softmax(x, fixed_point(bits)) - exact).max()
    limit = at_most((2 * net.tokens + 4) * 2.0**-bits, "one truncation an operation")
    yield own("one-pass softmax, 32-bit fixed point", "max error", None, float(error), limit)
    table = GeluTable.build(2.0 ** data["gelu"]["step_exponent"], data["gelu"]["entries"])
    points = np.linspace(-8.0, 8.0, 64_001)
    error = np.abs(table(points) - gelu(points)).max()
    yield own("GELU table", "max error", None, float(error), at_most(table.error_bound, "bound of interpolation"))
    pairs = list(visits(net.tokens, engine.queries))
    missing = net.tokens**2 - len(set(pairs)) + len(pairs) - len(set(pairs))
    yield own("key streaming: pairs missed or met twice", "pairs", 0, missing, EXACT)
    n, p = 128, engine.queries
    yield identity(f"key streaming: rows read, N {n}", "rows", n * n // p + n + p - 1, row_loads(n, p), EXACT)
    shape = (net.experts, net.width, net.expert_hidden)
    first, second = rng.standard_normal(shape) / 14, rng.standard_normal((shape[0], shape[2], shape[1])) / 20
    layer = Experts(rng.standard_normal((net.width, net.experts)), first, second, table)
    tokens = rng.standard_normal((net.tokens, net.width))
    queued, reads = expert_by_expert(layer, tokens, net.chosen)
    plain, plain_reads = token_by_token(layer, tokens, net.chosen)
    error = np.abs(queued - plain).max()
    yield own("expert queues against token order", "max error", None, float(error), at_most(_EXACT_ARITHMETIC))
    yield own("expert weights read, queues", "reads", None, reads, at_most(net.experts, SOURCE))
    yield own("expert weights read, token order", "reads", net.tokens * net.chosen, plain_reads, EXACT)
