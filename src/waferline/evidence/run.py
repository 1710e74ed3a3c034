"""One published run of a served model: its cells, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.catalog.table_file import number_in

_FEW_PROMPTS = 0.09  # of the steps: the 90th percentile of gaps sees none of them
_UNEVEN = 1.25  # times the median; where the host was the run's own it is 1.0 to 1.1


@dataclass(frozen=True, slots=True)
class Run:
    """One published run: its cells by column, as text."""

    cells: Mapping[str, str]

    def number(self, name: str) -> float | None:
        """A stated number; None where the cell is empty. Raises: FileFormatError for another text."""
        return number_in(self.cells, name)

    @property
    def uneven(self) -> bool:
        """Whether others ran on its host: hardly a step reads a prompt, and yet the time between tokens varies."""
        running, output = self.number("running_mean"), self.number("output_tokens")
        p50, p90 = self.number("itl_p50_s"), self.number("itl_p90_s")
        if not self.steady or running is None or output is None or p50 is None or p90 is None:
            return False
        return running / output < _FEW_PROMPTS and p90 > _UNEVEN * p50

    @property
    def steady(self) -> bool:
        """Whether its statistics are of the time while every place is taken."""
        return "steady" in (self.cells.get("arrival") or "")

    def count(self, name: str) -> int | None:
        value = self.number(name)
        return None if value is None else round(value)
