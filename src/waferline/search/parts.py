"""A long sweep in parts that survive an interruption: one Parquet file per model and machine, joined at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.errors import FileFormatError
from waferline.predict.serving import ServingModel
from waferline.search.study_file import Sweep
from waferline.search.sweep import sweep, write_parquet

_KEY_DIGITS = 16  # of the hash that ties a part to what was asked


def part_of(out: Path, todo: Sweep, model: str, machine: str) -> Path:
    """Where one pair's points are kept; another grid or another pair has another name."""
    axes = {name: values.tolist() for name, values in todo.axes.items()}
    asked = json.dumps([model, machine, axes, todo.fields, todo.engine, todo.kv], sort_keys=True)
    key = hashlib.sha256(asked.encode()).hexdigest()[:_KEY_DIGITS]
    return out.with_name(f".{out.name}.{key}.part")


def solve_pair(todo: Sweep, model: str, machine: str, part: Path, *, done: Callable[[int], None]) -> None:
    """Solve one model on one machine over the whole grid, writing as it goes; the part appears when complete.

    Raises: the typed errors of `ServingModel.solve` and FileFormatError when nothing can be written.
    """
    fixed: dict[str, Any] = {"model": model, "hardware": machine, "engine": todo.engine, "kv": todo.kv}
    columns = sweep(ServingModel().solve, todo.axes, todo.fields, fixed=fixed)
    write_parquet(_named(columns, model, machine), part, done=done)


def _named(
    chunks: Iterator[dict[str, npt.NDArray[Any]]], model: str, machine: str
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    for chunk in chunks:
        size = len(next(iter(chunk.values())))
        yield {"model": np.full(size, model), "machine": np.full(size, machine), **chunk}


def join_parts(out: Path, todo: Sweep, pairs: Sequence[tuple[str, str]]) -> int:
    """All parts that are there as one file; the parts are removed once it is complete. Returns the number of rows.

    Raises: FileFormatError when the file cannot be written.
    """
    import pyarrow.parquet as pq

    parts = [p for p in (part_of(out, todo, m, h) for m, h in pairs) if p.is_file()]
    if not parts:
        return 0
    partial, rows = out.with_name(out.name + ".partial"), 0
    try:
        with pq.ParquetWriter(partial, pq.read_schema(parts[0])) as writer:
            for part in parts:
                for batch in pq.ParquetFile(part).iter_batches():
                    writer.write_batch(batch)
                    rows += batch.num_rows
        partial.replace(out)
    except OSError as error:
        raise FileFormatError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
    for part in parts:
        part.unlink()
    return rows
