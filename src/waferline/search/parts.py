"""A long sweep in parts that survive an interruption: one Parquet file a pair, joined at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from waferline.arrays import AnyArray
from waferline.files import replacing
from waferline.predict.serving import ServingModel
from waferline.search.pairs import Pair
from waferline.search.study_file import Sweep
from waferline.search.sweep import sweep, write_parquet


def solve_pair(todo: Sweep, pair: Pair, part: Path, *, done: Callable[[int], None]) -> None:
    """Solve one pair over the whole grid, writing as it goes; the part appears when complete.

    Raises: the typed errors of `ServingModel.solve` and FileFormatError when nothing can be written.
    """
    columns = sweep(ServingModel().solve, todo.axes, todo.fields, fixed=pair.arguments(todo))
    write_parquet(_named(columns, pair), part, done=done)


def _named(chunks: Iterator[dict[str, AnyArray]], pair: Pair) -> Iterator[dict[str, AnyArray]]:
    for chunk in chunks:
        size = len(next(iter(chunk.values())))
        yield {"model": np.full(size, pair.model), "machine": np.full(size, pair.machine), **chunk}


def join_parts(out: Path, parts: Sequence[Path]) -> int:
    """All parts as one file; the parts are removed once it is complete. Returns the number of rows.

    Raises: FileFormatError when the file cannot be written.
    """
    import pyarrow.parquet as pq

    rows = 0
    with replacing(out) as own, pq.ParquetWriter(own, pq.read_schema(parts[0])) as writer:
        for part in parts:
            for batch in pq.ParquetFile(part).iter_batches():
                writer.write_batch(batch.cast(writer.schema))
                rows += batch.num_rows
    for part in parts:
        part.unlink()
    return rows
