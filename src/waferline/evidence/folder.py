"""Where published measurements lie: the folder beside a checkout when it is there, else the rows the package ships."""

from __future__ import annotations

import os
from pathlib import Path

from waferline.errors import FileFormatError
from waferline.evidence.lint import with_marks
from waferline.evidence.rows import Row, read_rows

PACKAGED = Path(__file__).parent / "data" / "complete.csv.gz"
_CHECKOUT = Path(__file__).parents[3]  # of a source checkout; in an installed package nothing is found there
_FILES = ("llm-inference", "llm-training", "other-inference", "other-training", "edge-inference")


def evidence_folder(shared: str | Path | None = None) -> Path | None:
    """The folder with the full collection: `shared`, else `$WAFERLINE_SHARED`, else `../shared` beside the checkout.

    Each may name the collection itself or the folder that holds `evidence/`. None when only packaged rows are at hand.
    Raises: FileFormatError when a folder that was asked for holds no measurements.
    """
    asked = shared or os.environ.get("WAFERLINE_SHARED")
    if asked:
        found = _inside(Path(asked))
        if found is None:
            raise FileFormatError(f"holds no {_FILES[0]}.csv.gz", where=str(asked))
        return found
    return _inside(_CHECKOUT.parent / "shared")


def _inside(folder: Path) -> Path | None:
    for candidate in (folder, folder / "evidence"):
        if (candidate / f"{_FILES[0]}.csv.gz").is_file():
            return candidate
    return None


def evidence_files(shared: str | Path | None = None) -> list[Path]:
    """The files of measurements to score: the full collection when it is there, else the packaged rows."""
    folder = evidence_folder(shared)
    if folder is None:
        return [PACKAGED]
    return [folder / f"{name}.csv.gz" for name in _FILES if (folder / f"{name}.csv.gz").is_file()]


def evidence_rows(shared: str | Path | None = None) -> list[Row]:
    """All rows of `evidence_files`, in file order, those that a rule of `lint` finds marked suspect."""
    return with_marks([row for path in evidence_files(shared) for row in read_rows(path)])
