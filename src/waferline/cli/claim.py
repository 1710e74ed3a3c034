"""`waferline claim`: is what somebody says about a machine possible, and is it likely?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli import options

if TYPE_CHECKING:
    from waferline.evidence.claims.claim import Claim

app = typer.Typer(help="Put performance claims to the laws of arithmetic, capacity and light.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Options of every command of the group."""


@app.command("check")
def check(
    claim: Annotated[str, typer.Argument(help='A sentence ("Llama-3-8B fp8 on H100: ...") or a claims.yaml.')],
    as_json: Annotated[bool, options.JSON] = False,
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
    from pathlib import Path

    from waferline.evidence.claims.sentence import claims_of
    from waferline.evidence.claims.written import read_claims

    is_file = text.endswith((".yaml", ".yml")) and " " not in Path(text).name
    return read_claims(Path(text)) if is_file else claims_of(text)
