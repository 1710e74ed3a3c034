"""What `waferline measure` kept, each figure beside what predict said of it when it was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waferline.measure.rows import is_measurement
from waferline.measure.store import read

# Of a server's load: what it is called, its key, its unit. Times are medians over requests.
_SERVED = (("TTFT", "ttft_s", "s"), ("TPOT", "tpot_s", "s"), ("output tokens/s", "output_tokens_per_s", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure in SI. name: what ran. quantity: time, TTFT, TPOT or output tokens/s. predicted: what predict said when it was
    measured, with its 90 % interval; None where nobody asked it. spread: of the repeats, as a share; None of a server."""

    started: str
    machine: str
    name: str
    quantity: str
    unit: str
    measured: float
    spread: float | None = None
    predicted: float | None = None
    low90: float | None = None
    high90: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The operator, the phase of a model, or server."""
        return self.name.split(" ")[0]

    @property
    def off(self) -> float | None:
        """Predicted over measured, less one."""
        return None if self.predicted is None else self.predicted / self.measured - 1.0


def measurements(store: str | Path | None = None) -> list[Measured]:
    """Every figure that the store (the user's own, unless one is named) holds, the newest first; refusals have none.

    Raises: FileFormatError where the store cannot be read.
    """
    records = read(None if store is None else Path(store)).records
    return [figure for record in reversed(records) for figure in _figures(record)]


def _figures(record: Mapping[str, Any]) -> Iterator[Measured]:
    told = _mapping(record.get("predicted"))
    about: dict[str, Any] = {key: str(record.get(key) or "") for key in ("started", "name")}
    about["warnings"] = tuple(map(str, _mapping(record.get("conditions")).get("warnings") or ()))
    host = _mapping(record.get("machine"))
    if is_measurement(record):
        yield Measured(
            **about, machine=str(host["cpu"]), quantity="time", unit="s", measured=record["median_s"], spread=record["spread"],
            predicted=_number(told, "expected_s"), low90=_number(told, "low90_s"), high90=_number(told, "high90_s"),
        )  # fmt: skip
    served = _mapping(record.get("summary"))
    for quantity, key, unit in _SERVED:
        value = served.get(key)
        found = _number(value, "p50") if isinstance(value, Mapping) else _number(served, key)
        if found is not None:
            where = str(
                _mapping(_mapping(record.get("detail")).get("evidence")).get("hardware") or host.get("cpu") or ""
            )
            yield Measured(
                **about, machine=where, quantity=quantity, unit=unit, measured=found, predicted=_number(told, key)
            )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """A number above zero; None for what a file may have in its place."""
    value = values.get(key)
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
