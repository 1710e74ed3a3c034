"""How many parameters a model has, where they sit, and how many of them one token meets.

`total` follows the published convention: everything a forward pass uses, tied embeddings once, multi-token-prediction
modules and poolers apart (`extra`). `active_per_token` counts the embedding table whole, as Mixtral (12.9 B of 46.7 B)
and DeepSeek-V3 (37 B of 671 B) do; gpt-oss leaves the table out, which is `active_without_embedding`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from waferline.workloads.spec import (
    Attention,
    Block,
    CompressedAttention,
    ConvNet,
    FeedForward,
    Ffn,
    LatentAttention,
    LinearAttention,
    Mixer,
    MixtureOfExperts,
    ModelSpec,
    Recurrent,
    StateSpace,
    Transformer,
)
from waferline.workloads.streams import StreamNet


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by part. `attention` holds every sequence mixer, `experts` all routed experts of all layers."""

    embedding: int = 0  # tokens, positions, segments
    head: int = 0  # 0 when tied to the embedding
    attention: int = 0
    ffn: int = 0  # dense feed-forward parts
    shared_experts: int = 0
    router: int = 0
    experts: int = 0
    experts_active: int = 0  # of `experts`, those one token takes
    norms: int = 0
    other: int = 0  # stem, relative positions, convolutions
    extra: int = 0  # stored, not used in a forward pass; not in `total`
    tower: int = 0  # encoders of images and audio with their projectors; not in `total`, which is the language model's
    macs: int = 0  # ConvNet alone: multiply-accumulates of one input

    @property
    def total(self) -> int:
        return self._fixed + self.experts

    @property
    def with_towers(self) -> int:
        """`total` and the towers: what the page of a multimodal checkpoint counts."""
        return self.total + self.tower

    @property
    def active_per_token(self) -> int:
        """Parameters one token meets, the embedding table counted whole."""
        return self._fixed + self.experts_active

    @property
    def active_without_embedding(self) -> int:
        """As `active_per_token`, less an embedding table that is only looked up (a tied one also is the head)."""
        return self.active_per_token - (self.embedding if self.head else 0)

    @property
    def _fixed(self) -> int:
        parts = (self.embedding, self.head, self.attention, self.ffn, self.shared_experts, self.router)
        return sum(parts) + self.norms + self.other

    def __add__(self, other: ParameterCount) -> ParameterCount:
        return ParameterCount(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: int) -> ParameterCount:
        return ParameterCount(*(getattr(self, f.name) * times for f in fields(self)))


def parameter_count(spec: ModelSpec) -> ParameterCount:
    """Parameters of `spec` by part, exact for the structure it states."""
    if isinstance(spec, StreamNet):
        return ParameterCount(other=spec.params)
    return _convnet(spec) if isinstance(spec, ConvNet) else _transformer(spec)


def _convnet(net: ConvNet) -> ParameterCount:
    return ParameterCount(other=sum(x.params for x in net.layers), macs=sum(x.macs for x in net.layers))


