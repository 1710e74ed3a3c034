"""The one place where an operator on a wafer becomes cycles: the matrix products it stands for, each from the price list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray, Floats
from waferline.machines.mesh_costs.fitted import NOTHING, Price, PriceList, tile
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Attention, Block

PREFILL_CHUNK = 8192  # prompt tokens in one pass through the layers; more would not leave room for their activations


@dataclass(frozen=True, slots=True)
class Product:
    """`count` equal products y[m, n] = x[m, k] W[k, n] inside one operator; each sees `share` of the rows.

    `stored`: matrices kept (0: keys or values). `results`: of the `count` results, how many are all-reduced in decode.
    """

    count: Floats
    m: Floats
    k: Floats
    n: Floats
    stored: Floats = 0
    results: Floats = 1
    share: Floats = 1.0


def products(op: Operator, block: Block | None, *, decode: bool) -> list[Product]:
    """The matrix products of `op` as the mesh runs them: what is fused elsewhere is one product a matrix here."""
    s = op.shape
    if op.kind == "gemm":
        return [Product(c, s["m"], s["k"], n, stored=c, results=c) for c, n in _matrices(op, block)]
    if op.kind in ("decode_attention", "prefill_attention"):
        query = s["heads"] * s["head_dim"]  # scores are reduced as one head; nothing is saved by the mask
        count, m = (1, s["batch"]) if decode else (s["batch"], s["q_len"])
        return [Product(count, m, query, s["kv_len"]), Product(count, m, s["kv_len"], query)]
    if op.kind == "moe":
        ups, experts, chosen = s["matrices"] - 1, s["experts"], s["topk"]
        # A decoded token runs its experts one after another; a prompt's tokens are shared out evenly to all of them.
        run, share = (chosen, 1.0) if decode else (experts, chosen / experts)
        return [
            Product(ups * run, s["tokens"], s["hidden"], s["inner"], ups * experts, ups * chosen, share),
            Product(run, s["tokens"], s["inner"], s["hidden"], experts, 1, share),
        ]
    return []


def _matrices(op: Operator, block: Block | None) -> list[tuple[int, Floats]]:
    """(how many, width) of the matrices that lowering fuses into one."""
    if op.name == "attention.qkv" and block is not None and isinstance(block.mixer, Attention):
        key_value = float(block.mixer.kv_heads * block.mixer.head_dim)
        return [(1, op.shape["n"] - 2 * key_value), (2, key_value)]
    return [(2, op.shape["n"] / 2)] if op.name.endswith("gate_up") else [(1, op.shape["n"])]


# All-reduces of an operator in decode, and how many of them carry one value a row: attention reduces its scores, their maximum,
# their sum and its output. A Llama layer has ten, as the released decode kernel has.
_REDUCTIONS: Mapping[str, tuple[int, int]] = {
    "gemm": (1, 0),
    "decode_attention": (4, 2),
    "moe": (2, 0),
    "norm": (1, 1),
    "softmax": (1, 1),
}


def reductions(operators: Iterable[Operator]) -> float:
    """All-reduces of a decode layer."""
    return float(sum(op.count * _REDUCTIONS.get(op.kind, (0, 0))[0] for op in operators))


def decode_price(op: Operator, block: Block | None, prices: PriceList, side: Any, stages: Any, batch: Any) -> Price:
    """One execution of `op` for one token of each of `batch` sequences: GEMVs on weights in place, and their all-reduces.

    Element-wise work is inside the fitted cost of a row, the cache's shift inside that of a layer.
    """
    times, single = _REDUCTIONS.get(op.kind, (0, 0))
    if not times:
        return NOTHING
    total, values = NOTHING, batch * single + np.zeros(())
    for x in products(op, block, decode=True):
        total = total + prices.gemv(side, x.m, x.k, x.n).times(x.count)
        values = values + x.m * x.results * tile(x.n, side)
    # `times` reductions share the operator's payload: each pays its hops and stages.
    return total + prices.all_reduce(side, stages, values / times).times(times)


def prefill_price(op: Operator, block: Block | None, prices: PriceList, side: Any) -> Price:
    """One execution of `op` over whole prompts: a MeshGEMM per product and chunk; the rest is inside the cost of a step."""
    total = NOTHING
    for x in products(op, block, decode=False):
        for passes, rows in _passes(x.m):
            total = total + prices.gemm(side, rows * x.share, x.k, x.n).times(passes * x.count)
    return total


def _passes(rows: Floats) -> Iterator[tuple[Floats, Floats]]:
    """`rows` as full chunks and a rest: (how many, rows of each)."""
    if np.max(rows) <= PREFILL_CHUNK:
        yield 1, rows
        return
    full: FloatArray = np.asarray(np.floor(rows / PREFILL_CHUNK))
    rest = rows - full * PREFILL_CHUNK
    yield full, np.where(full > 0, float(PREFILL_CHUNK), 0.0)
    yield np.asarray(rest > 0, dtype=np.float64), rest
