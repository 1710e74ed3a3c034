"""Edge-MoE: a vision transformer with experts on an FPGA, as the product predicts it, and its four algorithms running.

Source: Sarkar et al. 2023, arXiv:2305.18691, sections III to V, and the released HLS source.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from waferline.evidence.studies.cases.edge_moe_algorithms import (
    Experts,
    GeluTable,
    expert_by_expert,
    fixed_point,
    gelu,
    online_softmax,
    row_loads,
    token_by_token,
    visits,
)
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity, own
from waferline.evidence.studies.tolerance import AIM, EXACT, SOURCE, absolute, at_most, relative
from waferline.predict.single import SingleNodeModel

_LATENCY = 0.15
_EXACT_ARITHMETIC = 1e-12
_WHY_SHARE = "fixed costs between the units (pipeline fill, kernel control) are not modelled and would fall on the rest"
_WHY_NO_REORDER = "the catalogue has no machine of that design, and the sources do not show it"
_WHY_GOP = "the two papers count different operations (2.5 against 1.6 a multiply-add pair); milliseconds are compared"


def compute(data: Facts) -> Iterator[Check]:
    yield from _latency(data)
    yield from _energy(data)
    yield from _algorithms(data, SimpleNamespace(**data["network"]), data["queries"])


def _latency(data: Facts) -> Iterator[Check]:
    answer = SingleNodeModel().solve(data["model"], data["machine"])
    seconds = float(answer["latency_s"])
    share = lambda *kinds: sum(float(op.time_s) for op in answer.operators if op.kind in kinds) / seconds  # noqa: E731
    slack = absolute(data["share_slack"], SOURCE)
    yield Check("latency of an image", "s", data["latency_s"], seconds, relative(_LATENCY))
    said = data["shares"]
    yield Check("QKᵀ and AV", "of latency", said["attention"], share("prefill_attention"), slack)
    linear = share("gemm", "moe")
    yield Check("dense layers, blocks, experts", "of latency", said["linear_and_blocks"], linear, slack, why=_WHY_SHARE)
    yield Check("latency without key streaming", "s", data["no_reordering_s"], None, None, why=_WHY_NO_REORDER)
    giga = sum(float(op.flops) for op in answer.operators) / 1e9
    yield Check("operations of an image, as elsewhere", "GOP", data["gop_elsewhere"], giga, None, _WHY_GOP)


def _energy(data: Facts) -> Iterator[Check]:
    ours = data["latency_s"] * data["power_w"]
    for other in data["others"]:
        ratio = other["latency_s"] * other["power_w"] / ours
        name = f"energy of an image, {other['name']} over FPGA, from latency and power"
        yield identity(name, "×", other["energy_ratio"], ratio, relative(data["energy_slack"], AIM))


def _algorithms(data: Facts, net: SimpleNamespace, queries: int) -> Iterator[Check]:
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
    pairs = list(visits(net.tokens, queries))
    missing = net.tokens**2 - len(set(pairs)) + len(pairs) - len(set(pairs))
    yield own("key streaming: pairs missed or met twice", "pairs", 0, missing, EXACT)
    n, p = 128, queries
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
