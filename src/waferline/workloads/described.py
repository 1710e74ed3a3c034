"""What lessons read off a model: parameters, layers and heads, under the names of the package that they were written for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Described:
    """Of any model. Counts are of the model as it is described, not of a card."""

    __slots__ = ()

    @property
    def parameters(self) -> Any:
        """All of them, as a quantity in `param`."""
        from waferline.units import quantity  # reads NumPy, which a model alone does not need

        counted = import_module("waferline.workloads.weights").weight_elements(self)  # which reads models
        return quantity(sum(counted.values()), "param")

    def size_in_bytes(self, precision: Any = "2 byte") -> Any:
        """Weights at so many bytes a parameter. Raises: InvalidInputError for what is no size."""
        from waferline.units import quantity, to_si

        return quantity(self.parameters.magnitude * to_si("precision", precision, "byte"), "byte")


class DescribedTransformer(Described):
    """Of a stack of layers: their number, and widths of the first that attends."""

    __slots__ = ()

    @property
    def layers(self) -> int:
        return sum(block.count for block in self.blocks)  # type: ignore[attr-defined]

    @property
    def hidden_dim(self) -> int:
        return int(self.hidden_size)  # type: ignore[attr-defined]

    @property
    def heads(self) -> int:
        return self._first("heads")

    @property
    def kv_heads(self) -> int:
        return self._first("kv_heads")

    def _first(self, name: str) -> int:
        return next((int(getattr(b.mixer, name) or 0) for b in self.blocks if hasattr(b.mixer, name)), 0)  # type: ignore[attr-defined]