def _transformer(t: Transformer) -> ParameterCount:
    width = t.embedding_size or t.hidden_size
    table = t.vocab_size * width
    # A decoder with a narrow table (OPT-350M) projects into and out of it; an encoder (ELECTRA) into it alone, with a
    # bias, and keeps positions and norm at the narrow width.
    position_width = t.hidden_size if t.has_head else width
    embedding = table + (t.learned_positions + t.token_types) * position_width + t.lookup_params
    projections = 0 if width == t.hidden_size else t.hidden_size * (2 * width if t.has_head else width + 1)
    head = 0 if t.tied_embeddings or not t.has_head else table
    head += t.vocab_size * t.head_bias + t.head_classes * (t.hidden_size + 1)
    norm = _norm_size(t)
    sides = 2 if t.encoder else 1
    norms = sides * (norm * t.final_norm + t.embedding_norm * norm * position_width // t.hidden_size)
    count = ParameterCount(
        embedding=embedding,
        head=head,
        norms=norms,
        other=projections + t.stem_params + t.position_params,
        extra=t.extra_params,
        tower=sum(tower.params for tower in t.towers),
    )
    for block in (*t.encoder, *t.blocks):
        count += layer_count(block, t.hidden_size, norm) * (block.count if block.distinct is None else block.distinct)
    return count


def _norm_size(t: Transformer) -> int:
    return t.hidden_size * (t.norm_weight + (t.norm_bias and t.norm_weight))


def layer_count(block: Block, hidden: int, norm: int) -> ParameterCount:
    """Parameters of one layer of `block`; `norm` is the size of one norm."""
    attention = sum(_MIXERS[type(m)](m, hidden) for m in (*block.mixers, block.cross) if m is not None)
    count = ParameterCount(attention=attention, norms=norm * block.norms, other=block.side)
    return count if block.ffn is None else count + _FFNS[type(block.ffn)](block.ffn, hidden)


def multi_token_prediction(block: Block, hidden: int) -> int:
    """Parameters of one module that predicts a further token: a layer like the last, a 2h → h projection, three norms.

    Its embedding and head are the main model's (DeepSeek-V3 report, section 2.2).
    """
    return layer_count(block, hidden, hidden).total + 2 * hidden * hidden + 3 * hidden


def _attention(a: Attention, hidden: int) -> int:
    q, out = a.heads * a.head_dim, a.heads * a.v_head_dim
    k = 0 if a.shared_kv else a.kv_heads * a.head_dim
    v = 0 if a.shared_kv or a.value_is_key else a.kv_heads * a.v_head_dim
    key_bias = a.qkv_bias if a.key_bias is None else a.key_bias
    weights = hidden * (q * (2 if a.output_gate else 1) + k + v) + out * hidden
    biases = a.qkv_bias * (q + v) + key_bias * k + a.out_bias * hidden
    norms = (1 if a.shared_kv else 2) * a.head_dim * a.qk_norm + (q + k) * a.qk_norm_full + a.inner_norm * out
    return weights + biases + norms + a.sinks * a.heads + a.head_gate * a.heads * hidden + _key_indexer(a, hidden)


def _key_indexer(a: Attention, hidden: int) -> int:
    """MiniMax-M3: index queries and one index key, each with a norm."""
    return (a.index_heads + 1) * a.index_head_dim * hidden + 2 * a.index_head_dim if a.index_topk else 0


def _latent_attention(a: LatentAttention, hidden: int) -> int:
    q_in = a.q_lora_rank or hidden
    query = q_in * a.heads * a.head_dim + (a.q_lora_rank * (hidden + 1) if a.q_lora_rank else 0)
    key_value = hidden * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank
    expand = a.kv_lora_rank * a.heads * (a.qk_nope_head_dim + a.v_head_dim)
    gate = a.head_gate * a.heads + a.full_gate * a.heads * a.v_head_dim
    return query + key_value + expand + (a.heads * a.v_head_dim + gate) * hidden + _indexer(a, hidden)


def _indexer(a: LatentAttention, hidden: int) -> int:
    """Lightning indexer (DeepSeek-V3.2-Exp report, section 2.1): queries, one key with its LayerNorm, head weights."""
    if not a.index_topk or a.index_shared:
        return 0
    queries = (a.q_lora_rank or hidden) * a.index_heads * a.index_head_dim
    return queries + hidden * a.index_head_dim + 2 * a.index_head_dim + hidden * a.index_heads


def _compressed_attention(a: CompressedAttention, hidden: int) -> int:
    """Queries, the shared key, the grouped output, sinks; keys and gates of the compressor, and those of its indexer."""
    wide, width = a.heads * a.head_dim, a.head_dim
    query = a.q_lora_rank * (hidden + wide + 1)
    out = a.output_rank * (wide + a.output_groups * hidden)
    total = query + (hidden + 1) * width + out + a.heads
    if a.ratio:
        total += a.series * width * (2 * hidden + a.ratio) + width
    if a.index_topk:
        keys = 2 * a.index_head_dim * (2 * hidden + a.ratio) + a.index_head_dim
        total += keys + a.q_lora_rank * a.index_heads * a.index_head_dim + hidden * a.index_heads
    return total


def _state_space(s: StateSpace, hidden: int) -> int:
    out = s.inner * hidden + s.proj_bias * hidden
    if s.heads is not None:  # Mamba-2: z, x, B, C and one Δ per head; A, D, Δ bias; gated norm
        channels = s.inner + 2 * s.groups * s.state
        projected = s.inner + channels + s.heads
        conv = channels * (s.conv_kernel + s.conv_bias)
        return hidden * projected + s.proj_bias * projected + conv + 3 * s.heads + s.gated_norm * s.inner + out
    rank = s.dt_rank or 0
    conv = s.inner * (s.conv_kernel + s.conv_bias)
    low_rank = s.inner * (rank + 2 * s.state) + (rank + 1) * s.inner
    norms = s.inner_norms * (rank + 2 * s.state)
    return 2 * s.inner * (hidden + s.proj_bias) + conv + low_rank + s.inner * (s.state + 1) + norms + out


def _linear_attention(a: LinearAttention, hidden: int) -> int:
    keys, values = a.key_heads * a.key_dim, a.value_heads * a.value_dim
    projections = hidden * (2 * keys + 2 * values + 2 * a.value_heads)  # q, k, v, output gate; β and α per value head
    conv = (2 * keys + values) * a.conv_kernel
    return projections + conv + 2 * a.value_heads + a.value_dim + values * hidden


def _recurrent(r: Recurrent, hidden: int) -> int:
    return hidden * (r.inputs + r.outputs) + r.conv_channels * r.conv_kernel + r.low_rank + r.small


def _matrices(hidden: int, intermediate: int, gated: bool, bias: bool) -> int:
    """Weights of one feed-forward part: up (and gate), down."""
    ups = 2 if gated else 1
    return (ups + 1) * hidden * intermediate + bias * (ups * intermediate + hidden)


def _feed_forward(f: FeedForward, hidden: int) -> ParameterCount:
    inner_norm = f.inner_norm * f.intermediate
    return ParameterCount(ffn=_matrices(hidden, f.intermediate, f.gated, f.bias) + inner_norm)


def _mixture(m: MixtureOfExperts, hidden: int) -> ParameterCount:
    width = m.latent or hidden
    one = _matrices(width, m.intermediate, m.gated, m.bias)
    shared = _matrices(hidden, m.shared_intermediate, m.gated, m.bias) if m.shared_intermediate else 0
    return ParameterCount(
        shared_experts=shared + m.shared_gate * hidden + (2 * hidden * width if m.latent else 0),
        router=hidden * m.experts + m.router_bias * m.experts,
        experts=one * m.experts,
        experts_active=one * m.experts_per_token,
    )


_MIXERS: dict[type[Mixer], Callable[[Any, int], int]] = {
    Attention: _attention,
    LatentAttention: _latent_attention,
    CompressedAttention: _compressed_attention,
    StateSpace: _state_space,
    LinearAttention: _linear_attention,
    Recurrent: _recurrent,
}
_FFNS: dict[type[Ffn], Callable[[Any, int], ParameterCount]] = {FeedForward: _feed_forward, MixtureOfExperts: _mixture}
