"""`waferline sweep`: a grid of any size, written as it is solved, resumed where it stopped; and `frontier` of its points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli.options import Json, Plot
from waferline.cli.output import emit, progress

_MOST_POINTS = 5000  # of a picture

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from waferline.search.pairs import Answered
    from waferline.search.study_file import Sweep


def sweep(
    study: Annotated[Path, typer.Argument(help="YAML with models, machines and axes; see docs/sweeps.md.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    workers: Annotated[int | None, typer.Option("--workers", help="Processes of this machine.  [default: 1]")] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="A Dask scheduler, such as tcp://host:8786 (extra `cluster`).")
    ] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Every model on every machine over a grid of any fields of a scenario, in bounded memory.

    Finished parts are kept beside OUT; the same command after an interruption goes on with the rest.
    """
    from waferline.files import alone, check_parquet
    from waferline.search.assertion import asserted
    from waferline.search.pairs import pairs_of, tried
    from waferline.search.study_file import read_sweep
    from waferline.search.workers import workers_of

    check_parquet(out)
    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    todo = read_sweep(study)
    pairs = pairs_of(todo)
    with alone(out):
        with progress("trying every pair", len(pairs)) as advance:
            answered = tried(todo, pairs, advance)
        with workers_of(workers, cluster) as executor:
            rows = _solve(todo, answered, out, executor) if answered.choices else 0
    verdicts = asserted(out, todo.assertions) if rows and todo.assertions else []
    result = {"out": str(out) if rows else None, "rows": rows, "asserted": [asdict(v) for v in verdicts],
              "refused": answered.refused}  # fmt: skip

    def lines() -> Iterator[str]:
        yield f"{rows:,} points in {out}" if rows else "every pair was refused: nothing was written"
        for why in dict.fromkeys(answered.refused.values()):  # one reason often meets many
            who = [name for name, reason in answered.refused.items() if reason == why]
            yield f"refused {who[0]}{f' and {len(who) - 1} more' if len(who) > 1 else ''}: {why}"
        for v in verdicts:
            at = ", ".join(f"{name} {value}" for name, value in (v.first or {}).items())
            yield (
                f"holds: {v.text}" if v.holds else f"FAILS: {v.text} ({v.misses:,} of {v.points:,} points; first: {at})"
            )

    if plot is not None and rows:
        _draw(out, rows, plot)
    emit(as_json, result, lines)
    if not rows or not all(v.holds for v in verdicts):
        raise typer.Exit(3)


def _draw(points: Path, rows: int, plot: Path) -> None:
    """The first two fields that were solved, as many points as a picture shows apart."""
    import pyarrow as pa
    from pyarrow import parquet

    from waferline.report.charts import save
    from waferline.report.charts.scatter import points_chart

    file, step = parquet.ParquetFile(points), rows // _MOST_POINTS + 1
    first, second = [f.name for f in file.schema_arrow if pa.types.is_floating(f.type)][:2]
    names = ["model", "machine", first, second]
    parts = [batch.to_pydict() for batch in file.iter_batches(columns=names)]
    columns = {name: [v for part in parts for v in part[name][::step]] for name in names}
    save(points_chart(columns, first, second), plot)


def _solve(todo: Sweep, answered: Answered, out: Path, executor: Executor | None) -> int:
    """Solve what is not there yet and join the parts. Answers with the number of rows."""
    from waferline.search.parts import join_parts, parts_of, solve_part

    parts = list(parts_of(todo, answered, out))
    with progress("points", sum(part.points for part in parts)) as advance:
        for part in parts:
            if part.path.is_file():
                advance(part.points)
            else:
                solve_part(todo, part, answered.missing, executor, done=advance)
    return join_parts(out, [part.path for part in parts])


def frontier(
    points: Annotated[Path, typer.Argument(help="A Parquet file of `waferline sweep`.")],
    x: Annotated[
        str, typer.Option("--x", help="A column, such as itl_s; min:itl_s or max:mfu says which end is good.")
    ],
    y: Annotated[str, typer.Option("--y", help="Another, such as throughput_tokens_per_s.")],
    also: Annotated[list[str] | None, typer.Option("--and", help="One more; may be repeated.")] = None,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """The points that no other point beats in all columns at once: rates should be high, times, energy and cost low."""
    from waferline.report.frontier import frontier_report
    from waferline.search.frontier import frontier as frontier_of

    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    front = frontier_of(points, x, y, *(also or ()))
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.scatter import points_chart

        first, second = (o.column for o in front.objectives[:2])
        columns = {name: values.tolist() for name, values in front.columns.items()}
        save(points_chart(columns, first, second, best=range(len(columns[first]))), plot)
    emit(as_json, front, lambda: frontier_report(front))
