"""`waferline sweep`: a grid of any size, written as it is solved, resumed where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.search.study_file import Sweep


def sweep(
    study: Annotated[Path, typer.Argument(help="YAML with models, machines and axes; see docs/sweeps.md.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    as_json: options.Json = False,
) -> None:
    """Every model on every machine over a grid of batch, length, precision and parallelism, in bounded memory.

    Finished model-machine pairs are kept beside OUT; the same command after an interruption goes on with the rest.
    """
    import json

    from waferline.search.study_file import read_sweep

    todo = read_sweep(study)
    rows, skipped = _run(todo, out)
    result = {"out": str(out), "rows": rows, "refused": skipped}
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    typer.echo(f"{rows:,} points in {out}")
    for pair, why in skipped.items():
        typer.echo(f"refused {pair}: {why}")


def _run(todo: Sweep, out: Path) -> tuple[int, dict[str, str]]:
    """Solve all pairs and join their parts. Answers with the number of rows and the pairs that were refused."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from waferline.errors import UnsupportedError
    from waferline.search.parts import join_parts, part_of, solve_pair
    from waferline.search.sweep import points_of

    pairs = [(m, h) for m in todo.models for h in todo.machines]
    points, refused = points_of(todo.axes), {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("points", total=points * len(pairs))
        for model, machine in pairs:
            part = part_of(out, todo, model, machine)
            if part.is_file():
                bar.advance(task, points)
                continue
            try:
                solve_pair(todo, model, machine, part, done=lambda n: bar.advance(task, n))
            except UnsupportedError as error:
                refused[f"{model} on {machine}"] = str(error)
    return join_parts(out, todo, pairs), refused
