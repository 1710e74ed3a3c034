"""Prompts as paths of nodes, which a prefix cache knows or does not: conversations, and block hashes of traces."""

from __future__ import annotations

import numpy as np

from waferline.arrays import AnyArray
from waferline.errors import InvalidInputError

Paths = tuple[AnyArray, AnyArray, AnyArray]  # node_from, node, node_tokens, as in `state.Requests`
MOST_NODES = 200_000_000  # of all paths together


def session_paths(
    first: AnyArray, prompt: AnyArray, output: AnyArray, shared: int
) -> tuple[AnyArray, Paths | None, AnyArray | None]:
    """(prompts, paths, grows) of conversations; `first`: where one begins; prompt: what each turn adds.

    Every turn is a node: what the user adds, and then the answer. `shared` tokens of the first prompt are one node for all.
    """
    n = prompt.size
    if shared == 0 and first.all():
        return prompt, None, None
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0))
    turn = np.arange(n) - start
    common = np.minimum(shared, prompt[start] - 1)
    own = prompt - np.where(first, common, 0)
    extra = int(shared > 0)
    sizes = turn + 1 + extra
    node_from = np.concatenate([[0], np.cumsum(sizes)])
    if node_from[-1] > MOST_NODES:
        raise InvalidInputError(f"{node_from[-1]:,} turns in all histories are more than {MOST_NODES:,}")
    request = np.repeat(np.arange(n), sizes)
    place = np.arange(node_from[-1]) - node_from[request] - extra  # -1 is what all share
    node = np.where(place < 0, 0, start[request] + place + extra)
    source = np.maximum(node - extra, 0)
    tokens = np.where(place < 0, common[request], own[source] + np.where(source == request, 0, output[source]))
    whole = np.add.reduceat(tokens, node_from[:-1])
    return whole, (node_from, node, tokens), (~(first & np.append(first[1:], True))).astype(np.int64)


def alike(prompt: AnyArray, share: float) -> dict[str, AnyArray]:
    """Paths of prompts of which a share is the beginning of one text, by field of `state.Requests`; the last token never is."""
    common = np.minimum(np.floor(share * prompt).astype(np.int64), prompt - 1)
    n = prompt.size
    node = np.stack([np.zeros(n, np.int64), 1 + np.arange(n)], axis=1)
    return {
        "node_from": 2 * np.arange(n + 1),
        "node": node.ravel(),
        "node_tokens": np.stack([common, prompt - common], axis=1).ravel(),
    }


def repeated_paths(prompt: AnyArray, shared: int, distinct: int) -> Paths:
    """Paths of prompts that are repeated every `distinct` requests, and begin alike with `shared` tokens."""
    n = prompt.size
    common = np.minimum(shared, prompt - 1)
    node = np.stack([np.zeros(n, np.int64), 1 + np.arange(n) % distinct], axis=1)
    return 2 * np.arange(n + 1), node.ravel(), np.stack([common, prompt - common], axis=1).ravel()


def block_paths(hashes: AnyArray, prompt: AnyArray, block: int) -> Paths:
    """Paths of prompts whose blocks of `block` tokens have a number each: equal numbers are equal prefixes."""
    prompt = np.asarray(prompt, dtype=np.int64)
    sizes = np.minimum([len(h) for h in hashes], -(-prompt // block))
    node_from = np.concatenate([[0], np.cumsum(sizes)])
    flat = np.concatenate([np.asarray(h[:k], dtype=np.int64) for h, k in zip(hashes, sizes, strict=True)])
    _, node = np.unique(flat, return_inverse=True)
    tokens = np.full(flat.size, block)
    some = sizes > 0
    rest = prompt - (sizes - 1) * block
    tokens[node_from[1:][some] - 1] = np.minimum(rest, block)[some]
    return node_from, node, tokens
