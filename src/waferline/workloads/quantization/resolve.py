"""A scheme laid over a model: the format of every matrix of every layer, as shares of each operator's weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from reprlib import repr as shown

from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.workloads.quantization.modules import ALWAYS_WIDE, Spelling, embedding_names, head_names, modules, names
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, spelt
from waferline.workloads.spec import Block, Stored, Transformer
from waferline.workloads.stored import matrices

Formats = dict[str, dict[Storage, float]]  # operator → storage → share of its weights


def in_formats(model: Transformer, scheme: Scheme, where: str) -> Transformer:
    """`model` with the formats that `scheme` gives its parts.

    Raises: UnsupportedError when the scheme quantises nothing: that is a misunderstanding, not a 16-bit model.
    """
    found = [
        (block, _block_formats(model.family, block, first, scheme, encoder=encoder, model=model))
        for block, first, encoder in _placed(model)
    ]
    elements: Counter[Storage] = Counter()
    for block, formats in found:
        for name, count in matrices(model, block):
            for storage, share in formats.get(name, {}).items():
                elements[storage] += count * share  # type: ignore[assignment]
    head, embedding = _end(scheme, head_names(), scheme.head), _end(scheme, embedding_names(), scheme.embedding)
    narrow = {s: n for s, n in elements.items() if get_format(s.weights).bits < 16 and n > 0}
    if not narrow:
        raise UnsupportedError(
            f"the {scheme.method} scheme quantises none of this model's matrices",
            where=where,
            hint="its targets and ignored modules match all or nothing",
        )
    main = max(narrow, key=lambda s: narrow[s])
    blocks = [replace(block, formats=_rows(formats, main)) for block, formats in found]
    activations = {s.weights: s.activations for s in sorted(narrow, key=lambda s: narrow[s])}
    stored = Stored(
        method=scheme.method,
        head=embedding.weights if model.tied_embeddings else head.weights,
        embedding=embedding.weights,
        activations=tuple((w, a) for w, a in activations.items() if a is not None),
        kv=scheme.kv,
    )
    return replace(
        model,
        weight_format=main.weights,
        stored=stored,
        encoder=tuple(blocks[: len(model.encoder)]),
        blocks=tuple(blocks[len(model.encoder) :]),
        notes=(*model.notes, *scheme.notes, *_unmatched(model, scheme)),
    )


def without_formats(model: Transformer) -> Transformer:
    """The model without what its checkpoint says of formats: in 16 bits."""

    def bare(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(replace(b, formats=()) for b in blocks)

    wide = replace(model, stored=None, weight_format=None, weight_bytes_exact=None)
    return replace(wide, blocks=bare(model.blocks), encoder=bare(model.encoder))


def _placed(model: Transformer) -> Iterator[tuple[Block, int, bool]]:
    """(block, number of its first layer where it does not say, whether it is of the encoder)."""
    for side, encoder in ((model.encoder, True), (model.blocks, False)):
        first = 0
        for block in side:
            yield block, first, encoder
            first += block.count


def _layers(block: Block, first: int) -> tuple[int, ...]:
    return block.places if len(block.places) == block.count else tuple(range(first, first + block.count))


def _unmatched(model: Transformer, scheme: Scheme) -> Iterator[str]:
    """A note of targets that name nothing here: of another model, of a tower, or misspelt."""
    ends = spelt((*head_names(), *embedding_names()))
    missed = [rule for rule in scheme.rules if rule.storage != WIDE and not rule.names(ends)]
    for block, first, encoder in _placed(model):
        layers = _layers(block, first)
        for spelling in (s for name, _ in matrices(model, block) for s, _ in modules(block, name)):
            at = cache(partial(_spelt, model.family, spelling, method=scheme.method, encoder=encoder))
            missed = [
                r for r in missed if not any(r.names(at(i)) for i in r.among(layers if r.layered else layers[:1]))
            ]
    if missed:
        yield f"{scheme.method}: no matrix here is named by " + ", ".join(shown(r.text) for r in missed[:3])


def _block_formats(
    family: str, block: Block, first: int, scheme: Scheme, *, encoder: bool, model: Transformer
) -> Formats:
    layers = _layers(block, first)
    return {
        name: {WIDE: 1.0} if name in ALWAYS_WIDE else _operator(family, block, name, layers, scheme, encoder)
        for name, _ in matrices(model, block)
    }


def _operator(
    family: str, block: Block, operator: str, layers: tuple[int, ...], scheme: Scheme, encoder: bool
) -> dict[Storage, float]:
    shares: dict[Storage, float] = {}
    for spelling, weight in modules(block, operator):
        at = cache(partial(_spelt, family, spelling, method=scheme.method, encoder=encoder))
        at_any = at(layers[0])
        undecided = list(layers)
        decided: Counter[Storage] = Counter()
        for rule in scheme.rules:
            if not undecided:
                break
            if rule.layered:
                hit = [i for i in rule.among(undecided) if rule.names(at(i))]
            else:
                hit = undecided if rule.names(at_any) else []
            decided[rule.storage] += len(hit)
            undecided = [i for i in undecided if i not in hit]
        decided[scheme.default] += len(undecided)
        for storage, count in decided.items():
            if count:
                shares[storage] = shares.get(storage, 0.0) + weight * (count / len(layers))
    return shares


def _spelt(family: str, spelling: Spelling, layer: int, *, method: str, encoder: bool) -> str:
    return spelt(names(family, spelling, layer, method=method, encoder=encoder))


def _end(scheme: Scheme, names_of_it: Iterator[str], otherwise: Storage) -> Storage:
    known = spelt(names_of_it)
    rule: Rule | None = next((r for r in scheme.rules if r.names(known)), None)
    return otherwise if rule is None else rule.storage


def _rows(formats: Formats, main: Storage) -> tuple[tuple[str, str, float], ...]:
    rows: dict[tuple[str, str], float] = {}
    for name, shares in formats.items():
        if set(shares) != {main}:
            for storage, share in shares.items():
                rows[name, storage.weights] = rows.get((name, storage.weights), 0.0) + share
    return tuple((name, weights, share) for (name, weights), share in rows.items())
