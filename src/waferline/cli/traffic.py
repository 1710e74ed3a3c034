"""Options of a load and of the server that takes it, which `simulate serving` and `plan` share."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli.taking import of_record

if TYPE_CHECKING:
    from waferline.simulate.serving.traffic import Traffic

_RATE = re.compile(r"([0-9.eE+-]+)\s*(/s|/min|/h|)")
_PER_SECOND = {"/s": 1.0, "": 1.0, "/min": 60.0, "/h": 3600.0}
_LENGTHS = "a number, lognormal:1024,cv=1, uniform:100,2000, exponential:300 or normal:512,cv=0.2; each with most=N"


def rate(text: str) -> float:
    """`8/s`, `90/min` or `8` as requests a second."""
    match = _RATE.fullmatch(text.strip())
    try:
        value = float(match[1]) / _PER_SECOND[match[2]] if match else 0.0
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise typer.BadParameter("not a rate above 0, such as 8/s or 90/min")
    return value


@dataclass(frozen=True, slots=True)
class Load:
    """What users send."""

    rate_per_s: Annotated[
        float | None, typer.Option("--rate", parser=rate, metavar="N/s", help="Requests a second: 8/s, 90/min.")
    ] = None
    clients: Annotated[int | None, typer.Option("--clients", help="Instead: users that wait for their answer.")] = None
    think: Annotated[
        str, typer.Option("--think", help="Seconds from an answer to the next question: 5, exponential:5.")
    ] = "0"
    turns: Annotated[str, typer.Option("--turns", help="Requests of a conversation, in the same way.")] = "1"
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Instead: requests of a .csv or .jsonl, as in docs/serving.md.")
    ] = None
    requests: Annotated[int | None, typer.Option("--requests", help="How many.  [default: 1000]")] = None
    prompt: Annotated[str | None, typer.Option("--prompt", help=f"Tokens: {_LENGTHS}.  [default: 1024]")] = None
    output: Annotated[str | None, typer.Option("--output", help="Tokens, in the same way.  [default: 256]")] = None
    shared: Annotated[int, typer.Option("--shared", help="Tokens that all prompts begin with.")] = 0
    distinct: Annotated[
        int | None, typer.Option("--distinct", help="So many prompts come again and again.  [default: all differ]")
    ] = None
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant", help="'chat;share=0.7;priority=0;prompt=512;output=100', as often as there are tenants."
        ),
    ] = None
    arrival: Annotated[
        str | None, typer.Option("--arrival", help="poisson, gamma, weibull, constant, burst or closed.")
    ] = None
    cv: Annotated[float, typer.Option("--cv", help="Gamma arrivals: coefficient of variation of the gaps.")] = 1.0
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0

    def given(self) -> list[str]:
        """Names of the options that were given."""
        return [f"--{f.name.removesuffix('_per_s')}" for f in fields(self) if getattr(self, f.name) != f.default]

    def traffic(self) -> Traffic:
        """Raises: InvalidInputError for what would not be read beside a trace."""
        from waferline.errors import InvalidInputError
        from waferline.simulate.serving.trace import read_trace
        from waferline.simulate.serving.traffic import Tenant, Traffic
        from waferline.traffic.options import tenant_fields

        named = {"think": "think_s", "tenant": "tenants"}
        asked = {named.get(f.name, f.name): getattr(self, f.name) for f in fields(self) if f.name != "trace"}
        asked["tenants"] = tuple(Tenant(**tenant_fields(text)) for text in self.tenant or ())
        usual, kept = Traffic(), ("seed", "tenants")
        said = {n: v for n, v in asked.items() if v is not None and str(v) != str(getattr(usual, n))}
        if self.trace is None:
            return Traffic(**said)
        if unread := sorted(said.keys() - set(kept)):
            raise InvalidInputError(f"{', '.join(unread)} would not be read: the trace says it")
        return Traffic(trace=read_trace(self.trace), **{n: v for n, v in said.items() if n in kept})


@dataclass(frozen=True, slots=True)
class Server:
    """Options of an engine, by its names, and of the fleet."""

    router: Annotated[
        str | None,
        typer.Option("--router", help="round-robin, least-loaded, prefix or session.  [default: round-robin]"),
    ] = None
    kv_link: Annotated[
        str | None,
        typer.Option("--kv-link", help="Over which caches move, a device: 50GB/s.  [default: the machine's]"),
    ] = None
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, help="Sequences that run at once.  [default: the engine's]")
    ] = None
    max_num_batched_tokens: Annotated[
        int | None, typer.Option("--max-num-batched-tokens", min=1, help="Tokens of a step.  [default: the engine's]")
    ] = None
    prefix_caching: Annotated[
        bool | None, typer.Option("--prefix-caching/--no-prefix-caching", help="Keep prompts' prefixes.  [default: on]")
    ] = None
    async_scheduling: Annotated[
        bool | None,
        typer.Option("--async-scheduling/--no-async-scheduling", help="Steps scheduled ahead: vLLM.  [default: on]"),
    ] = None
    engine_version: Annotated[
        str | None, typer.Option("--engine-version", help="An older vLLM's steps: 0.11.  [default: the newest known]")
    ] = None
    front: Annotated[
        str | None,
        typer.Option("--front", help="CPU time of the process in front, a request: 2ms.  [default: the engine's]"),
    ] = None
    policy: Annotated[
        str | None, typer.Option("--policy", help="Of the scheduler: max_utilization, static_batch of tensorrt-llm.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Those that were given, by field of `ServerOptions`."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


LOAD, SERVER = of_record(Load), of_record(Server)
