"""Speculative decoding: something cheap drafts tokens, and one pass of the model verifies them all.

A cycle is the drafting and one verification over `tokens + 1` positions of every sequence. The weights are read once for all of
them, so the gain is large where decoding waits for memory and vanishes with the batch; of experts more are touched. What a cycle
yields is the mean accepted length (Leviathan et al. 2023, equation 1, for independent acceptance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError
from waferline.predict.techniques.technique import Given, Parameter, Setting, Step, Technique
from waferline.workloads.build import Builder
from waferline.workloads.load import load_model
from waferline.workloads.lower import SEQUENCE_KINDS, builder, layer, lower_decode, lower_rows
from waferline.workloads.mixers import Pass, shard
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Block, FeedForward, MixtureOfExperts, Transformer
from waferline.workloads.weights import weight_elements

_VOCABULARIES_DIFFER = 128  # tokens that are padding, at most (llama.cpp, common/speculative.cpp)
_EAGLE_VOCABULARY = (
    32_000  # tokens that an EAGLE-3 head drafts from (configurations of SpecForge and of the EAGLE authors)
)


def accepted_tokens(tokens: float, acceptance: float | None, accepted: float | None) -> float:
    """Tokens that a cycle yields: as given, or the expectation of a run of accepted drafts and the model's own token.

    Raises: InvalidInputError where more is said to be accepted than was drafted.
    """
    if accepted is not None:
        if not 1.0 <= accepted <= tokens + 1.0:
            raise InvalidInputError(
                f"speculative: {accepted:g} accepted tokens of {tokens:g} drafted ones and the model's own"
            )
        return accepted
    rate = 0.0 if acceptance is None else acceptance
    return tokens + 1.0 if rate >= 1.0 else (1.0 - rate ** (tokens + 1.0)) / (1.0 - rate)


# Operators of a cycle's drafting, the layers that it launches, and the passes that it makes one after the other.
Draft = tuple[list[Operator], float, float]
Drafter = Callable[[Setting, Given], Draft]


def _cycle(drafts: Drafter, step: Step, s: Setting, given: Given) -> Step:
    """One token of plain decoding becomes a cycle's share: drafting and verification over the tokens that they yield."""
    positions, gain = _yield(given)
    draft, layers, passes = drafts(s, given)
    operators = [*verification(step.operators, s, positions), *draft]
    host_s = step.host_s + _host_s(s.engine, passes)
    return Step(operators, step.layers + layers, step.tokens * gain, host_s, step.helping + layers)


def _yield(given: Given) -> tuple[float, float]:
    """Positions of a verification, and tokens that are kept of them."""
    chain, verified = given["tokens"] + 1.0, given["verified"]
    if verified is not None and verified < chain:
        raise InvalidInputError(f"speculative: {verified:g} verified positions hold no path of {chain - 1.0:g} drafts")
    return verified or chain, accepted_tokens(given["tokens"], given["acceptance"], given["accepted"])


def _host_s(engine: str, passes: float) -> float:
    """What the host adds to a cycle (`catalog/techniques.yaml`)."""
    drafting = read_packaged("techniques.yaml")["drafting"]
    row = next((r for r in drafting.values() if engine in r.get("engines", ())), drafting["servers"])
    return float(row["cycle_s"] + passes * row["pass_s"])


def verification(operators: Any, s: Setting, positions: float) -> Iterator[Operator]:
    """The pass of a decode step over `positions` tokens of every sequence: all rows at once, each cache read once."""
    rows = s.batch * positions
    wide = lower_rows(s.model, rows=rows, logits=rows, decode=True, precision=s.precision, parallel=s.parallel)
    yield from wide
    for op in operators:
        if op.kind in SEQUENCE_KINDS:
            yield replace(op, flops=op.flops * positions, activation_bytes=op.activation_bytes * positions)


