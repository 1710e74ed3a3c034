"""A model and a phase become operators: the list that predict, simulate and measure all start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from waferline.arrays import Floats
from waferline.elementwise import anywhere, maximum, minimum, number, where
from waferline.errors import InvalidInputError
from waferline.formats import Precision, get_format
from waferline.workloads import feed_forward, mixers
from waferline.workloads.build import Builder
from waferline.workloads.convnet import lower_convnet
from waferline.workloads.lower_streams import lower_streams
from waferline.workloads.mixers import Pass
from waferline.workloads.operator import Operator
from waferline.workloads.scenario import Parallel, real, whole
from waferline.workloads.spec import Block, ConvNet, ModelSpec, Transformer
from waferline.workloads.streams import StreamNet
from waferline.workloads.weights import as_shipped, ships

_INSIDE = ".act"  # how operators are called that a compiler runs inside the product before
_SAMPLING_PASSES = 3.0  # logits are read for the maximum, the exponentials and the draw


def lower_prefill(
    model: Transformer,
    *,
    batch: Any,
    prompt: Any,
    precision: Precision,
    parallel: Parallel | None = None,
    cached: Any = 0,
    inputs: Mapping[str, Any] | None = None,
) -> list[Operator]:
    """Operators of one prefill: `batch` prompts of `prompt` new tokens after `cached` tokens already in the KV cache.

    An encoder that reads the prompt leaves the decoder one token to start from (`prompt_of`). `inputs`: images and clips of
    each prompt, by the kind of their tower; the tokens they become are part of `prompt`.
    Returns the operators of ONE device of the tensor-parallel group, all pipeline stages together.
    """
    prompt = whole("prompt", prompt)
    q_len, memory = prompt_of(model, prompt, inputs)
    kv_len = q_len + whole("cached", cached, least=0)
    p = Pass(whole("batch", batch), q_len, kv_len, False, parallel or Parallel(), memory)
    b = builder(model, precision)
    return [*lower_towers(model, b, p, inputs or {}), *_transformer(model, b, p, logits=p.batch)]


def lower_towers(model: Transformer, b: Builder, p: Pass, inputs: Mapping[str, Any]) -> Iterator[Operator]:
    """The towers of a prefill, for as many inputs of their kind as each prompt has. They stay in 16 bits."""
    for tower in model.towers:
        if tower.kind in inputs:
            number = whole(tower.kind, inputs[tower.kind], least=0)
            batch = p.batch * maximum(number, 1.0) * float(tower.pieces)
            times = minimum(number, 1.0)  # without an input the tower does not run
            yield from lower_streams(
                tower.net, b, batch, parallel=p.parallel, prefix=f"{tower.kind}.", times=times, weights=b.wide
            )


def builder(model: Transformer, precision: Precision) -> Builder:
    """The builder of a pass, in the formats that the checkpoint ships where `precision` means those."""
    return Builder(as_shipped(model, precision))


def prompt_of(model: Transformer, prompt: Floats, inputs: Mapping[str, Any] | None = None) -> tuple[Floats, Floats]:
    """(tokens that the decoder starts from, encoder states it sees) for a prompt: T5 reads it with its encoder alone.

    `inputs`: images and clips of each prompt, by the kind of their tower; mllama sees them by cross-attention.
    """
    if not model.encoder:
        return prompt, sum((inputs or {}).get(t.kind, 0.0) * float(t.tokens) for t in model.towers if t.cross)
    return (prompt, float(model.encoder_tokens)) if model.encoder_tokens else (1.0, prompt)


def joined_tokens(model: Transformer, inputs: Mapping[str, Any]) -> Floats:
    """Tokens that images and clips add to a prompt. Raises: InvalidInputError for a kind that no tower takes."""
    for kind in inputs:
        if all(tower.kind != kind for tower in model.towers):
            raise InvalidInputError(f"{model.name} has no tower for {kind} inputs")
    return sum(inputs.get(t.kind, 0.0) * float(t.tokens) for t in model.towers if not t.cross)


def lower_decode(
    model: Transformer,
    *,
    batch: Any,
    context: Any,
    precision: Precision,
    parallel: Parallel | None = None,
    memory: Any = None,
) -> list[Operator]:
    """Operators of one decode step: one new token for each of `batch` sequences with `context` tokens, it included.

    `memory`: encoder states that cross-attention sees; as many as the encoder makes of `context` when nobody says.
    """
    context = _context(context)
    seen = prompt_of(model, context)[1] if memory is None else real("memory", memory)
    p = Pass(whole("batch", batch), 1.0, context, True, parallel or Parallel(), seen)
    return list(_transformer(model, builder(model, precision), p, logits=p.batch))


# Kinds of operators whose work depends on whose tokens they are; all others see rows alone.
SEQUENCE_KINDS = frozenset({"prefill_attention", "decode_attention", "mla_prefill", "mla_decode", "scan"})


def lower_rows(
    model: Transformer,
    *,
    rows: Any,
    logits: Any,
    decode: bool,
    precision: Precision,
    parallel: Parallel | None = None,
) -> list[Operator]:
    """Operators of one pass over `rows` tokens that see no sequence: all but those of `SEQUENCE_KINDS`.

    `logits`: rows that the head turns into tokens. decode: in the form that decodes take (a latent is absorbed, not expanded).
    A step of an engine that carries decodes and prompt chunks at once is one such pass, and the sequence operators of each.
    """
    number_of = whole("rows", rows)
    parallel = parallel or Parallel()
    p = Pass(number_of, 1.0, 1.0, True, parallel) if decode else Pass(1.0, number_of, number_of, False, parallel)
    operators = _transformer(model, builder(model, precision), p, logits=whole("logits", logits))
    return [op for op in operators if op.kind not in SEQUENCE_KINDS]


def lower_forward(
    model: ModelSpec,
    *,
    batch: Any,
    tokens: Any = 0,
    precision: Precision,
    parallel: Parallel | None = None,
    sharing: Floats = 1.0,
    ring: Floats = 1.0,
    eager: bool = False,
    fused: bool = False,
    training: bool = False,
) -> list[Operator]:
    """Operators of one forward pass over whole inputs: an encoder, a convolutional network, or a training forward.

    `sharing`, `ring`: devices among which the rows of each sample of a network over streams are divided. `training`
    keeps what inference fuses or skips: logits of every token, batch norms on their own. `fused`: activation functions run
    inside the products before them, and narrow activations stay narrow between operators.
    """
    if isinstance(model, ConvNet):
        return list(lower_convnet(model, Builder(precision), whole("batch", batch), training=training))
    if isinstance(model, StreamNet):
        samples = whole("batch", batch) * float(1 if training else model.passes)
        b = Builder(precision, narrow=fused)
        found = lower_streams(model, b, samples, parallel=parallel, sharing=sharing, ring=ring, eager=eager)
        return [op for op in found if not (fused and op.name.endswith(_INSIDE))]
    length = whole("tokens", model.fixed_tokens or tokens)
    memory = (float(model.encoder_tokens) or length) if model.encoder else 0.0
    p = Pass(whole("batch", batch), length, length, False, parallel or Parallel(), memory)
    b = replace(builder(model, precision), narrow=fused)
    every = training or (model.kind == "encoder" and model.has_head)  # a masked language model scores every token
    found = _transformer(model, b, p, logits=p.tokens if every else p.batch)
    return [op for op in found if not (fused and op.name.endswith(_INSIDE))]


def _context(context: Any) -> Floats:
    """Context lengths may be averages over a generation, so they need not be whole."""
    return maximum(number(context), 1.0)


def _transformer(model: Transformer, b: Builder, p: Pass, *, logits: Floats) -> Iterator[Operator]:
    yield _embedding(model, b, p)
    if model.stem_flops and not p.decode:
        yield b.operator(
            "stem",
            "conv",
            flops=p.batch * float(model.stem_flops),
            weight_bytes=float(model.stem_params) * b.weight_bytes,
            activation_bytes=p.tokens * model.hidden_size * b.residual_bytes,
            shape={"batch": p.batch},
        )
    if model.encoder and not p.decode:
        encoder_pass = Pass(p.batch, p.memory, p.memory, False, p.parallel)
        for block in model.encoder:
            yield from layer(model, block, b, encoder_pass, prefix="encoder.")
    for block in model.blocks:
        yield from layer(model, block, b, p)
    if anywhere(p.parallel.pp > 1.0):
        yield _stage_transfers(model, b, p)
    yield from _head(model, b, p, logits)


def _embedding(model: Transformer, b: Builder, p: Pass) -> Operator:
    elements = p.tokens * model.hidden_size
    return b.streaming("embedding", "gather", elements, passes=2, flops_each=0)


def layer(model: Transformer, block: Block, b: Builder, p: Pass, prefix: str = "") -> Iterator[Operator]:
    """Operators of all layers of `block`."""
    count: Floats = float(block.count)
    if block.cross is not None and block.mixer is None:  # only sees the image, and is left out without one (mllama)
        count = count * minimum(p.memory, 1.0)
    hidden = model.hidden_size
    operators: list[Operator] = []
    reductions = 0
    if block.norms:
        norms = count * block.norms
        operators.append(b.streaming("norm", "norm", p.tokens * hidden, passes=4, count=norms, flops_each=6))
    for mixer in block.mixers:
        operators += mixers.LOWER[type(mixer)](b, mixer, hidden, count, p)
    reductions += bool(block.mixers)
    if block.cross is not None:
        p = replace(p, memory=maximum(p.memory, 1.0))
        operators += mixers.cross_attention(b, block.cross, hidden, count, p)
        reductions += 1
    if block.side:
        operators.append(b.gemm("side", p.tokens, block.side / hidden, hidden, count=count))
    if block.ffn is not None:
        operators += feed_forward.LOWER[type(block.ffn)](b, block.ffn, hidden, count, p)
        reductions += 1
    if anywhere(p.parallel.tp > 1.0):
        each = 1 if block.parallel else reductions
        payload = p.tokens * hidden * b.residual_bytes
        operators.append(b.collective("all_reduce", "all_reduce", payload, p.parallel.tp, count=count * each))
    if block.formats and ships(model, b.precision):
        operators = [part for op in operators for part in _as_stored(model, block, op, b)]
    yield from (_renamed(op, prefix + op.name) if prefix else op for op in operators)


def _as_stored(model: Transformer, block: Block, op: Operator, b: Builder) -> Iterator[Operator]:
    """The operator in the formats that the checkpoint keeps its weights in: one for each, with its share of executions."""
    rows = [(fmt, share) for name, fmt, share in block.formats if name == op.name]
    if not rows:
        yield op
    bits = get_format(op.weights).bits
    for fmt, share in rows:
        own = get_format(fmt).bits
        weights = b.wide if own == get_format("bf16").bits else fmt
        yield replace(
            op,
            count=op.count * share,
            weight_bytes=op.weight_bytes * (own / bits),
            weights=weights,
            activations=_activations(b, weights),
        )


def _activations(b: Builder, weights: str) -> str:
    """What weights in this format are multiplied with."""
    if weights == b.precision.weights:
        return b.precision.activations
    return dict(b.precision.mixed).get(weights, b.wide)


def _renamed(op: Operator, name: str) -> Operator:
    return replace(op, name=name)


def _stage_transfers(model: Transformer, b: Builder, p: Pass) -> Operator:
    """Activations handed from one pipeline stage to the next."""
    payload = p.tokens * model.hidden_size / p.parallel.tp * b.residual_bytes
    ranks = where(p.parallel.pp > 1, 2.0, 1.0)
    op = b.collective("p2p", "pipeline.hand_off", payload, ranks, count=p.parallel.pp - 1)
    return replace(op, shape={**op.shape, "span": p.parallel.tp * p.parallel.pp})


def _head(model: Transformer, b: Builder, p: Pass, logits: Floats) -> Iterator[Operator]:
    if model.final_norm:
        yield b.streaming("final_norm", "norm", p.tokens * model.hidden_size, passes=3, flops_each=6)
    width = model.vocab_size if model.has_head else model.head_classes
    if not width:
        return
    local = mixers.shard(width, p.parallel.tp)
    inner = float(model.embedding_size or model.hidden_size)  # a factorised embedding projects down first (OPT-350m)
    if inner != model.hidden_size and model.has_head:
        yield b.gemm("head.project", logits, inner, float(model.hidden_size))
    yield b.gemm("head", logits, local, inner if model.has_head else float(model.hidden_size), weights=b.precision.head)
    if model.has_head:
        yield b.streaming("sampling", "softmax", logits * local, passes=_SAMPLING_PASSES, flops_each=3)
