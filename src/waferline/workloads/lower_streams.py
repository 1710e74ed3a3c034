"""Networks over streams of rows lowered to operators."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from waferline.arrays import Floats
from waferline.elementwise import anywhere, ceil
from waferline.workloads.build import Builder
from waferline.workloads.mixers import shard
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel
from waferline.workloads.streams import Matrix, Scores, Stage, StreamNet

_ACT_PASSES = 2.0
# Kernels of a diffusion layer that pass over its rows where nothing is fused: modulation, gates, rotation and norms in fp32, splits
# and joins. The number with which eager rows of one device (FLUX, CogVideoX, SD3, HunyuanVideo on four GPUs) lie right.
_UNFUSED = 60.0
_EXCHANGES = 4.0  # of an attention whose rows are divided: queries, keys and values before it, results after
# After each step of a ring its part is merged with those before in fp32 (`_update_out_and_lse` of zhuzilin's ring-flash-attention,
# which xDiT calls): kernels over the results, which pass 19 times over their 16 bits together, and small ones: five over a number a
# row and head, and those that send and receive keys and values.
_MERGES, _MERGE_PASSES, _SMALL = 4.0, 19.0 / 4.0, 9.0


def lower_streams(
    net: StreamNet,
    b: Builder,
    batch: Floats,
    *,
    parallel: Parallel | None = None,
    sharing: Floats = 1.0,
    ring: Floats = 1.0,
    eager: bool = False,
    prefix: str = "",
    times: Any = 1.0,
    weights: str | None = None,
) -> Iterator[Operator]:
    """Operators of one pass over `batch` samples, repeated `times`; of one tensor-parallel rank.

    sharing: devices among which the rows of each sample are divided, with all weights on each: before and after attention every
    one of them sends its rows of queries, keys, values and results to the others (DeepSpeed-Ulysses, as in xDiT). ring: of those,
    how many keep their queries instead while keys and values go round, hidden behind attention to those before. eager: nothing
    is fused.
    weights: format of every matrix, where it is not the precision's (a tower stays wide beside a quantized decoder).
    """
    rows = {name: batch * _own(name, n, sharing) for name, n in net.grid.rows().items()}
    for stage in net.stages:
        yield from _stage(
            stage,
            net,
            b,
            batch,
            rows,
            parallel or Parallel(),
            (sharing, ring),
            prefix,
            times * float(stage.count),
            weights,
        )
        if eager and net.steps and stage.scores:
            elements, kernels = rows[stage.rows] * float(stage.width), times * float(stage.count) * _UNFUSED
            yield b.streaming(
                f"{prefix}{stage.name}.unfused", "elementwise", elements, passes=3, count=kernels, flops_each=1
            )


def _own(stream: str, rows: int, sharing: Floats) -> Floats:
    """Rows of one device; what conditions a sample is on each."""
    return float(rows) if stream in ("vectors", "once") else ceil(rows / sharing)


def _stage(
    stage: Stage,
    net: StreamNet,
    b: Builder,
    batch: Floats,
    rows: dict[str, Floats],
    parallel: Parallel,
    shared: tuple[Floats, Floats],
    prefix: str,
    count: Floats,
    weights: str | None,
) -> Iterator[Operator]:
    name, tp = f"{prefix}{stage.name}", parallel.tp
    if stage.conv_flops:
        yield b.operator(
            f"{name}.conv",
            "conv",
            count=count,
            flops=batch * float(stage.conv_flops) / shared[0],
            weight_bytes=float(stage.conv_params) * b.weight_bytes,
            activation_bytes=2.0 * rows[stage.rows] * stage.width * b.residual_bytes,
            shape=_mean_shape(stage, batch),
        )
    if stage.norms:
        elements = rows[stage.rows] * float(stage.width)
        yield b.streaming(f"{name}.norm", "norm", elements, passes=4, count=count * stage.norms, flops_each=6)
    for matrix in stage.matrices:
        yield from _matrix(matrix, name, b, rows, tp, count, weights)
    for i, scores in enumerate(stage.scores):
        yield from _scores(scores, f"{name}.core{i or ''}", net, b, batch, tp, shared, count)
    if stage.inner:
        elements = rows[stage.rows] * shard(stage.inner, tp)
        yield b.streaming(f"{name}.act", "elementwise", elements, passes=_ACT_PASSES, count=count, flops_each=5)


def _mean_shape(stage: Stage, batch: Floats) -> dict[str, Floats]:
    """Many convolutions given by their totals, as one product of a square of all their weights."""
    side = math.sqrt(stage.conv_params)
    return {"m": batch * (stage.conv_flops / 2.0 / stage.conv_params), "n": side, "k": side}


def _matrix(
    m: Matrix, name: str, b: Builder, rows: dict[str, Floats], tp: Floats, count: Floats, weights: str | None
) -> Iterator[Operator]:
    k = shard(m.k, tp) if m.split == "k" else float(m.k)
    n = shard(m.n, tp) if m.split == "n" else float(m.n)
    yield b.gemm(f"{name}.{m.name}", rows[m.rows], n, k, count=count * m.count, weights=weights)
    if m.split == "k" and anywhere(tp > 1.0):
        payload = rows[m.rows] * float(m.n) * b.residual_bytes
        yield b.collective("all_reduce", f"{name}.all_reduce", payload, tp, count=count * m.count)


def _scores(
    s: Scores,
    name: str,
    net: StreamNet,
    b: Builder,
    batch: Floats,
    tp: Floats,
    shared: tuple[Floats, Floats],
    count: Floats,
) -> Iterator[Operator]:
    # Every device has all of the text: attention to it exchanges nothing.
    sharing, ring = shared[0], shared[1] if s.keys != "text" else 1.0
    streams = net.grid.rows()
    queries, keys = ceil(streams[s.queries] / sharing), float(streams[s.keys])
    seen = min(keys, float(s.window or keys))
    kv_heads = shard(s.kv_heads or s.heads, tp)
    results = batch * queries * float(s.heads * s.head_dim)
    heads_among = sharing / ring
    if s.keys != "text" and anywhere(heads_among > 1.0):
        payload = results * b.residual_bytes
        yield b.collective("all_to_all", f"{name}.all_to_all", payload, heads_among, count=_EXCHANGES * count)
    yield b.attention(
        name,
        "prefill_attention",
        batch=batch,
        q_len=queries,
        kv_len=seen / ring,
        pairs=queries * seen / ring,
        kv_read=keys / ring,
        heads=shard(s.heads, tp),
        kv_heads=kv_heads,
        head_dim=s.head_dim,
        v_head_dim=s.head_dim,
        kv_elements=2 * kv_heads * s.head_dim,
        count=count * ring,
    )
    if anywhere(ring > 1.0):
        sums = batch * queries * float(s.heads)
        for what, elements, kernels, passes in (
            ("merge", results, _MERGES, _MERGE_PASSES),
            ("sums", sums, _SMALL, 6.0),
        ):
            times = count * kernels * (ring - 1.0)
            yield b.streaming(f"{name}.{what}", "elementwise", elements, passes=passes, count=times, flops_each=1)
