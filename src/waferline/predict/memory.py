"""Does it fit: weights, KV cache, activations and workspace of one device against what it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.arrays import Floats
from waferline.elementwise import both, ceil, floor, maximum, minimum, where
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.predict.engine import Engine, limit
from waferline.predict.kv_cache import cells_bytes, held, kept_layers, least_bytes, most_in_cells
from waferline.workloads.placement import AT_HOME, Placement
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Block, FeedForward, MixtureOfExperts, Transformer
from waferline.workloads.stored import part_bytes
from waferline.workloads.weights import as_shipped

_RESIDUAL_BYTES = 2.0  # activations between operators
_LOGIT_BYTES = 4.0  # fp32
_ENDLESS = float("inf")
_BOUNDLESS_BYTES = 1e15  # more than any host holds


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on ONE device, the fullest of its group, and what that leaves room for. Arrays over scenarios.

    activation_bytes: of the tokens that one pass takes, and the pages that a prompt holds beyond its windows while it is read.
    usable_bytes: what the engine takes of the device; room_bytes: what of it is left for the cache beside a full pass.
    most_sequences: those that fit one replica, 0 where the engine would not start; as many fit, and one more does not.
    kv_capacity_tokens: tokens that a replica's cache holds, in sequences of the whole context.
    host_weights_bytes, host_kv_bytes: what the CPU beside the devices holds of a replica instead.
    """

    weights_bytes: Floats
    kv_bytes: Floats
    activation_bytes: Floats
    workspace_bytes: Floats
    usable_bytes: Floats
    room_bytes: Floats
    most_sequences: Floats
    kv_capacity_tokens: Floats
    host_weights_bytes: Floats = 0.0
    host_kv_bytes: Floats = 0.0

    @property
    def total_bytes(self) -> Floats:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.workspace_bytes


def model_weight_bytes(model: Transformer, precision: Precision) -> float:
    """Bytes of all weights as stored, all devices together: exact where its files were seen, from formats otherwise."""
    return float(sum(part_bytes(model, precision).values()))


def resident_bytes(model: Transformer, precision: Precision, parallel: Parallel, away: Placement = AT_HOME) -> Floats:
    """Weights that one device of a replica works on, on average: what a nearer memory level would have to hold."""
    parts = _at_home(part_bytes(model, precision), away)
    dense = sum(parts.values()) - parts["experts"] - parts["tower"]
    return dense / (parallel.tp * parallel.pp) + parts["experts"] / (_expert_ranks(parallel) * parallel.pp)


