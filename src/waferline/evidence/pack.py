"""Writes the rows that the package ships: complete, unsuspected ones (`python -m waferline.evidence.pack`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.evidence.folder import PACKAGED, evidence_folder, evidence_rows
from waferline.evidence.rows import Row, write_rows

_MOST_BYTES = 5_000_000


def shipped(rows: Sequence[Row]) -> list[Row]:
    """Rows whose configuration is complete and whose value nobody doubts, in a stable order."""
    kept = [replace(r, missing="") for r in rows if r.complete and not r.suspect and r.kind == "measured"]
    return sorted(kept, key=lambda r: r.id)


def main() -> None:
    """Write the packaged rows from the full collection.

    Raises: InvalidInputError when the full collection is not at hand or the result would be too large.
    """
    if evidence_folder() is None:
        raise InvalidInputError("the full collection is not at hand", hint="set WAFERLINE_SHARED to its folder")
    rows = shipped(evidence_rows())
    write_rows(PACKAGED, rows)
    size = PACKAGED.stat().st_size
    if size > _MOST_BYTES:
        raise InvalidInputError(f"{size:,} bytes are more than the package may carry", where=str(PACKAGED))
    print(f"{len(rows):,} rows, {size:,} bytes")


if __name__ == "__main__":
    main()
