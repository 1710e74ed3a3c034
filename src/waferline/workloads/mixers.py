"""Sequence mixers lowered to operators: attention, latent attention, state space, linear attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum, where
from waferline.workloads.build import Builder, cached_tokens, causal_pairs
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import (
    Attention,
    CompressedAttention,
    LatentAttention,
    LinearAttention,
    Mixer,
    Recurrent,
    SoftmaxAttention,
    StateSpace,
)

_STATE_BYTES = 4.0  # recurrent states are kept in fp32 (mamba_ssm and fla kernels)


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass: `batch` sequences with `q_len` new tokens each, ending contexts of `kv_len` tokens.

    `memory`: encoder states of each sequence that cross-attention sees.
    """

    batch: Floats
    q_len: Floats
    kv_len: Floats
    decode: bool
    parallel: Parallel
    memory: Floats = 0.0

    @property
    def tokens(self) -> Floats:
        return self.batch * self.q_len


def shard(size: float, ranks: Floats) -> Floats:
    """Elements of a dimension that one tensor-parallel rank holds; at least one."""
    return maximum(size / ranks, 1.0)


def attention(b: Builder, a: Attention, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Projections, rotary embedding, KV append, attention and output projection of one rank."""
    tp = p.parallel.tp
    heads, kv_heads = shard(a.heads, tp), shard(a.kv_heads, tp)
    queries = heads * a.head_dim * (2 if a.output_gate else 1) + heads * a.head_gate
    keys = 0.0 if a.shared_kv else kv_heads * a.head_dim
    values = 0.0 if a.shared_kv or a.value_is_key else kv_heads * a.v_head_dim
    kept = 0.0 if a.shared_kv else kv_heads * (a.head_dim + a.v_head_dim)
    yield b.gemm("attention.qkv", p.tokens, queries + keys + values, hidden, count=count)
    if a.causal:  # encoders look positions up in a table, and keep no cache
        yield b.streaming(
            "attention.rope", "elementwise", p.tokens * (heads * a.head_dim + keys), passes=2, count=count, flops_each=6
        )
    if a.causal and not a.shared_kv:
        yield b.operator(
            "attention.kv_append",
            "elementwise",
            count=count,
            kv_bytes=p.tokens * kept * b.kv_bytes,
            shape={"elements": p.tokens * kept},
        )
    if a.index_topk:
        yield b.gemm("attention.index", p.tokens, (a.index_heads + 1) * a.index_head_dim, hidden, count=count)
        yield _index_scores(b, a, count, p)
    yield _softmax_attention(b, a, heads, kv_heads, count, p)
    yield b.gemm("attention.out", p.tokens, hidden, heads * a.v_head_dim, count=count)


def _softmax_attention(b: Builder, a: Attention, heads: Floats, kv_heads: Floats, count: Floats, p: Pass) -> Operator:
    if a.causal:
        window = _window(a, p.kv_len)
        pairs, read = causal_pairs(p.q_len, p.kv_len, window), cached_tokens(p.q_len, p.kv_len, window)
    else:
        pairs, read = p.q_len * (p.kv_len if a.window is None else minimum(p.kv_len, float(a.window))), p.kv_len
    seen = p.kv_len if a.window is None else minimum(p.kv_len, float(a.window)) if p.decode else p.kv_len
    if a.index_topk:  # each query attends to the tokens that the indexer picked
        pairs = minimum(pairs, p.q_len * float(a.index_topk))
        if p.decode:
            seen, read = minimum(seen, float(a.index_topk)), minimum(read, float(a.index_topk))
    return b.attention(
        "attention.core",
        "decode_attention" if p.decode else "prefill_attention",
        batch=p.batch,
        q_len=p.q_len,
        kv_len=seen,
        pairs=pairs,
        kv_read=read,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=a.head_dim,
        v_head_dim=a.v_head_dim,
        kv_elements=kv_heads * (a.head_dim + a.v_head_dim),
        count=count,
    )


def _index_scores(b: Builder, a: Attention | CompressedAttention, count: Floats, p: Pass) -> Operator:
    """A light score of every cached token, or entry, by the indexer's heads; its keys are read once a sequence."""
    each = a.ratio if isinstance(a, CompressedAttention) else 1
    return b.operator(
        "attention.index_scores",
        "elementwise",
        count=count,
        flops=2.0 * p.batch * a.index_heads * a.index_head_dim * causal_pairs(p.q_len, p.kv_len, None) / each,
        kv_bytes=p.batch * p.kv_len * index_key_bytes(a),
        shape={"elements": p.batch * p.kv_len / each * a.index_head_dim},
        activations=b.wide,
    )


def _window(a: Attention, kv_len: Floats) -> Floats | None:
    """Tokens a query sees at most; with chunks that start anew (Llama 4), half a chunk on average once past the first."""
    if a.window is None:
        return None
    return where(kv_len > a.window, a.window / 2, float(a.window)) if a.chunked else float(a.window)


def cross_attention(b: Builder, a: Attention, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Attention of the decoder over encoder states, whose keys and values the prefill computes once and keeps."""
    heads, kv_heads = shard(a.heads, p.parallel.tp), shard(a.kv_heads, p.parallel.tp)
    yield b.gemm("cross.q", p.tokens, heads * a.head_dim, hidden, count=count)
    if not p.decode:
        yield b.gemm("cross.kv", p.batch * p.memory, 2 * kv_heads * a.head_dim, hidden, count=count)
    yield b.attention(
        "cross.core",
        "decode_attention" if p.decode else "prefill_attention",
        batch=p.batch,
        q_len=p.q_len,
        kv_len=p.memory,
        pairs=p.q_len * p.memory,
        kv_read=p.memory,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=a.head_dim,
        v_head_dim=a.head_dim,
        kv_elements=2 * kv_heads * a.head_dim,
        count=count,
    )
    yield b.gemm("cross.out", p.tokens, hidden, heads * a.head_dim, count=count)


def latent_attention(b: Builder, a: LatentAttention, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """MLA: prefill expands the latent to full heads; decode absorbs the up-projections and attends in latent space."""
    heads = shard(a.heads, p.parallel.tp)
    latent, rope, nope, v_dim = a.kv_lora_rank, a.qk_rope_head_dim, a.qk_nope_head_dim, a.v_head_dim
    q_down = a.q_lora_rank or 0
    gate = heads * (a.head_gate + a.full_gate * v_dim)
    yield b.gemm(
        "attention.down", p.tokens, q_down + latent + rope + gate, hidden, count=count
    )  # replicated on every rank
    yield b.gemm("attention.q_up", p.tokens, heads * a.head_dim, q_down or hidden, count=count)
    if a.index_topk and not a.index_shared:
        yield b.gemm("attention.index_q", p.tokens, a.index_heads * a.index_head_dim, q_down or hidden, count=count)
        yield b.gemm("attention.index_k", p.tokens, a.index_head_dim + a.index_heads, hidden, count=count)
    yield b.operator(
        "attention.kv_append",
        "elementwise",
        count=count,
        kv_bytes=p.tokens * (latent + rope) * b.kv_bytes,
        shape={"elements": p.tokens * (latent + rope)},
    )
    if p.decode:
        yield b.gemm("attention.q_absorb", p.tokens, heads * latent, float(nope), count=count)
        yield _mla_decode(b, a, heads, count, p)
        yield b.gemm("attention.v_up", p.tokens, heads * v_dim, float(latent), count=count)
    else:
        yield b.gemm("attention.kv_up", p.tokens, heads * (nope + v_dim), float(latent), count=count)
        yield b.attention(
            "attention.core",
            "mla_prefill",
            batch=p.batch,
            q_len=p.q_len,
            kv_len=p.kv_len,
            pairs=causal_pairs(p.q_len, p.kv_len, a.window),
            kv_read=p.kv_len,
            heads=heads,
            kv_heads=heads,
            head_dim=float(a.head_dim),
            v_head_dim=float(v_dim),
            kv_elements=heads * (a.head_dim + v_dim),
            count=count,
        )
    yield b.gemm("attention.out", p.tokens, hidden, heads * v_dim, count=count)


def _mla_decode(b: Builder, a: LatentAttention, heads: Floats, count: Floats, p: Pass) -> Operator:
    """Every head reads the same latent: 2·(latent + rope) FLOPs for scores and 2·latent for values per cached token.

    With an indexer (DeepSeek-V3.2) each query attends to `index_topk` tokens, after a light score of every one.
    """
    latent, rope = a.kv_lora_rank, a.qk_rope_head_dim
    attended = minimum(p.kv_len, float(a.index_topk)) if a.index_topk else p.kv_len
    scored = 0.0 if a.index_shared else p.kv_len
    index_flops = 2.0 * p.batch * a.index_heads * a.index_head_dim * scored
    return b.operator(
        "attention.core",
        "mla_decode",
        count=count,
        flops=2.0 * p.batch * heads * attended * (2 * latent + rope) + index_flops,
        activation_bytes=p.batch * heads * (2 * latent + rope) * b.residual_bytes,
        kv_bytes=p.batch * (attended * (latent + rope) * b.kv_bytes + p.kv_len * index_key_bytes(a)),
        shape={"batch": p.batch, "kv_len": attended, "heads": heads, "latent": float(latent), "rope": float(rope)},
        activations=b.wide,
    )


def compressed_attention(b: Builder, a: CompressedAttention, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """DeepSeek-V4: a shared key that is its value, compressed entries of the far past, a grouped output projection."""
    tp, width = p.parallel.tp, float(a.head_dim)
    heads, groups = shard(a.heads, tp), shard(a.output_groups, tp)
    entries = 2 * a.series * a.head_dim if a.ratio else 0  # keys and gates of the compressor
    yield b.gemm("attention.down", p.tokens, a.q_lora_rank + a.head_dim + entries, hidden, count=count)  # on every rank
    yield b.gemm("attention.q_up", p.tokens, heads * width, a.q_lora_rank, count=count)
    if a.index_topk:
        yield b.gemm("attention.index_q", p.tokens, a.index_heads * a.index_head_dim, a.q_lora_rank, count=count)
        yield b.gemm("attention.index_k", p.tokens, 4 * a.index_head_dim + a.index_heads, hidden, count=count)
    kept = p.tokens * width * (1.0 + (1.0 / a.ratio if a.ratio else 0.0))
    yield b.operator(
        "attention.kv_append", "elementwise", count=count, kv_bytes=kept * b.kv_bytes, shape={"elements": kept}
    )
    pairs, read = causal_pairs(p.q_len, p.kv_len, float(a.window)), cached_tokens(p.q_len, p.kv_len, float(a.window))
    if a.ratio:
        far, entry = causal_pairs(p.q_len, p.kv_len, None) / a.ratio, p.kv_len / a.ratio
        if a.index_topk:
            yield _index_scores(b, a, count, p)
            far = minimum(far, p.q_len * float(a.index_topk))
            entry = minimum(entry, float(a.index_topk)) if p.decode else entry
        pairs, read = pairs + far, read + entry
    yield b.attention(
        "attention.core",
        "decode_attention" if p.decode else "prefill_attention",
        batch=p.batch,
        q_len=p.q_len,
        kv_len=read,
        pairs=pairs,
        kv_read=read,
        heads=heads,
        kv_heads=1.0,
        head_dim=width,
        v_head_dim=width,
        kv_elements=width,
        count=count,
    )
    yield b.gemm("attention.out_down", p.tokens, groups * a.output_rank, a.heads * width / a.output_groups, count=count)
    yield b.gemm("attention.out", p.tokens, hidden, groups * a.output_rank, count=count)


def state_space(b: Builder, s: StateSpace, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Mamba: input projection, causal convolution, selective scan, output projection (arXiv:2405.21060, section 6)."""
    tp = p.parallel.tp
    inner = shard(s.inner, tp)
    if s.heads is None:  # Mamba-1: x and z, then Δ, B, C from x
        yield b.gemm("mixer.in", p.tokens, 2 * inner, hidden, count=count)
        yield b.gemm("mixer.x", p.tokens, float((s.dt_rank or 0) + 2 * s.state), inner, count=count)
        yield b.gemm("mixer.dt", p.tokens, inner, float(s.dt_rank or 1), count=count)
        channels = inner
    else:
        channels = inner + 2 * s.groups * s.state
        yield b.gemm("mixer.in", p.tokens, inner + channels + shard(s.heads, tp), hidden, count=count)
    yield b.streaming(
        "mixer.conv", "elementwise", p.tokens * channels, passes=2, count=count, flops_each=2 * s.conv_kernel
    )
    yield _scan(b, inner * s.state, p.tokens * channels, 6.0, count, p)
    yield b.gemm("mixer.out", p.tokens, hidden, inner, count=count)


def linear_attention(b: Builder, s: LinearAttention, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Gated delta rule: q, k, v, gate and decay projections, short convolution, recurrent state of key × value."""
    tp = p.parallel.tp
    keys, values = shard(s.key_heads * s.key_dim, tp), shard(s.value_heads * s.value_dim, tp)
    yield b.gemm("mixer.in", p.tokens, 2 * keys + 2 * values + 2 * shard(s.value_heads, tp), hidden, count=count)
    channels = 2 * keys + values
    yield b.streaming(
        "mixer.conv", "elementwise", p.tokens * channels, passes=2, count=count, flops_each=2 * s.conv_kernel
    )
    yield _scan(b, values * s.key_dim, p.tokens * channels, 8.0, count, p)
    yield b.gemm("mixer.out", p.tokens, hidden, values, count=count)


def recurrent(b: Builder, r: Recurrent, hidden: int, count: Floats, p: Pass) -> Iterator[Operator]:
    """Projections, gates through their bottleneck, short convolution, recurrence and output projection of one rank."""
    tp = p.parallel.tp
    channels = shard(r.conv_channels, tp)
    yield b.gemm("mixer.in", p.tokens, shard(r.inputs, tp), hidden, count=count)
    if r.low_rank:
        yield b.gemm("mixer.low_rank", p.tokens, shard(r.low_rank / hidden, tp), hidden, count=count)
    if r.conv_channels:
        yield b.streaming(
            "mixer.conv", "elementwise", p.tokens * channels, passes=2, count=count, flops_each=2 * r.conv_kernel
        )
    if r.state:
        yield _scan(b, shard(r.state, tp), p.tokens * shard(r.inputs, tp), 8.0, count, p)
    yield b.gemm("mixer.out", p.tokens, hidden, shard(r.outputs, tp), count=count)


def _scan(b: Builder, state: Floats, streamed: Floats, flops_each: float, count: Floats, p: Pass) -> Operator:
    """Recurrent update of `state` elements per sequence: `flops_each` per element and token; the state is read and written."""
    return b.operator(
        "mixer.scan",
        "scan",
        count=count,
        flops=flops_each * p.tokens * state,
        activation_bytes=2 * streamed * b.residual_bytes,
        kv_bytes=2 * p.batch * state * _STATE_BYTES,
        shape={"batch": p.batch, "q_len": p.q_len, "elements": p.batch * state},
        activations=b.wide,
    )


LOWER: dict[type[Mixer], Callable[..., Iterator[Operator]]] = {
    Attention: attention,
    LatentAttention: latent_attention,
    CompressedAttention: compressed_attention,
    StateSpace: state_space,
    LinearAttention: linear_attention,
    Recurrent: recurrent,
}


def index_key_bytes(mixer: Mixer) -> float:
    """Bytes of the indexer's key that one token adds to one layer's cache: FP8, with an FP32 scale for 128 elements.

    vLLM's and SGLang's `index_k` cache for DeepSeek sparse attention: 128 + 4 bytes.
    """
    if not isinstance(mixer, SoftmaxAttention) or not mixer.index_topk:
        return 0.0
    if isinstance(mixer, LatentAttention) and mixer.index_shared:
        return 0.0
    each = mixer.ratio if isinstance(mixer, CompressedAttention) else 1
    return (mixer.index_head_dim + 4.0 * math.ceil(mixer.index_head_dim / 128)) / each


def state_elements_per_sequence(mixer: Mixer) -> int:
    """Elements of constant-size state one sequence keeps in one layer: the recurrence, and the last `conv_kernel - 1` inputs."""
    if isinstance(mixer, StateSpace):
        channels = mixer.inner if mixer.heads is None else mixer.inner + 2 * mixer.groups * mixer.state
        return mixer.inner * mixer.state + channels * (mixer.conv_kernel - 1)
    if isinstance(mixer, LinearAttention):
        channels = 2 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim
        return mixer.value_heads * mixer.value_dim * mixer.key_dim + channels * (mixer.conv_kernel - 1)
    if isinstance(mixer, Recurrent):
        return mixer.state + mixer.conv_channels * max(mixer.conv_kernel - 1, 0)
    return 0
