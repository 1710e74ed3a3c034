"""`waferline claim`: is what somebody says about a machine possible, and is it likely?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.evidence.claims.claim import Claim

app = typer.Typer(help="Put performance claims to the laws of arithmetic, capacity and light.", no_args_is_help=True)


@app.command("check")
def check(
    claim: Annotated[str, typer.Argument(help='A sentence ("Llama-3-8B fp8 on H100: ...") or a claims.yaml.')],
    as_json: options.Json = False,
) -> None:
    """Judge every claim: plausible, optimistic (beyond our 95 % interval), infeasible (which law), or unverifiable."""
    from waferline.evidence.claims.judge import judge_claims

    judged = judge_claims(_claims(claim))
    if as_json:
        import json

        typer.echo(json.dumps([j.to_json() for j in judged], indent=2, allow_nan=False))
    else:
        from waferline.report.claims import print_judgements

        print_judgements(judged)


def _claims(text: str) -> list[Claim]:
    from waferline.evidence.claims.sentence import claims_of
    from waferline.evidence.claims.written import read_claims

    is_file = text.endswith((".yaml", ".yml")) and " " not in Path(text).name
    return read_claims(Path(text)) if is_file else claims_of(text)


@app.command("survey")
def survey_rows(
    shared: options.Shared = None,
    as_json: options.Json = False,
) -> None:
    """Judge every published row at hand: how many impossible ones are found, how many sound ones wrongly flagged."""
    from waferline.evidence.claims.survey import survey
    from waferline.evidence.folder import evidence_rows

    rows = evidence_rows(shared)
    with _progress(len(rows)) as advance:
        result = survey(rows, advance)
    if as_json:
        import json

        typer.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        from waferline.report.claims import print_survey

        print_survey(result)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on the error stream of a terminal; nothing in a pipe."""
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("judging", total=total)
        yield lambda done: bar.advance(task, done)
