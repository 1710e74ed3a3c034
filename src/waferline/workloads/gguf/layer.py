"""The tensors of one layer, each taken once by the part that it belongs to; what nobody takes is a structure not known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from waferline.errors import FileFormatError
from waferline.formats.tensors import TensorInfo

_OF_HEADS = ("attn_q_norm.", "attn_k_norm.")  # as wide as the model by accident


class Layer:
    """Tensors by their name after `blk.N.`. `where` names the file in errors."""

    __slots__ = ("_left", "number", "unused", "where")

    def __init__(self, tensors: Mapping[str, TensorInfo], number: int, where: str) -> None:
        self._left, self.number, self.where = dict(tensors), number, where
        self.unused = 0  # weights that are stored and that no pass reads

    def has(self, *names: str) -> bool:
        """Whether one of these is there and not taken."""
        return any(name in self._left for name in names)

    def elements(self, name: str) -> int:
        """Takes a tensor and gives its number of elements; 0 when there is none."""
        tensor = self._left.pop(name, None)
        return 0 if tensor is None else tensor.weights

    def all(self, *names: str) -> bool:
        """Takes these tensors and tells whether all of them were there; takes none otherwise."""
        if not all(name in self._left for name in names):
            return False
        for name in names:
            del self._left[name]
        return True

    def matrix(self, *names: str) -> tuple[int, int] | None:
        """Takes the first of `names` that is there: its rows (all but the last dimension) and columns."""
        for name in names:
            if name in self._left:
                shape = self._left.pop(name).shape
                return math.prod(shape[:-1]), shape[-1] if shape else 1
        return None

    def need(self, *names: str) -> tuple[int, int]:
        """As `matrix`, of a tensor that has to be there."""
        found = self.matrix(*names)
        if found is None or not found[0]:
            raise self.wrong(f"no '{names[0]}'")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that is not taken yet, empty when there is none."""
        return self._left[name].shape if name in self._left else ()

    def norms(self, width: int) -> tuple[int, int]:
        """Takes the norms over the residual stream: how many weights of `width` and how many biases."""
        names = [
            n for n, t in self._left.items() if "norm" in n and t.shape == (width,) and not n.startswith(_OF_HEADS)
        ]
        for name in names:
            del self._left[name]
        biases = sum(name.endswith(".bias") for name in names)
        return len(names) - biases, biases

    def rest(self) -> int:
        """Elements of all tensors that nobody took."""
        return sum(tensor.weights for tensor in self._left.values())

    def largest_unknown(self, known: tuple[str, ...]) -> tuple[str, int]:
        """The largest of those whose names start with none of `known`, and its elements."""
        unknown = {name: t.weights for name, t in self._left.items() if not name.startswith(known)}
        name = max(unknown, key=lambda n: (unknown[n], n), default="")
        return name, unknown.get(name, 0)

    def wrong(self, message: str) -> FileFormatError:
        return FileFormatError(f"layer {self.number}: {message}", where=self.where)


def divided(layer: Layer, total: int, by: int, what: str) -> int:
    """`total / by`, which the tensors and the header must agree on."""
    if not by or total % by or not total:
        raise layer.wrong(f"{total} {what} are not {by} equal parts")
    return total // by