def _expert_ranks(parallel: Parallel) -> Floats:
    """Devices of one stage that a layer's experts are spread over."""
    return maximum(parallel.ep, 1.0) * maximum(parallel.tp / parallel.ep, 1.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a replica has to hold: sequences, the tokens of each, the context that each may grow to, and its prompt.

    memory: encoder states whose keys and values a sequence keeps, too.
    """

    sequences: Floats
    tokens: Floats
    context: Floats
    prompt: Floats
    memory: Floats = 0.0


def footprint(
    model: Transformer,
    device: Device,
    engine: Engine,
    precision: Precision,
    asked: Asked,
    parallel: Parallel,
    away: Placement = AT_HOME,
    host: Device | None = None,
    beside_bytes: Floats = 0.0,
) -> Footprint:
    """The one memory account: capacity × the engine's share against weights, workspace, activations and cache (of what the
    others leave, the engine's `cache_share`).

    An engine that gives pages starts if one sequence of the whole context fits, and then runs as many as have room for their
    tokens; any other engine has room for the whole context of every sequence from the start. `away`: what `host` holds instead,
    where as many sequences must fit, too. beside_bytes: what each device holds beside the model, a drafter's weights.
    """
    stage = _fullest_stage(model, parallel.pp)
    weights = _weights(model, device, engine, precision, parallel, stage, away) + beside_bytes
    host_weights = _on_host(model, device, engine, precision, parallel, away) if host is not None else 0.0
    hosted = maximum(away.layers, away.cache)  # share of the cache
    share = stage * (1.0 - hosted)
    logits = engine.micro_batch_tokens * model.vocab_size * _LOGIT_BYTES
    workspace = engine.reserved_bytes + (logits if logits < _ENDLESS else 0.0)
    taken = device.capacity_bytes * engine.memory_share
    free = maximum(taken - weights - workspace, 0.0)
    kept = kept_layers(
        model, precision, parallel.tp, asked.memory, index=engine.index_keys, chunks=engine.cache != "groups"
    )
    width = maximum(_widest(model, parallel.tp) * _RESIDUAL_BYTES, engine.pass_token_bytes)
    chunk, at_once = _in_a_pass(engine, device)
    # Activations grow with the prompts that are read at once, up to those of a full pass; a scheduler reserves that pass.
    each = (chunk if at_once else minimum(asked.prompt, chunk)) * width
    activations = minimum(asked.sequences * each, chunk * width)
    left_over = maximum(free - chunk * width, 0.0)  # beside a full pass
    room = left_over * engine.cache_share
    passing: Floats = 0.0
    if engine.cache == "cells":
        kv = cells_bytes(engine, kept, asked.sequences, asked.context)
        one = cells_bytes(engine, kept, 1.0, asked.context)
        most_of = lambda bytes_, of: most_in_cells(engine, kept, _over(bytes_, of), asked.context)  # noqa: E731
        most = most_of(room, share)
    else:
        limit_tokens = engine.limits(device).chunk_tokens
        longest = held(engine, kept, asked.context, limit_tokens)
        now = held(engine, kept, asked.tokens, limit_tokens) if engine.pages else longest
        steady, passing = maximum(now.steady_bytes * share, 1.0), now.passing_bytes * share
        kv, one = asked.sequences * now.steady_bytes, longest.steady_bytes + longest.passing_bytes
        most_of = lambda bytes_, of: floor(_over(bytes_, maximum(now.steady_bytes * of, 1.0)))  # noqa: E731
        most = floor(maximum(room - passing, 0.0) / steady)
        if not at_once:
            most = where(most * each >= chunk * width, most, floor(free / (steady + each)))
        most = where(one * share <= (room if at_once else free), most, 0.0)
    if host is not None:
        left = host.capacity_bytes - host_weights
        most = minimum(most, most_of(maximum(left, 0.0), hosted))
        starts = taken - weights - workspace >= (chunk * width if at_once else each)  # a device without a cache, too
        most = where(both(starts, left >= 0.0), most, 0.0)
    return Footprint(
        weights_bytes=weights,
        kv_bytes=kv * share,
        activation_bytes=activations + passing,
        workspace_bytes=workspace,
        usable_bytes=taken - (left_over - room),
        room_bytes=room,
        most_sequences=most,
        kv_capacity_tokens=(room if at_once else maximum(free - each, 0.0)) / maximum(one * share, 1.0) * asked.context,
        host_weights_bytes=host_weights,
        host_kv_bytes=kv * hosted,
    )


def _fullest_stage(model: Transformer, pp: Floats) -> Floats:
    """Share of the layers that the fullest of `pp` stages has."""
    layers = float(sum(b.count for b in model.blocks))
    return ceil(layers / pp) / layers


def _over(free_bytes: Floats, share: Floats) -> Floats:
    """`free_bytes` of a share, as bytes of the whole; no more than numbers can count where the share is nothing."""
    return minimum(free_bytes / maximum(share, 1e-9), _BOUNDLESS_BYTES)


def _at_home(parts: Mapping[str, float], away: Placement) -> dict[str, Floats]:
    """Bytes of parts that devices hold."""
    kept = {"blocks": away.layers, "experts": maximum(away.layers, away.experts), "head": away.head}
    return {part: size * (1.0 - kept.get(part, 0.0)) * (1.0 - away.streamed) for part, size in parts.items()}


def _on_host(
    model: Transformer, device: Device, engine: Engine, precision: Precision, parallel: Parallel, away: Placement
) -> Floats:
    """Weights that the host holds for all devices beside it; the embedding among them where the engine leaves it there."""
    parts = dict(part_bytes(model, precision))
    if engine.embedding_on_host and device.kind == "gpu" and parts["head"]:
        own, parts["embedding"] = parts["embedding"], 0.0
    else:
        own = 0.0
    return own + (sum(parts.values()) - sum(_at_home(parts, away).values())) * parallel.dp


def _weights(
    model: Transformer,
    device: Device,
    engine: Engine,
    precision: Precision,
    parallel: Parallel,
    stage: Floats,
    away: Placement,
) -> Floats:
    """Weights as loaded on the fullest device."""
    parts, tp, pp = _at_home(part_bytes(model, precision), away), parallel.tp, parallel.pp
    experts = parts["experts"] * _rounded_up(model, device, engine, precision, parallel)
    weights = (parts["blocks"] / tp + experts / _expert_ranks(parallel)) * stage
    weights = weights + parts["tower"] / tp  # on the first stage
    ends = (parts["embedding"], parts["head"])
    if engine.embedding_on_host and device.kind == "gpu" and part_bytes(model, precision)["head"]:
        return weights + parts["head"] / tp
    return weights + maximum(*ends) / tp + where(pp > 1.0, 0.0, minimum(*ends)) / tp


def _rounded_up(model: Transformer, device: Device, engine: Engine, precision: Precision, parallel: Parallel) -> Floats:
    """How much larger the experts are than what they store, where kernels want their widths in whole multiples."""
    if not engine.mxfp4_widths or device.kind != "gpu" or as_shipped(model, precision).weights != "mxfp4":
        return 1.0
    outer, inner = engine.mxfp4_widths
    slices = maximum(parallel.tp / parallel.ep, 1.0)
    stored, loaded = 1e-9, 1e-9
    for block in model.blocks:
        if isinstance(moe := block.ffn, MixtureOfExperts):
            width, own = float(moe.latent or model.hidden_size), moe.intermediate / slices
            each = float(block.count * moe.experts)
            stored = stored + each * width * own
            loaded = loaded + each * ceil(width / outer) * outer * ceil(own / inner) * inner
    return loaded / stored


def pass_tokens(engine: Engine, device: Device) -> float:
    """Tokens that one pass takes: prompts beyond it need the weights again."""
    return _in_a_pass(engine, device)[0]


def _in_a_pass(engine: Engine, device: Device) -> tuple[float, bool]:
    """(tokens of a full pass, whether their activations are reserved at the start)."""
    reserved = min(limit(engine.chunk_tokens, device), engine.micro_batch_tokens)
    return (reserved, True) if reserved < _ENDLESS else (engine.limits(device).chunk_tokens, False)


def kv_elements_per_token(model: Transformer) -> int:
    """Elements of KV cache that one token adds, all layers."""
    return sum(b.count * m.kv_elements_per_token for b in model.blocks for m in b.mixers)


def kv_cache_bytes(
    model: Transformer, precision: Precision, tokens: Floats, tp: Floats, memory: Floats = 0.0
) -> Floats:
    """The least KV cache and state that ONE sequence of `tokens` tokens has on one tensor-parallel rank, all layers.

    `memory`: encoder states that its cross-attention keeps keys and values of.
    """
    return least_bytes(kept_layers(model, precision, tp, memory), tokens)


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
