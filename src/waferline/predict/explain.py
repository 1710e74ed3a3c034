"""Where the time of a pass goes, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from waferline.predict.operator_row import OperatorRow
from waferline.text import metric, percent

ENGINE = "engine (host, launches, pipeline)"
HEADER = ("operator", "×", "time", "share", "light", "FLOPs", "bytes", "bound by", "known")


class Explained(Protocol):
    """What a breakdown reads of a result."""

    @property
    def operators(self) -> Sequence[OperatorRow]: ...

    def __getitem__(self, name: str) -> Any: ...

    def __contains__(self, name: object) -> bool: ...


def _first(value: Any) -> Any:
    return np.asarray(value).flat[0]


def explain_rows(result: Explained, phase: str) -> Iterator[tuple[str, ...]]:
    """Operators of `phase`, longest first, then what the engine adds, for the first scenario."""
    rows = sorted((r for r in result.operators if r.phase == phase), key=lambda r: -float(_first(r.time_s)))
    total = phase_total_s(result, phase, rows)
    for row in rows:
        time_s = float(_first(row.time_s))
        yield (
            row.name,
            f"{float(_first(row.count)):g}",
            metric(time_s, "s"),
            percent(time_s / total),
            metric(float(_first(row.light_s)), "s"),
            metric(float(_first(row.flops)), "FLOP"),
            metric(float(_first(row.bytes)), "B"),
            str(_first(row.bound)),
            row.tier,
        )
    host = total - sum(float(_first(r.time_s)) for r in rows)
    if host > total * 1e-6:
        yield (
            ENGINE,
            "1",
            metric(host, "s"),
            percent(host / total),
            "0 s",
            "",
            "",
            "overhead",
            "",
        )


_TOTALS = {"prefill": "ttft_s", "decode": "itl_s", "infer": "latency_s", "train": "latency_s"}


def phase_total_s(result: Explained, phase: str, rows: list[OperatorRow]) -> float:
    """The phase's expected time; where a result has no such field, the sum of its operators."""
    key = _TOTALS.get(phase, "")
    if key in result:
        return float(_first(result[key]))
    return sum(float(_first(r.time_s)) for r in rows) or 1.0


def explain_text(result: Explained) -> str:
    """All phases as plain text tables."""
    lines: list[str] = []
    for phase in dict.fromkeys(r.phase for r in result.operators):
        table = [HEADER, *explain_rows(result, phase)]
        widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]
        lines.append(phase)
        lines += [
            "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines.append("")
    return "\n".join(lines)


def constraint_lines(values: Mapping[str, Any]) -> list[str]:
    """What a result's values were held against: memory needed of memory at hand, and the roof that binds each phase."""
    lines = []
    for needed, room in _HELD:
        if needed in values and room in values:
            over = np.asarray(values[needed]) > np.asarray(values[room])
            verdict = (
                "does not fit" if np.all(over) else "fits" if not np.any(over) else "fits in part of the scenarios"
            )
            sizes = " of ".join(metric(float(_first(values[key])), "B") for key in (needed, room))
            lines.append(f"memory: {sizes}: {verdict}")
            break
    if not lines and "feasible" in values:
        lines.append(f"memory: {'fits' if np.all(values['feasible']) else 'does not fit'}")
    lines += [f"{key.replace('_', ' ')}: {_first(values[key])}" for key in _BINDS if key in values]
    return lines


_HELD = (("device_memory_bytes", "usable_bytes"), ("device_memory_bytes", "capacity_bytes"))
_BINDS = ("bottleneck", "prefill_bottleneck", "decode_bottleneck")
