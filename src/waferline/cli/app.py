"""All commands together. Nothing here imports anything heavy: `waferline --help` must be instant."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import typer
from typer.main import get_command

from waferline.cli import (
    calibrate,
    catalog,
    claim,
    compare,
    evidence,
    fleet,
    formats,
    generate,
    measure,
    plan,
    predict,
    serve_app,
    simulate_mesh,
    simulate_serving,
    solve,
    study,
    sweep,
    techniques,
)

app = typer.Typer(
    name="waferline",
    help="How fast, how big and how costly an ML model runs on any machine, and how we know.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from waferline.version import __version__

        typer.echo(f"waferline {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the trace of an error, as WAFERLINE_DEBUG=1 does."),
) -> None:
    """Options of every command."""


simulate = typer.Typer(help="Simulate: a mesh cycle by cycle, a server request by request.", no_args_is_help=True)
simulate.add_typer(simulate_mesh.app, name="mesh")
simulate.command("serving")(simulate_serving.serving)

COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict.predict,
    "compare": compare.compare,
    "plan": plan.plan,
    "sweep": sweep.sweep,
    "frontier": sweep.frontier,
    "solve": solve.solve,
    "sensitivity": solve.sensitivity,
    "techniques": techniques.techniques,
    "app": serve_app.app,
    "fleet": fleet.fleet,
    "queue": fleet.queue,
    "generate": generate.generate,
    "calibrate": calibrate.calibrate,
    "quantize": formats.quantize,
    "audit": measure.audit,
}
ALIASES: dict[str, Callable[..., None]] = {  # words of another package for the same questions
    "eval": predict.predict,
    "serve": simulate_serving.serving,
    "optimize": plan.plan,
}
GROUPS: dict[str, typer.Typer] = {
    "simulate": simulate,
    "measure": measure.app,
    "catalog": catalog.app,
    "formats": formats.app,
    "evidence": evidence.app,
    "study": study.app,
    "claim": claim.app,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, command in ALIASES.items():
    app.command(name, hidden=True)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


@cache
def tree() -> Any:
    """The commands as the parser has them: groups with `commands`, commands with `params`."""
    return get_command(app)
