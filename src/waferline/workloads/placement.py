"""What of a model a host holds and runs: operators on one device become operators on a device and the CPU beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waferline.arrays import Floats
from waferline.elementwise import anywhere, ceil, maximum, where
from waferline.formats import get_format
from waferline.workloads.operator import Operator, Place
from waferline.workloads.spec import MixtureOfExperts, Transformer

_ENDS = frozenset({"embedding", "stem", "final_norm", "head", "head.project", "sampling", "pipeline.hand_off"})
_MATRICES = ("gemm", "moe", "conv")
_ATTENTION = ("prefill_attention", "decode_attention", "mla_prefill", "mla_decode")
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Placement:
    """Shares of a model, from 0 to 1, that are not the device's. Each broadcasts over scenarios.

    layers: of all layers, held and run by the host with their cache. experts: of the layers with experts, whose experts the
    host holds and runs, those of `layers` among them. cache: 1 where it holds the cache and runs attention over it. head: 1 where
    it runs the output. streamed: of all weights, held by the host and read over the link whenever they are needed.
    copy_tokens: rows from which a matrix product is done on the device, its weights copied there first. piece_tokens: tokens of
    one pass; each needs the weights again.
    """

    layers: Floats = 0.0
    experts: Floats = 0.0
    cache: Floats = 0.0
    head: Floats = 0.0
    streamed: Floats = 0.0
    copy_tokens: float = NEVER
    piece_tokens: float = NEVER

    @property
    def splits(self) -> Any:
        """Whether a pass goes to and fro between device and host."""
        return maximum(maximum(self.layers, self.experts), maximum(self.cache, self.head)) > 0.0


AT_HOME = Placement()  # everything on the device


def place(operators: Iterable[Operator], p: Placement) -> Iterator[Operator]:
    """The operators where `p` puts them, each with its share of executions, and the hand-overs between them."""
    hand_bytes: Floats = 0.0
    for op in operators:
        if op.name == "embedding":
            hand_bytes = op.activation_bytes / 2.0  # it reads and writes them
            if anywhere(p.layers > 0.0):
                yield _hand_over("layers", op, hand_bytes, where(p.layers > 0.0, 1.0, 0.0))
        share = _host_share(op, p)
        if anywhere(share > 0.0):
            yield from _on_host(op, p, share, hand_bytes)
        kept = op.count * (1.0 - share)
        if anywhere(p.streamed > 0.0) and op.kind in _MATRICES:
            passes = ceil(_rows(op) / p.piece_tokens)
            yield _at(op, "streamed", kept * p.streamed, passes)
            kept = kept * (1.0 - p.streamed)
        if anywhere(kept > 0.0):
            yield replace(op, count=kept)


def _host_share(op: Operator, p: Placement) -> Floats:
    if op.name in ("head", "head.project"):
        return p.head
    if op.kind == "collective" or op.name in _ENDS or op.name.startswith(("image.", "clip.", "encoder.")):
        return 0.0
    if op.kind == "moe":
        return maximum(p.layers, p.experts)
    return maximum(p.layers, p.cache) if op.kind in _ATTENTION else p.layers


def _on_host(op: Operator, p: Placement, share: Floats, hand_bytes: Floats) -> Iterator[Operator]:
    """Run there, with a hand-over each way where the rest of the layer is the device's; or copied where there is much to do."""
    copies = _rows(op) >= p.copy_tokens if op.kind in _MATRICES else False
    here = op.count * share
    runs = where(copies, 0.0, here)
    if anywhere(runs > 0.0):
        yield _at(op, "host", runs)
        alone = where(copies, 0.0, op.count * (share - p.layers)) if op.kind in ("moe", *_ATTENTION) else 0.0
        if anywhere(alone > 0.0):
            yield _hand_over(op.name, op, hand_bytes if op.kind == "moe" else op.activation_bytes / 2.0, 2.0 * alone)
    copied = where(copies, here, 0.0)
    if anywhere(copied > 0.0):
        yield _at(op, "copied", copied, ceil(_rows(op) / p.piece_tokens))


def _rows(op: Operator) -> Floats:
    return op.shape["m"] if "m" in op.shape else op.shape.get("tokens", op.shape.get("batch", 1.0))


def _at(op: Operator, where_to: Place, count: Floats, passes: Floats = 1.0) -> Operator:
    return replace(
        op, name=f"{op.name} ({where_to})", count=count, place=where_to, shape={**op.shape, "passes": passes}
    )


def logits_to_host(operators: Sequence[Operator]) -> list[Operator]:
    """The operators of a masked language model, whose scores of every token go to its host in fp32, as exported ones give them."""
    heads = [op for op in operators if op.name == "head"]
    payloads = (op.shape["m"] * op.shape["n"] * get_format("fp32").bytes_per_element for op in heads)
    moved = (_hand_over(op.name, op, payload, 1.0) for op, payload in zip(heads, payloads, strict=True))
    return [*operators, *(replace(op, shape={**op.shape, "behind": 1.0}) for op in moved)]


def _hand_over(name: str, op: Operator, payload: Floats, count: Floats) -> Operator:
    """Activations that cross the link between host and device."""
    return replace(
        op,
        name=f"{name} (hand-over)",
        kind="collective",
        operation="p2p",
        place="link",
        count=count,
        flops=0.0,
        weight_bytes=0.0,
        activation_bytes=0.0,
        kv_bytes=0.0,
        shape={"bytes": payload, "ranks": 2.0},
    )


def layer_count(model: Transformer) -> int:
    return sum(block.count for block in model.blocks)


def expert_layers(model: Transformer, first: float | None = None) -> int:
    """Layers with experts among the `first` layers of the stack; of all layers where that is None."""
    found, start = 0, 0
    for block in model.blocks:
        places = block.places or range(start, start + block.count)
        start += block.count
        if isinstance(block.ffn, MixtureOfExperts):
            found += sum(first is None or at < first for at in places)
    return found
