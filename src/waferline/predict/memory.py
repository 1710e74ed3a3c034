"""Does it fit: weights, KV cache, activations and workspace of one device against what it has."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.arrays import Floats
from waferline.elementwise import floor, maximum, minimum, where
from waferline.formats import Precision, get_format
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.workloads.mixers import state_elements_per_sequence
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Attention, Block, FeedForward, LatentAttention, MixtureOfExperts, Transformer
from waferline.workloads.stored import part_bytes

_RESIDUAL_BYTES = 2.0  # activations between operators
_STATE_BYTES = 4.0  # recurrent state, fp32


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on ONE device, the fullest of its group. Arrays over scenarios."""

    weights_bytes: Floats
    kv_bytes: Floats
    activation_bytes: Floats
    workspace_bytes: Floats
    kv_bytes_per_token: Floats  # of one sequence, all layers, all devices of a replica
    sequence_bytes: Floats  # KV cache and state of one sequence
    prompt_bytes: Floats  # activations of one sequence's prompt; those of all prompts stop growing at a full chunk
    chunk_bytes: Floats

    def most_sequences(self, capacity_bytes: float) -> Floats:
        """The most sequences that `capacity_bytes` hold: one more does not fit."""
        free = maximum(capacity_bytes - self.weights_bytes - self.workspace_bytes, 0.0)
        chunked = floor(maximum(free - self.chunk_bytes, 0.0) / maximum(self.sequence_bytes, 1.0))
        few = floor(free / maximum(self.sequence_bytes + self.prompt_bytes, 1.0))
        return where(chunked * self.prompt_bytes >= self.chunk_bytes, chunked, few)

    @property
    def total_bytes(self) -> Floats:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.workspace_bytes


def model_weight_bytes(model: Transformer, precision: Precision) -> float:
    """Bytes of all weights as stored, all devices together: exact where its files were seen, from formats otherwise."""
    return float(sum(part_bytes(model, precision).values()))


def resident_bytes(model: Transformer, precision: Precision, parallel: Parallel) -> Floats:
    """Weights that one device of a replica works on, on average: what a nearer memory level would have to hold."""
    parts = part_bytes(model, precision)
    dense = sum(parts.values()) - parts["experts"] - parts["tower"]
    return dense / (parallel.tp * parallel.pp) + parts["experts"] / (_expert_ranks(parallel) * parallel.pp)


def _expert_ranks(parallel: Parallel) -> Floats:
    """Devices of one stage that a layer's experts are spread over."""
    return maximum(parallel.ep, 1.0) * maximum(parallel.tp / parallel.ep, 1.0)


def footprint(
    model: Transformer,
    device: Device,
    engine: Engine,
    precision: Precision,
    *,
    sequences: Floats,
    tokens: Floats,
    prompt: Floats,
    parallel: Parallel,
    memory: Floats = 0.0,
) -> Footprint:
    """Memory of one device when `sequences` sequences hold `tokens` tokens each and prompts of `prompt` are prefilled.

    `memory`: encoder states whose keys and values each sequence keeps, too.
    """
    parts = part_bytes(model, precision)
    tp, pp = parallel.tp, parallel.pp
    weights = parts["blocks"] / (tp * pp) + parts["experts"] / (_expert_ranks(parallel) * pp)
    weights = weights + parts["tower"] / tp  # on the first stage
    weights = weights + maximum(parts["embedding"], parts["head"]) / tp + where(pp > 1.0, 0.0, _smaller_end(parts)) / tp
    per_sequence = kv_cache_bytes(model, precision, tokens, tp, memory)
    width_bytes = _widest(model, tp) * _RESIDUAL_BYTES
    chunk_tokens = engine.limits(device).chunk_tokens
    prompt = minimum(prompt, chunk_tokens)
    in_flight = minimum(sequences * prompt, chunk_tokens)
    return Footprint(
        weights_bytes=weights,
        kv_bytes=sequences * per_sequence / pp,
        activation_bytes=in_flight * width_bytes,
        workspace_bytes=engine.reserved_bytes,
        sequence_bytes=per_sequence / pp,
        prompt_bytes=prompt * width_bytes,
        chunk_bytes=chunk_tokens * width_bytes,
        kv_bytes_per_token=kv_elements_per_token(model) * get_format(precision.kv).bytes_per_element,
    )


def _smaller_end(parts: dict[str, float]) -> float:
    return min(parts["embedding"], parts["head"])


def kv_elements_per_token(model: Transformer) -> int:
    """Elements of KV cache that one token adds, all layers."""
    return sum(b.count * b.mixer.kv_elements_per_token for b in model.blocks if b.mixer is not None)


def kv_cache_bytes(
    model: Transformer, precision: Precision, tokens: Floats, tp: Floats, memory: Floats = 0.0
) -> Floats:
    """KV cache and recurrent state of ONE sequence of `tokens` tokens on one tensor-parallel rank, all layers.

    `memory`: encoder states that its cross-attention keeps keys and values of.

    KV heads are copied where there are fewer of them than ranks; a latent (MLA) is copied on every rank.
    """
    each = get_format(precision.kv).bytes_per_element
    total: Floats = 0.0
    for block in model.blocks:
        if block.cross is not None:
            total = total + block.count * block.cross.kv_elements_per_token * each * memory / tp
        mixer = block.mixer
        if mixer is None:
            continue
        if isinstance(mixer, Attention | LatentAttention):
            kept = tokens if mixer.window is None else minimum(tokens, float(mixer.window))
            share = minimum(tp, float(mixer.kv_heads))
            total = total + block.count * mixer.kv_elements_per_token * each * kept / share
        total = total + block.count * state_elements_per_sequence(mixer) * _STATE_BYTES / tp
    return total


def _widest(model: Transformer, tp: Floats) -> Floats:
    """Activation elements per token alive at once: residual, normed input, and the widest layer's intermediate."""
    inner = max((_intermediate(block) for block in (*model.blocks, *model.encoder)), default=0)
    return 3.0 * model.hidden_size + 2.0 * inner / tp


def _intermediate(block: Block) -> int:
    f = block.ffn
    if isinstance(f, FeedForward):
        return f.intermediate
    if isinstance(f, MixtureOfExperts):
        return f.intermediate * f.experts_per_token + f.shared_intermediate
    return 0
