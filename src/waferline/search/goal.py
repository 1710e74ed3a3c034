"""A goal for an answer in words: `tpot<=20ms`, `throughput>=5000`, `device_memory_bytes<=60GB`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from waferline.errors import InvalidInputError
from waferline.units import to_si, unit_of

_GOAL = re.compile(r"([A-Za-z0-9_]+)\s*(<=|>=)\s*(.+)")
# What people say → the field of a served answer, under load first, and of one pass where it has another.
NAMES: Mapping[str, tuple[str, ...]] = {
    "ttft": ("loaded_ttft_s", "ttft_s"),
    "tpot": ("loaded_tpot_s", "itl_s"),
    "itl": ("loaded_tpot_s", "itl_s"),
    "e2e": ("loaded_request_s", "request_s"),
    "latency": ("latency_s", "step_time_s", "loaded_request_s", "request_s"),
    "throughput": ("loaded_throughput_tokens_per_s", "throughput_tokens_per_s", "samples_per_s", "tokens_per_s"),
    "cost": ("cost_usd_per_mtoken",),
    "energy": ("energy_j_per_token", "energy_j_per_sample"),
    "memory": ("device_memory_bytes", "memory_bytes"),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """At most (or at least) `limit` of a field, in SI units. fields: names that it may have, the first that an answer has."""

    fields: tuple[str, ...]
    most: bool
    limit: float
    text: str

    @staticmethod
    def of(text: str) -> Bound:
        """Raises: InvalidInputError for another form, a limit that is no number, or one in another unit."""
        match = _GOAL.fullmatch(text.strip())
        if match is None:
            raise InvalidInputError(f"goal '{text}' is not of the form tpot<=20ms or throughput>=5000")
        fields = NAMES.get(match[1].lower(), (match[1],))
        unit = unit_of(fields[0]).split("/")[0] if unit_of(fields[0]) in ("second", "byte", "watt", "joule") else ""
        limit = float(to_si(match[1], match[3].strip().removeprefix("$"), unit or "dimensionless"))
        if not 0.0 <= limit < np.inf:
            raise InvalidInputError(f"goal '{text}': the limit is a finite number, and no answer is below 0")
        return Bound(fields, match[2] == "<=", limit, text.strip())
