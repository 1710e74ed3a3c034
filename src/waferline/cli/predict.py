"""`waferline predict`: one model on one machine."""

from __future__ import annotations

import typer

from waferline.cli import options
from waferline.cli.output import emit


def predict(
    model: options.Model,
    on: options.On,
    precision: options.Precision = None,
    kv: options.Kv = None,
    batch: options.Batch = options.BATCH,
    prompt: options.Prompt = None,
    output: options.Output = options.OUTPUT,
    devices: options.Devices = "1",
    tp: options.Tp = None,
    pp: options.Pp = 1,
    ep: options.Ep = 1,
    dp: options.Dp = 1,
    engine: options.Engine = None,
    load: options.Load = "static",
    phase: options.Phase = "serve",
    micro_batch: options.MicroBatch = 1,
    recompute: options.Recompute = "selective",
    strategy: options.Strategy = "auto",
    grid: options.Grid = None,
    profile: options.Profile = None,
    explain: options.Explain = False,
    as_json: options.Json = False,
) -> None:
    """How fast, how big and how costly MODEL runs on a machine, why, and how sure we are."""
    import itertools
    from dataclasses import replace

    from waferline.predict import dispatch
    from waferline.report.answer import answer_report
    from waferline.report.compare import points_report

    asked = dispatch.Request(
        precision=precision,
        kv=kv,
        devices=devices,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        engine=engine,
        load=load,
        phase=phase,
        micro_batch=micro_batch,
        recompute=recompute,
        strategy=strategy,
        profile=profile,
        grid=grid,
    )
    machine = options.machine(on)
    points = list(itertools.product(batch, prompt or (None,), output))
    requests = [replace(asked, batch=b, prompt=p, output=o) for b, p, o in points]
    answers = [dispatch.answer(model, machine, request) for request in requests]
    if len(answers) == 1:
        emit(as_json, answers[0], lambda: answer_report(answers[0], explain=explain))
    else:
        emit(as_json, answers, lambda: points_report(list(zip(points, answers, strict=True))))
    if not any(answer.fits for answer in answers):
        raise typer.Exit(3)
