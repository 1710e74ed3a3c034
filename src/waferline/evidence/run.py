"""One published run of a served model: its cells, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.catalog.table_file import number_in

_FEW_PROMPTS = 0.09  # of the steps: the 90th percentile of gaps sees none of them
_UNEVEN = 1.25  # times the median; where the host was the run's own it is 1.0 to 1.1
_ADDS_UP = 0.25  # of the mean latency: means of products of lengths that vary differ by less


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

    @property
    def first_token_counts(self) -> bool:
        """Whether its TPOT is the whole time over all tokens, as GuideLLM's is: which its mean times tell."""
        gaps = self._gaps()
        return "tpot" in gaps and gaps["whole"] < gaps["tpot"]

    @property
    def bundled(self) -> frozenset[str]:
        """Of TPOT and ITL, what does not add up to its mean latency: its client did not see every token."""
        gaps = self._gaps()
        whole = gaps.pop("whole", float("inf"))
        return frozenset(name for name, gap in gaps.items() if min(gap, whole if name == "tpot" else gap) > _ADDS_UP)

    def _gaps(self) -> dict[str, float]:
        """How far the mean latency is from what tokens add up to, over itself: by TPOT, by ITL, and by TPOT of whole requests."""
        e2e, ttft, tokens = (self.number(name) for name in ("e2e_mean_s", "ttft_mean_s", "output_tokens"))
        if not e2e or ttft is None or not tokens:
            return {}
        each = {name: self.number(f"{name}_mean_s") for name in ("tpot", "itl")}
        found = {n: abs(ttft + (tokens - 1.0) * v - e2e) / e2e for n, v in each.items() if v is not None}
        return found if each["tpot"] is None else {**found, "whole": abs(tokens * each["tpot"] - e2e) / e2e}

    def count(self, name: str) -> int | None:
        value = self.number(name)
        return None if value is None else round(value)
