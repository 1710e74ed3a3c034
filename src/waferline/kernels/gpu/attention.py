"""Decode attention with the cache split along the context (Flash-Decoding, Dao et al. 2023): one query a sequence."""

# mypy: allow-untyped-defs
# Triton reads its kernels as source and knows no annotation but constexpr.
from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from waferline.errors import InvalidInputError

_CHUNK = 64  # keys a step
_SPLIT_KEYS = 512  # keys a program: long contexts fill the GPU even for one sequence
_LEAST_GROUP = 16  # query heads of one key head, padded to a tensor-core tile


@triton.jit
def part_kernel(
    q, k, v, lengths, sums, peaks, mass, scale, kv_heads, context,
    splits, GROUP: tl.constexpr, G: tl.constexpr, D: tl.constexpr, SPLIT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One split of one (sequence, key head): unnormalised values, running maximum and mass of its softmax."""
    pair, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    length = tl.load(lengths + pair // kv_heads)
    g, d = tl.arange(0, G), tl.arange(0, D)
    query = tl.load(q + (pair * GROUP + g[:, None]) * D + d[None, :], mask=(g < GROUP)[:, None], other=0.0)
    peak = tl.full((G,), -float("inf"), tl.float32)
    total = tl.zeros((G,), tl.float32)
    value = tl.zeros((G, D), tl.float32)
    first = split * SPLIT
    for start in range(first, tl.minimum(first + SPLIT, length), CHUNK):
        t = start + tl.arange(0, CHUNK)
        seen = t < length
        at = (pair * context + t[:, None]) * D + d[None, :]
        keys = tl.load(k + at, mask=seen[:, None], other=0.0)
        values = tl.load(v + at, mask=seen[:, None], other=0.0)
        score = tl.where(seen[None, :], tl.dot(query, tl.trans(keys)).to(tl.float32) * scale, -float("inf"))
        higher = tl.maximum(peak, tl.max(score, axis=1))
        fade = tl.exp(peak - higher)
        weight = tl.exp(score - higher[:, None])
        total = total * fade + tl.sum(weight, axis=1)
        value = value * fade[:, None] + tl.dot(weight.to(values.dtype), values).to(tl.float32)
        peak = higher
    out = (pair * splits + split) * GROUP + g
    tl.store(sums + out[:, None] * D + d[None, :], value, mask=(g < GROUP)[:, None])
    tl.store(peaks + out, peak, mask=g < GROUP)
    tl.store(mass + out, total, mask=g < GROUP)


def decode_attention(q: Any, k: Any, v: Any, lengths: Any) -> Any:
    """softmax(q·kᵀ/√d)·v for one new token of each sequence, f32[batch, heads, d].

    q: [batch, heads, d]; k, v: [batch, kv_heads, context, d] (f16, bf16 or f32); lengths: int32[batch], each from 1 to
    context. heads is a multiple of kv_heads, d a power of two of at least 16.
    Raises: InvalidInputError otherwise.
    """
    batch, heads, d = q.shape
    kv_heads, context = k.shape[1], k.shape[2]
    shape = (batch, kv_heads, context, d)
    if tuple(k.shape) != shape or tuple(v.shape) != shape or heads % kv_heads or d < 16 or d & (d - 1):
        raise InvalidInputError(f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}", where="attention")
    if tuple(lengths.shape) != (batch,) or int(lengths.min()) < 1 or int(lengths.max()) > context:
        raise InvalidInputError(f"lengths outside 1 to {context}", where="attention")
    group, splits = heads // kv_heads, triton.cdiv(context, _SPLIT_KEYS)
    parts = (batch * kv_heads, splits, group)
    sums = torch.empty((*parts, d), dtype=torch.float32, device=q.device)
    peaks, mass = (torch.empty(parts, dtype=torch.float32, device=q.device) for _ in range(2))
    part_kernel[(batch * kv_heads, splits)](
        q.contiguous(), k.contiguous(), v.contiguous(), lengths.to(torch.int32), sums, peaks, mass, 1 / math.sqrt(d),
        kv_heads, context, splits, GROUP=group, G=max(_LEAST_GROUP, triton.next_power_of_2(group)), D=d,
        SPLIT=_SPLIT_KEYS, CHUNK=_CHUNK,
    )  # fmt: skip
    # Join the splits: those past a sequence's end have mass 0 and peak -inf, so they weigh nothing.
    weight = torch.exp(peaks - peaks.amax(1, keepdim=True))
    joined = (sums * weight[..., None]).sum(1) / (mass * weight).sum(1)[..., None]
    return joined.reshape(batch, heads, d)
