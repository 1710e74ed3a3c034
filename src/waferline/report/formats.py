"""What formats are and what they lose, as tables and as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from waferline.formats.codec import codecs
from waferline.formats.convert import Step
from waferline.formats.reconstruction import ErrorStats
from waferline.report.table import Block, Column, Table

_COLUMNS = 4096  # row scales and zero points depend on the row's length; this is a common one
_CODECS = ("format", Column("bits", ".4g"), Column("block", "d"), "encodes", "GGUF", "what it is")
_L2, _SQNR = Column("relative L2", ".3g"), Column("SQNR dB", ".1f")
_STEPS = ("tensor", "shape", "from", "to", _L2, _SQNR, "note")
_LOSSES = ("bits", "relative_l2", "max_abs", "sqnr_db", "cosine")
_ERRORS = (
    "tensor",
    "format",
    Column("bits", ".4g"),
    _L2,
    Column("max abs", ".3g"),
    _SQNR,
    Column("cosine", ".6f"),
    "note",
)


def codec_rows() -> list[dict[str, Any]]:
    """Every format that can be encoded or decoded."""
    return [
        {
            "name": c.name,
            "bits": c.bits(_COLUMNS),
            "block": c.block,
            "encodes": c.encode_rows is not None,
            "tensor_scale": c.tensor_scale,
            "gguf": c.ggml,
            "about": c.about,
        }
        for c in codecs().values()
    ]


def codec_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("name", "bits", "block", "encodes", "gguf", "about")
    return Table("", _CODECS, [[row[key] for key in keys] for row in rows])


def quantize_data(steps: Sequence[Step], errors: Mapping[str, ErrorStats], output: Path) -> dict[str, Any]:
    """Everything `quantize` did."""
    tensors = [
        {
            "name": step.source.name,
            "shape": step.source.shape,
            "from": step.source.format,
            "to": step.target,
            "bytes": step.nbytes,
            "kept_because": step.reason,
            "error": errors.get(step.source.name),
        }
        for step in steps
    ]
    weights, total_bytes = sum(s.source.weights for s in steps), sum(s.nbytes for s in steps)
    sizes = {"file_bytes": output.stat().st_size, "tensor_bytes": total_bytes, "weights": weights}
    return {"output": output, **sizes, "bits": 8 * total_bytes / weights if weights else None, "tensors": tensors}


def quantize_report(result: Mapping[str, Any]) -> Iterator[Block]:
    rows = []
    for t in result["tensors"]:
        losses = (t["error"].relative_l2, t["error"].sqnr_db) if t["error"] else ("", "")
        rows.append((t["name"], " x ".join(map(str, t["shape"])), t["from"], t["to"], *losses, t["kept_because"]))
    yield Table("", _STEPS, rows)
    bits = f", {result['bits']:.3f} bits each" if result["bits"] else ""
    yield f"{result['output']}: {result['file_bytes']:,} bytes, {result['weights']:,} weights{bits}"


def error_table(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, ErrorStats]) -> Table:
    """What each format loses on each tensor, then on all of them."""
    body = [(row["tensor"], row["format"], *_losses(row["error"]), row["refused"]) for row in rows]
    return Table("", _ERRORS, [*body, *(("all", name, *_losses(stats), "") for name, stats in summary.items())])


def _losses(stats: ErrorStats | None) -> list[Any]:
    return [getattr(stats, key) if stats else "" for key in _LOSSES]
