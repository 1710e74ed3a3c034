"""Constants measured on one machine, as its file keeps them under `efficiency`, and which of them suit an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.errors import FileFormatError
from waferline.predict.efficiency.coefficients import Record
from waferline.predict.efficiency.intervals import Regime
from waferline.workloads.operator import Operator


def records(section: Mapping[str, Any]) -> dict[str, Record]:
    """The `efficiency` section of a machine file as records, by `kind/format`.

    Raises: FileFormatError naming the record that lacks a key or holds what is no number.
    """
    return {key: _record(key, entry, section) for key, entry in section.get("records", {}).items()}


def _record(key: str, entry: Mapping[str, Any], section: Mapping[str, Any]) -> Record:
    kind, _, fmt = key.partition("/")
    try:
        return Record(
            machine="this",
            op_kind=kind,
            compute_format=fmt,
            engine="waferline",
            c={name: float(value) for name, value in entry["c"].items()},
            residual=tuple(Regime(*map(_number, row)) for row in entry["residual"]),
            rows=int(entry["rows"]),
            groups=int(entry["groups"]),
            split=str(section["split"]),
            median_error=float(entry["median"]),
            p90_error=float(entry["p90"]),
            date=str(section["date"]),
            source=str(section["source"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"record '{key}': {what}", where="efficiency") from None


def _number(value: Any) -> float:
    """A figure of a residual row; JSON writes the infinite last edge as null."""
    return float("inf") if value is None else float(value)


def record_for(found: Mapping[str, Record], op: Operator) -> Record | None:
    """The measured constants that suit an operator: of its weight format, of that format's family (`q4_k` for `q4_k_m`),
    or of its kind."""
    names = (op.weights, op.weights.rpartition("_")[0]) if op.kind == "gemm" else ()
    keys = (*(f"{op.kind}/{name}" for name in names), op.kind)
    return next((found[key] for key in keys if key in found), None)