def _passes(operators: Iterator[Operator], times: float, prefix: str = "draft.") -> list[Operator]:
    return [replace(op, name=prefix + op.name, count=op.count * times) for op in operators]


def _model(s: Setting, given: Given) -> Draft:
    """A smaller model drafts token after token, on the same devices."""
    draft = _draft_model(s, given)
    ops = lower_decode(
        draft, batch=s.batch, context=s.context, precision=s.precision, parallel=replace(s.parallel, ep=1.0)
    )
    layers = float(sum(b.count for b in draft.blocks))
    return _passes(iter(ops), given["tokens"]), layers * given["tokens"], given["tokens"]


def _draft_model(s: Setting, given: Given) -> Transformer:
    draft = generator("speculative", given["draft"])
    if abs(draft.vocab_size - s.model.vocab_size) > _VOCABULARIES_DIFFER:
        raise InvalidInputError(
            f"speculative: {draft.name} has {draft.vocab_size:,} tokens and {s.model.name} {s.model.vocab_size:,}: "
            "a draft needs the vocabulary of the model that verifies it"
        )
    return draft


def generator(technique: str, name: str) -> Transformer:
    """The model that helps, by name. Raises: UnknownNameError, InvalidInputError where it does not generate tokens."""
    model = load_model(name)
    if not isinstance(model, Transformer) or not model.has_head:
        raise InvalidInputError(f"{technique}: {model.name} does not generate tokens")
    return model


def _head_layers(s: Setting, given: Given, block: Block, fused: int, vocabulary: int) -> Draft:
    """One layer of the model's width drafts token after token: it joins `fused` hidden states, and has a head of its own."""
    b, hidden = builder(s.model, s.precision), s.model.hidden_size
    work = Pass(s.batch, 1.0, s.context, True, s.parallel)
    ops = [
        b.gemm("join", s.batch, float(hidden), float(fused * hidden)),
        *layer(s.model, block, b, work),
        *_head(b, s, vocabulary),
    ]
    times = 1.0 if given.get("parallel") == "yes" else given["tokens"]
    rows = given["tokens"] / times
    wide = [_wider(op, rows) for op in ops] if rows > 1 else ops
    return _passes(iter(wide), times), times, times


def _wider(op: Operator, rows: float) -> Operator:
    """A draft of one pass works on all its positions at once."""
    shape = {**op.shape, **({"m": op.shape["m"] * rows} if "m" in op.shape else {})}
    return replace(op, flops=op.flops * rows, activation_bytes=op.activation_bytes * rows, shape=shape)


def _head(b: Builder, s: Setting, vocabulary: int) -> Iterator[Operator]:
    width = shard(float(vocabulary), s.parallel.tp)
    yield b.gemm("head", s.batch, width, float(s.model.hidden_size), weights=b.precision.head)
    yield b.streaming("sampling", "softmax", s.batch * width, passes=3.0, flops_each=3)


def _eagle(s: Setting, given: Given) -> Draft:
    """EAGLE-3: one dense layer over three hidden states of the model, with a vocabulary of its own."""
    return _head_layers(s, given, _dense_block(s.model), 3, min(_EAGLE_VOCABULARY, s.model.vocab_size))


def _mtp(s: Setting, given: Given) -> Draft:
    """A layer of the model's own kind (DeepSeek-V3, section 2.2), with the model's head."""
    return _head_layers(s, given, _own_block(s.model), 2, s.model.vocab_size)


def _medusa(s: Setting, given: Given) -> Draft:
    """Heads beside the model's: one small product and the vocabulary for each position."""
    b, hidden = builder(s.model, s.precision), float(s.model.hidden_size)
    ops = [b.gemm("block", s.batch, hidden, hidden), *_head(b, s, s.model.vocab_size)]
    return _passes(iter(ops), given["tokens"]), 0.0, 1.0


def _nothing(s: Setting, given: Given) -> Draft:
    """Tokens are looked up in what was said before: no model is asked."""
    return [], 0.0, 0.0


