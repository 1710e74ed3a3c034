"""The header of a GGUF model: the architecture's own keys, one value for all layers or one for each.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and `gguf.Keys` in the package of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any

from waferline.errors import FileFormatError, InvalidInputError
from waferline.workloads.config_reader import MAX_LAYERS, MAX_SIZE


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata of one file; keys are given without the architecture in front."""

    values: Mapping[str, Any]
    architecture: str
    where: str

    def get(self, key: str) -> Any:
        return self.values.get(f"{self.architecture}.{key}")

    def whole(self, key: str, layer: int = 0) -> int | None:
        """A whole number, of `layer` where each has its own; None when the header has none.

        Raises: FileFormatError for a list that is too short, InvalidInputError for what is no size.
        """
        value = self.get(key)
        if isinstance(value, list):
            if layer >= len(value):
                raise FileFormatError(f"'{key}' has {len(value)} values, none for layer {layer}", where=self.where)
            value = value[layer]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
            raise InvalidInputError(
                f"'{key}' must be a whole number up to {MAX_SIZE}, not {shown(value)}", where=self.where
            )
        return value

    def size(self, key: str, layer: int = 0) -> int:
        """A positive whole number that has to be there."""
        value = self.whole(key, layer)
        if value is None:
            raise FileFormatError(f"no '{self.architecture}.{key}' in the header", where=self.where)
        if not value:
            raise InvalidInputError(f"'{key}' is 0", where=self.where)
        return value

    def layers(self, key: str = "block_count") -> int:
        """The number of layers."""
        count = self.size(key)
        if count > MAX_LAYERS:
            raise InvalidInputError(f"'{key}' is {count}, more than {MAX_LAYERS}", where=self.where)
        return count
