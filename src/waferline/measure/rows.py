"""Measurements as evidence rows: the columns that published measurements come in, so that both are scored alike."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from waferline.text import csv_cell

# The schema of published measurements; a row that leaves a column empty has not stated it.
COLUMNS = (
    "id", "source", "url", "locator", "kind", "hardware", "devices", "model", "phase", "weight_format",
    "activation_format", "kv_format", "batch", "input_tokens", "output_tokens", "tp", "pp", "ep", "dp", "engine",
    "engine_version", "metric", "value", "complete", "missing", "suspect", "notes", "operation", "cores_or_grid",
    "unit",
)  # fmt: skip

# Which rate or time of a record is which metric. A record says its subject in `detail["evidence"]`.
_RATES: Mapping[str, str] = {
    "output_tokens": "output_tokens_per_s",
    "prompt_tokens": "prompt_tokens_per_s",
    "samples": "samples_per_s",
}
_COPIED = (
    "hardware", "devices", "model", "phase", "weight_format", "activation_format", "kv_format", "batch", "input_tokens",
    "output_tokens", "tp", "pp", "ep", "dp", "engine", "engine_version", "operation",
)  # fmt: skip
_SOURCE = "waferline measure"
# What a measurement has at least, whichever version wrote it.
_NUMBER = int | float
_MEASURED: Mapping[str, Any] = {
    "name": str,
    "device": str,
    "started": str,
    "median_s": _NUMBER,
    "spread": _NUMBER,
    "repeats": _NUMBER,
    "work": {},
    "rates": {},
    "check": {"reference": str, "error": _NUMBER},
    "conditions": {"warnings": list},
    "machine": {"digest": str, "cpu": str, "cores": _NUMBER, "isa": str},
}


def evidence_rows(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of all records that measured something; refusals, and what lacks what a measurement has, yield none.

    A token rate becomes the metric of that name; everything else is `latency` in seconds, its rates in the notes.
    A disturbed measurement is marked `suspect` with what disturbed it.
    """
    for record in records:
        if not is_measurement(record):
            continue
        rates = record["rates"]
        named = [(metric, rates[f"{unit}_per_s"]) for unit, metric in _RATES.items() if f"{unit}_per_s" in rates]
        for metric, value in named or [("latency_s", record["median_s"])]:
            yield _row(record, metric, value)


def is_measurement(record: Mapping[str, Any]) -> bool:
    """Whether a record is of something that ran, with all that a row needs."""
    return record.get("engaged") is True and _is_like(record, _MEASURED)


def _is_like(value: Any, wanted: Any) -> bool:
    """Whether `value` has the keys of `wanted` with values of those types."""
    if not isinstance(wanted, Mapping):
        return isinstance(value, wanted)
    return isinstance(value, dict) and all(_is_like(value.get(key), kind) for key, kind in wanted.items())


def _row(record: Mapping[str, Any], metric: str, value: float) -> dict[str, Any]:
    detail = record.get("detail")
    subject = detail.get("evidence") if isinstance(detail, Mapping) else None
    subject = subject if isinstance(subject, Mapping) else {}
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {key: subject[key] for key in _COPIED if subject.get(key) is not None}
    machine = record["machine"]
    row["hardware"] = row["hardware"] or f"this-{machine['digest']}"
    row["model"] = row["model"] or record["name"]
    row["engine"] = row["engine"] or "waferline"
    row["engine_version"] = row["engine_version"] or (machine.get("versions") or {}).get("waferline", "")
    row["phase"] = row["phase"] or "operator"
    row |= {
        "source": _SOURCE,
        "locator": record["started"],
        "kind": "measured",
        "metric": metric,
        "value": value,
        "suspect": "; ".join(map(str, record["conditions"]["warnings"])),
        "notes": _notes(record),
    }
    row["id"] = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]
    return row


def _notes(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    parts = [
        record["name"],
        f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}, on {record['device']}",
        f"median of {record['repeats']} repeats, spread {record['spread']:.3f}",
        f"checked against {record['check']['reference']}, error {record['check']['error']:.2g}",
    ]
    return "; ".join(parts)


def rows_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV text with a header. A spreadsheet takes no cell for a formula: a server may have chosen the name in it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)
    return out.getvalue()
