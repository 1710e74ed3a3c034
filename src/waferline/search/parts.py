"""A long sweep in parts that survive an interruption: Parquet files beside the output, joined at the end.

The points of a pair are solved in chunks, here, in worker processes or on a cluster; the process that asked writes them in their
order, so the output is the same however it was made.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.files import replacing
from waferline.search.pairs import Answered, Pair
from waferline.search.study_file import Sweep
from waferline.search.sweep import CHUNK_POINTS, Columns, chunks, points_of, solve_chunk, write_parquet

PART_CHUNKS = 50  # what an interruption can cost: some seconds of work
GATHERED = CHUNK_POINTS // 2  # rows of small chunks that are written together


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive chunks of one pair, and the file that holds them once they are solved."""

    path: Path
    pair: Pair
    chunks: Sequence[tuple[Mapping[str, Any], Columns]]  # choice and sub-grid

    @property
    def points(self) -> int:
        return sum(points_of(arguments) for _, arguments in self.chunks)


def parts_of(todo: Sweep, answered: Answered, out: Path) -> Iterator[Part]:
    """The sweep cut into parts, in the order of the output."""
    numbers = todo.numbers or {"batch": np.array([todo.fixed.get("batch", 1)])}
    for pair, choices in answered.choices:
        work = ((choice, arguments) for choice in choices for arguments in chunks(numbers))
        for number in itertools.count():
            if not (some := list(itertools.islice(work, PART_CHUNKS))):
                break
            yield Part(pair.part(out, todo, number), pair, some)


def solve_part(
    todo: Sweep,
    part: Part,
    missing: Mapping[str, float | str],
    executor: Executor | None,
    *,
    done: Callable[[int], None],
) -> None:
    """Solve a part, writing as it goes; its file appears when it is complete.

    Raises: the typed errors of `run` and FileFormatError when nothing can be written.
    """
    fields = {name: missing[name] for name in todo.fields}
    named = {"model": np.asarray(part.pair.model), "machine": np.asarray(part.pair.machine)}
    work = [
        (part.pair.scenario(todo, choice), arguments, fields, named | {n: np.asarray(v) for n, v in choice.items()})
        for choice, arguments in part.chunks
    ]
    write_parquet(_gathered(_solved(work, executor)), part.path, done=done)


def _solved(work: Sequence[tuple[Any, ...]], executor: Executor | None) -> Iterator[Columns]:
    """Chunks in order; with an executor a few ahead, so that nobody waits and memory stays bounded."""
    if executor is None:
        yield from itertools.starmap(solve_chunk, work)
        return
    ahead: deque[Future[Columns]] = deque()
    for task in work:
        ahead.append(executor.submit(solve_chunk, *task))
        if len(ahead) >= AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


AHEAD = 32  # chunks under way, 3 MB a field in all


def _gathered(solved: Iterator[Columns]) -> Iterator[Columns]:
    """Small chunks joined: a Parquet file of many tiny row groups is large and slow."""
    waiting: list[Columns] = []
    for columns in itertools.chain(solved, [None]):
        if columns is not None:
            waiting.append(columns)
        rows = sum(len(next(iter(c.values()))) for c in waiting)
        if waiting and (columns is None or rows >= GATHERED):
            yield {name: np.concatenate([c[name] for c in waiting]) for name in waiting[0]}
            waiting = []


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
