"""Edge-MoE: a vision transformer with experts on an FPGA, as cycles, and its four algorithms running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, EXACT, SOURCE, absolute, at_most, relative

if TYPE_CHECKING:
    from waferline.techniques.edge.edge_moe import Engine, Network

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


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts
    from waferline.techniques.edge.edge_moe import Engine, Network

    data = facts("edge-moe")
    net, engine = Network(**data["network"]), Engine(**data["engine"])
    yield from _latency(data, net, engine)
    yield from _energy(data)
    yield from _algorithms(data, net, engine)


def _latency(data: Mapping[str, Any], net: Network, engine: Engine) -> Iterator[Check]:
    from waferline.machines.hardware import load_hardware
    from waferline.techniques.edge.edge_moe import image_cycles

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
    yield Check(name, "of 3", 3, falls, EXACT)
    yield Check("operations of an image, as elsewhere", "GOP", data["gop_elsewhere"], 2e-9 * net.macs, None, _WHY_GOP)


def _energy(data: Mapping[str, Any]) -> Iterator[Check]:
    ours = data["latency_s"] * data["power_w"]
    for other in data["others"]:
        ratio = other["latency_s"] * other["power_w"] / ours
        name = f"energy of an image, {other['name']} over FPGA, from latency and power"
        yield Check(name, "×", other["energy_ratio"], ratio, relative(data["energy_slack"], AIM))


def _algorithms(data: Mapping[str, Any], net: Network, engine: Engine) -> Iterator[Check]:
    import numpy as np

    from waferline.techniques.edge.expert_queues import Experts, expert_by_expert, token_by_token
    from waferline.techniques.edge.gelu_table import GeluTable, gelu
    from waferline.techniques.edge.key_streaming import row_loads, visits
    from waferline.techniques.edge.online_softmax import fixed_point, online_softmax

    rng = np.random.default_rng(0)
    x = 3.0 * rng.standard_normal((300, net.tokens))
    exact = np.exp(x - x.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    error = np.abs(online_softmax(x) - exact).max()
    yield Check("one-pass softmax, double precision", "max error", None, float(error), at_most(_EXACT_ARITHMETIC))
    bits = data["fixed_point"]["fraction_bits"]
    error = np.abs(online_softmax(x, fixed_point(bits)) - exact).max()
    limit = at_most((2 * net.tokens + 4) * 2.0**-bits, "one truncation an operation")
    yield Check("one-pass softmax, 32-bit fixed point", "max error", None, float(error), limit)
    table = GeluTable.build(2.0 ** data["gelu"]["step_exponent"], data["gelu"]["entries"])
    points = np.linspace(-8.0, 8.0, 64_001)
    error = np.abs(table(points) - gelu(points)).max()
    yield Check("GELU table", "max error", None, float(error), at_most(table.error_bound, "bound of interpolation"))
    pairs = list(visits(net.tokens, engine.queries))
    missing = net.tokens**2 - len(set(pairs)) + len(pairs) - len(set(pairs))
    yield Check("key streaming: pairs missed or met twice", "pairs", 0, missing, EXACT)
    n, p = 128, engine.queries
    yield Check(f"key streaming: rows read, N {n}", "rows", n * n // p + n + p - 1, row_loads(n, p), EXACT)
    shape = (net.experts, net.width, net.expert_hidden)
    first, second = rng.standard_normal(shape) / 14, rng.standard_normal((shape[0], shape[2], shape[1])) / 20
    layer = Experts(rng.standard_normal((net.width, net.experts)), first, second, table)
    tokens = rng.standard_normal((net.tokens, net.width))
    queued, reads = expert_by_expert(layer, tokens, net.chosen)
    plain, plain_reads = token_by_token(layer, tokens, net.chosen)
    error = np.abs(queued - plain).max()
    yield Check("expert queues against token order", "max error", None, float(error), at_most(_EXACT_ARITHMETIC))
    yield Check("expert weights read, queues", "reads", None, reads, at_most(net.experts, SOURCE))
    yield Check("expert weights read, token order", "reads", net.tokens * net.chosen, plain_reads, EXACT)


STUDY = Study(
    name="edge-moe",
    title="Edge-MoE: a multi-task vision transformer with experts on an FPGA",
    source=Source("https://arxiv.org/abs/2305.18691", "2023-05-30"),
    sources=(Source("https://github.com/sharc-lab/Edge-MoE", "2023", "HLS source"),),
    claim="34.64 ms an image at 14.54 W: 2.24 times less energy than a GPU, 4.90 times less than a CPU",
    configuration={"machine": "ZCU102 at 300 MHz", "model": "M3ViT, ViT-T with 16 experts", "image": "128x256"},
    compute=compute,
    note="No rate is fitted; two cycles a memory block was the second of two discrete choices (see the data file).",
)
