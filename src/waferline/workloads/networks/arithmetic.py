"""Matrix products of common operators from their shapes. Sizes are (batch, channels, positions…) unless said."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from waferline.errors import InvalidInputError
from waferline.workloads.networks.graph import Product


def convolution(positions: int, c_in: int, c_out: int, kernel: Sequence[int], groups: int) -> Product:
    """Every output position (of all inputs of the batch) takes `c_in / groups` × kernel numbers for each channel."""
    if groups < 1 or c_in % groups or c_out % groups:
        raise InvalidInputError(f"{groups} groups do not divide {c_in} channels in and {c_out} out")
    return Product(positions, c_out // groups, c_in // groups * prod(kernel), groups)


def transposed_convolution(positions: int, c_in: int, c_out: int, kernel: Sequence[int], groups: int) -> Product:
    """Every input position gives a kernel of outputs."""
    if groups < 1 or c_in % groups or c_out % groups:
        raise InvalidInputError(f"{groups} groups do not divide {c_in} channels in and {c_out} out")
    return Product(positions, c_out // groups * prod(kernel), c_in // groups, groups)


def matrix_product(a: Sequence[int], b: Sequence[int], constant: bool) -> Product:
    """a[…, m, k] · b[…, k, n] as NumPy's matmul has it; a constant matrix meets all rows of `a` at once."""
    left = (1, *a) if len(a) == 1 else tuple(a)
    right = (*b, 1) if len(b) == 1 else tuple(b)
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        raise InvalidInputError(f"matrices of {tuple(a)} and {tuple(b)} do not multiply")
    if len(right) == 2 or (constant and prod(right[:-2]) == 1):
        return Product(prod(left[:-1]), right[-1], right[-2])
    batch = 1
    for x, y in zip(_padded(left[:-2], right[:-2]), _padded(right[:-2], left[:-2]), strict=True):
        if x != y and 1 not in (x, y):
            raise InvalidInputError(f"matrices of {tuple(a)} and {tuple(b)} do not multiply")
        batch *= max(x, y)
    return Product(left[-2], right[-1], right[-2], count=batch)


def _padded(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return (1,) * max(0, len(other) - len(one)) + tuple(one)


def recurrent(steps: int, batch: int, inputs: int, hidden: int, gates: int, directions: int) -> tuple[Product, Product]:
    """An LSTM (4 gates), GRU (3) or plain cell (1): inputs of all steps at once, then the states step by step."""
    return (
        Product(steps * batch, gates * hidden, inputs, count=directions),
        Product(batch, gates * hidden, hidden, count=directions * steps),
    )


def attention(batch: int, heads: int, queries: int, keys: int, width: int, value_width: int) -> tuple[Product, Product]:
    """Scores and weighted values of softmax attention, every key seen by every query."""
    count = batch * heads
    return Product(queries, keys, width, count=count), Product(queries, value_width, keys, count=count)


def einsum(equation: str, a: Sequence[int], b: Sequence[int]) -> Product:
    """Two operands of an Einstein sum without an ellipsis: labels in both and the output are a batch."""
    text = equation.replace(" ", "")
    sides, _, out = text.partition("->")
    labels = sides.split(",")
    if len(labels) != 2 or "." in text or len(labels[0]) != len(a) or len(labels[1]) != len(b):
        raise InvalidInputError(f"the Einstein sum {equation[:40]!r} of shapes {tuple(a)} and {tuple(b)} is not read")
    if "->" not in text:
        out = "".join(sorted(x for x in set("".join(labels)) if "".join(labels).count(x) == 1))
    size = dict(zip(labels[0], a, strict=True)) | dict(zip(labels[1], b, strict=True))
    left, right = set(labels[0]), set(labels[1])
    parts = {
        "m": left - right,
        "n": right - left,
        "k": (left & right) - set(out),
        "count": left & right & set(out),
    }
    return Product(**{key: prod(size[x] for x in names) for key, names in parts.items()})
