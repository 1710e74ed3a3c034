"""`waferline sweep`: a grid of any size, written as it is solved, resumed where it stopped; and `frontier` of its points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli.options import Json
from waferline.cli.output import emit, progress

if TYPE_CHECKING:
    from waferline.search.pairs import Pair
    from waferline.search.study_file import Sweep


def sweep(
    study: Annotated[Path, typer.Argument(help="YAML with models, machines and axes; see docs/sweeps.md.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    as_json: Json = False,
) -> None:
    """Every model on every machine over a grid of batch, length, precision and parallelism, in bounded memory.

    Finished model-machine pairs are kept beside OUT; the same command after an interruption goes on with the rest.
    """
    from waferline.files import alone
    from waferline.search.pairs import pairs_of, tried
    from waferline.search.study_file import read_sweep

    todo = read_sweep(study)
    pairs = pairs_of(todo)
    with alone(out):
        with progress("trying every pair", len(pairs)) as advance:
            answered, refused = tried(todo, pairs, advance)
        rows = _solve(todo, answered, out) if answered else 0
    result = {"out": str(out) if rows else None, "rows": rows, "refused": refused}

    def lines() -> Iterator[str]:
        yield f"{rows:,} points in {out}" if rows else "every pair was refused: nothing was written"
        yield from (f"refused {pair}: {why}" for pair, why in refused.items())

    emit(as_json, result, lines)
    if not rows:
        raise typer.Exit(3)


def _solve(todo: Sweep, pairs: list[Pair], out: Path) -> int:
    """Solve what is not there yet and join the parts. Answers with the number of rows."""
    from waferline.search.pairs import points_in
    from waferline.search.parts import join_parts, solve_pair

    points, parts = points_in(todo), [pair.part(out, todo) for pair in pairs]
    with progress("points", points * len(pairs)) as advance:
        for pair, part in zip(pairs, parts, strict=True):
            if part.is_file():
                advance(points)
            else:
                solve_pair(todo, pair, part, done=advance)
    return join_parts(out, parts)


def frontier(
    points: Annotated[Path, typer.Argument(help="A Parquet file of `waferline sweep`.")],
    x: Annotated[str, typer.Option("--x", help="A column, such as itl_s.")],
    y: Annotated[str, typer.Option("--y", help="Another, such as throughput_tokens_per_s.")],
    as_json: Json = False,
) -> None:
    """The points that no other point beats in both X and Y: rates should be high, times, energy and cost low."""
    from waferline.report.frontier import frontier_report
    from waferline.search.frontier import frontier as frontier_of

    front = frontier_of(points, x, y)
    emit(as_json, front, lambda: frontier_report(front))
