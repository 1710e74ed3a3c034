"""`waferline compare`: one model on several machines, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli import options


def compare(
    model: options.Model,
    on: Annotated[str, typer.Option("--on", help="Machines, separated by commas.")],
    precision: options.Precision = None,
    kv: Annotated[str | None, typer.Option(help="Format of the KV cache; 16 bits by default.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences (or inputs) at once.")] = 1,
    prompt: Annotated[int | None, typer.Option(help="Prompt tokens.  [default: 2048]")] = None,
    output: Annotated[int, typer.Option(help="Tokens generated for each sequence.")] = 256,
    devices: Annotated[
        str, typer.Option(help="Devices of each machine: a number, or 'auto' for the fewest that fit.")
    ] = "auto",
    engine: Annotated[
        str | None, typer.Option(help="The engine on every machine; each kind's usual one by default.")
    ] = None,
    phase: Annotated[str, typer.Option(help="serve, infer or train.")] = "serve",
    as_json: options.Json = False,
) -> None:
    """MODEL on several machines: devices needed, speed, bottleneck, energy and cost."""
    from waferline.errors import InvalidInputError
    from waferline.predict.compare import compare as compare_machines
    from waferline.predict.dispatch import Request

    machines = [options.machine(name.strip()) for name in on.split(",") if name.strip()]
    if not machines:
        raise InvalidInputError("--on names no machine", hint="separate several by commas: --on h100,h200")
    request = Request(
        precision=precision,
        kv=kv,
        batch=batch,
        prompt=prompt,
        output=output,
        devices=devices,
        engine=engine,
        phase=phase,
    )
    rows = compare_machines(model, machines, request)
    if as_json:
        import json

        typer.echo(json.dumps([row.to_json() for row in rows], indent=2, allow_nan=False))
    else:
        from waferline.report.compare import print_comparison

        print_comparison(rows)
    if not any(row.answer is not None and row.answer.fits for row in rows):
        raise typer.Exit(3)