def _dense_block(model: Transformer) -> Block:
    """The model's last layer that attends, experts replaced by a dense part as wide as those that a token takes."""
    block = replace(model.blocks[-1], count=1, formats=())
    ffn = block.ffn
    if isinstance(ffn, MixtureOfExperts):
        width = ffn.intermediate * ffn.experts_per_token + ffn.shared_intermediate
        block = replace(block, ffn=FeedForward(width, gated=ffn.gated))
    return block


def _weights_of_draft(s: Setting, given: Given) -> Floats:
    return model_bytes(s, _draft_model(s, given))


def model_bytes(s: Setting, model: Transformer) -> Floats:
    """Bytes that a model which helps adds to each device."""
    return float(sum(weight_elements(model).values())) * builder(s.model, s.precision).weight_bytes / s.parallel.tp


def _weights_of_layer(block: Callable[[Transformer], Block], s: Setting, given: Given) -> Floats:
    """Bytes that a drafting layer adds."""
    parts = weight_elements(replace(s.model, blocks=(block(s.model),), encoder=(), towers=()))
    return float(parts["blocks"] + parts["experts"]) * builder(s.model, s.precision).weight_bytes / s.parallel.tp


def _own_block(model: Transformer) -> Block:
    return replace(model.blocks[-1], count=1)


def _technique(
    title: str,
    drafts: Drafter,
    tokens: float,
    source: str,
    *,
    weights: Any = None,
    more: Mapping[str, Parameter] | None = None,
) -> Technique:
    return Technique(
        title=title,
        parameters={
            "tokens": Parameter("tokens drafted in a cycle", tokens, 1.0, 64.0, whole=True),
            "acceptance": Parameter("share of drafted tokens that the model would have said", 0.7, 0.0, 1.0),
            "accepted": Parameter(
                "tokens that a cycle yields, the model's own with them; instead of acceptance", optional=True, least=1.0
            ),
            "verified": Parameter(
                "positions that are verified, of a tree of drafts; else tokens and one more",
                optional=True,
                least=1.0,
                most=256.0,
            ),
            **(more or {}),
        },
        source=source,
        limits="acceptance is an input: it depends on what is asked; of a tree of drafts, the deepest path is counted as a chain",
        checked="published speed-ups with their accepted lengths (evidence check on techniques)",
        decode=partial(_cycle, drafts),
        weights=weights,
        cycle=_yield,
        replaces="speculative decoding",
        anew=True,
    )


SPECULATIVE = {
    "speculative": _technique(
        "Speculative decoding: a smaller model drafts", _model, 4.0,
        "Leviathan et al. 2023, Fast Inference from Transformers via Speculative Decoding, arXiv:2211.17192",
        weights=_weights_of_draft, more={"draft": Parameter("the model that drafts", text=True)},
    ),
    "eagle": _technique(
        "EAGLE-3: one layer drafts from the model's hidden states", _eagle, 3.0, "Li et al. 2025, EAGLE-3, arXiv:2503.01840",
        weights=partial(_weights_of_layer, _dense_block),
        more={"parallel": Parameter("whether all tokens are drafted in one pass, as P-EAGLE does", "no", words=("no", "yes"))},
    ),
    "mtp": _technique(
        "Multi-token prediction: a layer trained with the model drafts", _mtp, 1.0,
        "DeepSeek-AI 2024, DeepSeek-V3 Technical Report, section 2.2, arXiv:2412.19437",
        weights=partial(_weights_of_layer, _own_block),
    ),
    "medusa": _technique(
        "Medusa: heads beside the model's own draft", _medusa, 3.0, "Cai et al. 2024, Medusa, arXiv:2401.10774",
    ),
    "ngram": _technique(
        "Drafts are looked up in the prompt and the answer so far", _nothing, 4.0,
        "Saxena 2023, Prompt Lookup Decoding; vLLM docs, speculating by matching n-grams in the prompt",
    ),
}  # fmt: skip
