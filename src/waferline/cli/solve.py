"""`waferline solve` and `waferline sensitivity`: a prediction turned round, and where it comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli import options
from waferline.cli.output import emit


def solve(
    field: Annotated[
        str,
        typer.Argument(
            help="batch, prompt, output, context, tp, ...; flops, bandwidth, capacity or links as a factor."
        ),
    ],
    model: options.Model,
    on: options.On,
    goals: Annotated[
        list[str], typer.Option("--for", help="tpot<=20ms, ttft<=1s, throughput>=5000, any field; may be repeated.")
    ],
    precision: options.Precision = None,
    kv: options.Kv = None,
    batch: options.Batch = None,
    prompt: options.Prompt = None,
    output: options.Output = None,
    memory: options.Memory = None,
    devices: options.Devices = None,
    tp: options.Tp = None,
    pp: options.Pp = None,
    ep: options.Ep = None,
    dp: options.Dp = None,
    engine: options.Engine = None,
    phase: options.Phase = "serve",
    as_json: options.Json = False,
) -> None:
    """The value of FIELD at which MODEL on a machine just holds its goals; exit code 3 where none does."""
    from waferline.predict.scenario import Scenario
    from waferline.report.search import solution_report
    from waferline.search.solve import solve as solved

    asked = Scenario(
        model=model, machine=options.machine(on), precision=precision, kv=kv, memory=memory, devices=devices,
        tp=tp, pp=pp, ep=ep, dp=dp, engine=engine, phase=phase, batch=options.single(batch, "--batch"),
        prompt=options.single(prompt, "--prompt"), output=options.single(output, "--output"),
    )  # fmt: skip
    found = solved(field, goals, asked)
    emit(as_json, found, lambda: solution_report(found))
    if found.value is None:
        raise typer.Exit(3)


def sensitivity(
    model: options.Model,
    on: options.On,
    precision: options.Precision = None,
    batch: options.Batch = None,
    prompt: options.Prompt = None,
    output: options.Output = None,
    devices: options.Devices = None,
    tp: options.Tp = None,
    engine: options.Engine = None,
    phase: options.Phase = "serve",
    as_json: options.Json = False,
) -> None:
    """By how many per cent times and cost move for a per cent of arithmetic, bandwidth, memory, links and host."""
    from waferline.predict.scenario import Scenario
    from waferline.report.search import sensitivity_report
    from waferline.search.sensitivity import sensitivity as elasticities

    asked = Scenario(
        model=model, machine=options.machine(on), precision=precision, devices=devices, tp=tp, engine=engine,
        phase=phase, batch=options.single(batch, "--batch"), prompt=options.single(prompt, "--prompt"),
        output=options.single(output, "--output"),
    )  # fmt: skip
    found = elasticities(asked)
    emit(as_json, found, lambda: sensitivity_report(found))
