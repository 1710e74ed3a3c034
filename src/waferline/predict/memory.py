"""Does it fit: weights, KV cache, activations and workspace of one device against what it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision, get_format
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.workloads.mixers import state_elements_per_sequence
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Attention, Block, FeedForward, LatentAttention, MixtureOfExperts, Transformer
from waferline.workloads.weights import weight_elements, wide_elements, wide_parts

PREFILL_CHUNK_TOKENS = 8192.0  # tokens in flight at most: vLLM's and TensorRT-LLM's default max_num_batched_tokens
_RESIDUAL_BYTES = 2.0  # activations between operators
_STATE_BYTES = 4.0  # recurrent state, fp32


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on ONE device, the fullest of its group. Arrays over scenarios."""

    weights_bytes: FloatArray
    kv_bytes: FloatArray
    activation_bytes: FloatArray
    workspace_bytes: FloatArray
    kv_bytes_per_token: FloatArray  # of one sequence, all layers, all devices of a replica

    @property
    def total_bytes(self) -> FloatArray:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.workspace_bytes


def model_weight_bytes(model: Transformer, precision: Precision) -> float:
    """Bytes of all weights as stored, all devices together: exact for GGUF files, from formats otherwise."""
    if model.weight_bytes_exact is not None:
        return float(sum(model.weight_bytes_exact.values()))
    return float(sum(_parts_bytes(model, precision).values()))


def _parts_bytes(model: Transformer, precision: Precision) -> dict[str, float]:
    """Bytes by part: embedding, head, blocks (what tensor parallelism cuts), experts (what expert parallelism cuts)."""
    if model.weight_bytes_exact is not None:
        return dict(model.weight_bytes_exact)
    elements = weight_elements(model)
    body = get_format(precision.weights)
    embedding = body if body.packed or body.bits >= 16 else get_format("bf16")
    per_element = {"embedding": embedding, "head": get_format(precision.head)}
    parts = {part: n * per_element.get(part, body).bytes_per_element for part, n in elements.items()}
    wide = wide_elements(model, wide_parts(model, precision))
    return parts | {"blocks": parts["blocks"] + wide * (_RESIDUAL_BYTES - body.bytes_per_element)}


def footprint(
    model: Transformer,
    device: Device,
    engine: Engine,
    precision: Precision,
    *,
    sequences: FloatArray,
    tokens: FloatArray,
    prompt: FloatArray,
    parallel: Parallel,
) -> Footprint:
    """Memory of one device when `sequences` sequences hold `tokens` tokens each and prompts of `prompt` are prefilled."""
    parts = _parts_bytes(model, precision)
    tp, pp, ep = parallel.tp, parallel.pp, parallel.ep
    expert_share = np.maximum(ep, 1.0) * np.maximum(tp / ep, 1.0)
    weights = parts["blocks"] / (tp * pp) + parts["experts"] / (expert_share * pp)
    weights = (
        weights + np.maximum(parts["embedding"], parts["head"]) / tp + np.where(pp > 1, 0.0, _smaller_end(parts)) / tp
    )
    per_sequence = kv_cache_bytes(model, precision, tokens, tp)
    in_flight = np.minimum(sequences * prompt, PREFILL_CHUNK_TOKENS)
    return Footprint(
        weights_bytes=np.asarray(weights),
        kv_bytes=sequences * per_sequence / pp,
        activation_bytes=in_flight * _widest(model, tp) * _RESIDUAL_BYTES,
        workspace_bytes=np.asarray(engine.reserved_bytes),
        kv_bytes_per_token=np.asarray(kv_elements_per_token(model) * get_format(precision.kv).bytes_per_element),
    )


def _smaller_end(parts: dict[str, float]) -> float:
    return min(parts["embedding"], parts["head"])


def kv_elements_per_token(model: Transformer) -> int:
    """Elements of KV cache that one token adds, all layers."""
    return sum(b.count * b.mixer.kv_elements_per_token for b in model.blocks if b.mixer is not None)


def kv_cache_bytes(model: Transformer, precision: Precision, tokens: FloatArray, tp: FloatArray) -> FloatArray:
    """KV cache and recurrent state of ONE sequence of `tokens` tokens on one tensor-parallel rank, all layers.

    KV heads are copied where there are fewer of them than ranks; a latent (MLA) is copied on every rank.
    """
    each = get_format(precision.kv).bytes_per_element
    total: FloatArray = np.zeros(())
    for block in model.blocks:
        mixer = block.mixer
        if mixer is None:
            continue
        if isinstance(mixer, Attention | LatentAttention):
            kept = tokens if mixer.window is None else np.minimum(tokens, mixer.window)
            share = np.minimum(tp, mixer.kv_heads)
            total = total + block.count * mixer.kv_elements_per_token * each * kept / share
        total = total + block.count * state_elements_per_sequence(mixer) * _STATE_BYTES / tp
        if block.cross is not None:
            total = total + block.count * block.cross.kv_elements_per_token * each * model.encoder_tokens / tp
    return np.asarray(total)


def _widest(model: Transformer, tp: FloatArray) -> FloatArray:
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
