"""KV cache and states as engines allocate them: pages, pages that groups of layers share, or cells of whole contexts.

What a sequence holds follows from the layers of the model (`kept_layers`) and the engine's way (`catalog/engine_memory.yaml`).
Sources: vLLM, v1/core/kv_cache_utils.py and v1/kv_cache_interface.py; llama.cpp, src/llama-kv-cache-iswa.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import anywhere, ceil, floor, maximum, minimum, where
from waferline.formats import Precision, get_format
from waferline.predict.engine import Engine
from waferline.workloads.mixers import index_key_bytes, state_elements_per_sequence
from waferline.workloads.spec import CompressedAttention, Mixer, SoftmaxAttention, Transformer

_STATE_BYTES = 4.0  # recurrent state, fp32
_ENDLESS = float("inf")
_ALIKE = 1.25  # vLLM: kinds of layers whose counts differ by less share pages without splitting


@dataclass(frozen=True, slots=True)
class Layers:
    """`count` layers that keep the same, in bytes of ONE layer on one tensor-parallel rank.

    token_bytes: of one token. window: the most tokens kept. state_bytes: of one sequence of any length.
    """

    count: int
    token_bytes: Floats
    window: float = _ENDLESS
    state_bytes: Floats = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a model keeps of a sequence. fixed_bytes: keys and values of an encoder's states, all layers."""

    layers: tuple[Layers, ...]
    fixed_bytes: Floats = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of ONE sequence: once its prompt is read, and what a chunk of its prompt holds beside that while it is read."""

    steady_bytes: Floats
    passing_bytes: Floats


def kept_layers(
    model: Transformer,
    precision: Precision,
    tp: Floats,
    memory: Floats = 0.0,
    *,
    index: bool = True,
    chunks: bool = True,
) -> Kept:
    """What `model` keeps on one of `tp` ranks; `memory`: encoder states whose keys and values are kept, too.

    KV heads are copied where there are fewer of them than ranks; a latent (MLA) is copied on every rank.
    index: whether the keys of a sparse indexer are kept. chunks: whether chunked attention keeps its chunk alone.
    """
    each = get_format(precision.kv).bytes_per_element
    counts: dict[tuple[Any, ...], int] = {}
    fixed: Floats = 0.0
    for block in model.blocks:
        for mixer in block.mixers:
            for kind in _kinds(mixer, chunks):
                counts[kind] = counts.get(kind, 0) + block.count
        if block.cross is not None:
            fixed = fixed + block.count * block.cross.kv_elements_per_token * each * memory / tp
    layers = []
    for (elements, indexer, window, heads, state), count in counts.items():
        per_token = elements * each / minimum(tp, heads) + (indexer if index else 0.0)  # every rank has the index
        if elements or state:
            layers.append(Layers(count, per_token, window, state * _STATE_BYTES / tp))
    return Kept(tuple(layers), fixed)


def _kinds(mixer: Mixer, chunks: bool) -> Iterator[tuple[Any, ...]]:
    """What layers that keep the same agree in: elements of a token, bytes of its indexer key, window, KV heads, state."""
    if not isinstance(mixer, SoftmaxAttention):
        yield (0, 0.0, _ENDLESS, 1.0, state_elements_per_sequence(mixer))
        return
    if isinstance(mixer, CompressedAttention) and mixer.ratio:  # the window's single tokens, beside the entries
        yield (mixer.kv_elements_per_token, index_key_bytes(mixer), _ENDLESS, 1.0, 0)
        yield (mixer.head_dim, 0.0, float(mixer.window), 1.0, 0)
        return
    everything = mixer.window is None or (getattr(mixer, "chunked", False) and not chunks)
    window = _ENDLESS if everything else float(mixer.window or 0)
    yield (mixer.kv_elements_per_token, index_key_bytes(mixer), window, float(mixer.kv_heads), 0)


def least_bytes(kept: Kept, tokens: Floats) -> Floats:
    """The least that ONE sequence of `tokens` tokens can hold: no page, padding or window is larger than it must be."""
    total: Floats = kept.fixed_bytes
    for x in kept.layers:
        total = total + x.count * (x.token_bytes * minimum(tokens, x.window) + x.state_bytes)
    return total


def held(engine: Engine, kept: Kept, tokens: Floats, chunk_tokens: float) -> Held:
    """What ONE sequence of `tokens` tokens holds in an engine that gives pages to sequences, or to each its whole context."""
    if engine.cache == "groups" and _hybrid(kept):
        return _grouped(engine.page_tokens, kept, tokens, chunk_tokens)
    page = engine.page_tokens
    steady: Floats = kept.fixed_bytes
    for x in kept.layers:
        steady = steady + x.count * (x.token_bytes * _padded(minimum(tokens, x.window), page) + x.state_bytes)
    return Held(steady, 0.0)


def _hybrid(kept: Kept) -> bool:
    """Whether layers keep unlike numbers of tokens: windows, or states, too."""
    return any(x.window < _ENDLESS or not np.all(np.asarray(x.token_bytes)) for x in kept.layers)


def _grouped(page: float, kept: Kept, tokens: Floats, chunk_tokens: float) -> Held:
    """vLLM: layers of one kind make groups of equal size, whose blocks all have the bytes of the largest page.

    A state takes one block, so blocks of tokens are made as large as it is. Windows keep what they span and a block more;
    while a prompt is read, they keep a chunk of it, too.
    """
    counts = [x.count for x in kept.layers]
    size = max(counts) if max(counts) < _ALIKE * min(counts) else min(counts)
    widest, state = _most(x.token_bytes for x in kept.layers), _most(x.state_bytes for x in kept.layers)
    block = maximum(_padded(ceil(state / maximum(widest, 1.0)), page), page)
    block_bytes = maximum(block * widest, state)
    steady, passing = 0.0, 0.0
    for x in kept.layers:
        layers = -(-x.count // size) * size
        if not np.all(np.asarray(x.token_bytes)):
            steady = steady + layers * block_bytes
            continue
        each = block * maximum(floor(widest / x.token_bytes), 1.0)  # tokens of a block of this kind
        everything = ceil(tokens / each)
        if x.window == _ENDLESS:
            steady = steady + layers * block_bytes * everything
            continue
        kept_blocks = minimum(everything, ceil((x.window - 1.0) / each) + 1.0)
        while_read = ceil(minimum(x.window - 1.0 + chunk_tokens, tokens) / each) + 1.0
        steady = steady + layers * block_bytes * kept_blocks
        passing = passing + layers * block_bytes * (while_read - kept_blocks)
    return Held(steady + kept.fixed_bytes, passing)


def cells_bytes(engine: Engine, kept: Kept, sequences: Floats, tokens: Floats) -> Floats:
    """llama.cpp: cells for `sequences` whole contexts of `tokens`, one pool for all; windows have a pool of their own.

    That holds the window of each of the server's slots and a micro-batch. States of slots that no sequence uses are left out.
    """
    page = engine.page_tokens
    everything = _padded(sequences * tokens, page)
    slots = maximum(sequences, engine.shared_slots)
    total: Floats = sequences * kept.fixed_bytes
    for x in kept.layers:
        cells = everything
        if x.window < _ENDLESS:
            cells = minimum(everything, _padded(x.window * slots + engine.micro_batch_tokens, page))
        total = total + x.count * (x.token_bytes * cells + sequences * x.state_bytes)
    return total


def most_in_cells(engine: Engine, kept: Kept, free_bytes: Floats, tokens: Floats) -> Floats:
    """The most whole contexts of `tokens` whose cells `free_bytes` hold: one more does not fit."""
    least = maximum(least_bytes(kept, tokens), 1.0)  # of one sequence: pools hold at least that many times it
    return _largest(lambda n: cells_bytes(engine, kept, n, tokens) <= free_bytes, floor(free_bytes / least))


def _largest(fits: Callable[[Floats], Any], most: Floats) -> Floats:
    """The largest whole number up to `most` that fits, of those that all fit below one number and none above; 0 always fits."""
    low, high = 0.0 * most, maximum(most, 0.0)
    while anywhere(low < high):
        middle = ceil((low + high) / 2.0)
        ok = fits(middle)
        low, high = where(ok, middle, low), where(ok, high, middle - 1.0)
    return low


def _padded(count: Floats, page: float) -> Floats:
    return count if page == 1.0 else ceil(count / page) * page


def _most(values: Any) -> Floats:
    found: Floats = 0.0
    for value in values:
        found = maximum(found, value)
    return found
