"""`waferline predict`: one model on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from waferline.cli import options
from waferline.cli.output import emit

if TYPE_CHECKING:
    from waferline.predict.scenario import Answer


def predict(
    model: options.Model,
    on: options.On,
    precision: options.Precision = None,
    kv: options.Kv = None,
    batch: options.Batch = None,
    prompt: options.Prompt = None,
    output: options.Output = None,
    context: options.Context = None,
    memory: options.Memory = None,
    memory_share: options.MemoryShare = None,
    threads: options.CpuThreads = None,
    devices: options.Devices = None,
    tp: options.Tp = None,
    pp: options.Pp = None,
    ep: options.Ep = None,
    dp: options.Dp = None,
    engine: options.Engine = None,
    load: options.Load = None,
    concurrency: options.Concurrency = None,
    images: options.Images = None,
    clips: options.Clips = None,
    image_size: options.ImageSize = None,
    frames: options.Frames = None,
    steps: options.Steps = None,
    offload: options.Offload = None,
    host: options.Host = None,
    with_: options.With = None,
    phase: options.Phase = "serve",
    input_shape: options.InputShape = None,
    assume: options.Assume = None,
    micro_batch: options.MicroBatch = None,
    slices: options.Slices = None,
    recompute: options.Recompute = None,
    strategy: options.Strategy = None,
    grid: options.Grid = None,
    profile: options.Profile = None,
    explain: options.Explain = False,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """How fast, how big and how costly MODEL runs on a machine, why, and how sure we are."""
    import itertools
    from dataclasses import replace

    from waferline.predict.scenario import Scenario, run
    from waferline.report.answer import answer_report
    from waferline.report.compare import points_report

    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    asked = Scenario(
        model=model,
        machine=options.machine(on),
        precision=precision,
        kv=kv,
        context=context,
        memory=memory,
        memory_share=memory_share,
        threads=threads,
        devices=devices,
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        engine=engine,
        load=load,
        concurrency=concurrency,
        images=images,
        clips=clips,
        image_size=image_size,
        frames=frames,
        steps=steps,
        offload=offload,
        host=None if host is None else options.machine(host),
        techniques=with_,
        phase=phase,
        input_shape=input_shape,
        assume=assume,
        micro_batch=micro_batch,
        slices=slices,
        recompute=recompute,
        strategy=strategy,
        profile=profile,
        grid=grid,
    )
    points = list(itertools.product(batch or (None,), prompt or (None,), output or (None,)))
    answers = [run(replace(asked, batch=b, prompt=p, output=o)) for b, p, o in points]
    if plot is not None:
        _draw(list(zip(points, answers, strict=True)), plot)
    if len(answers) == 1:
        emit(as_json, answers[0], lambda: answer_report(answers[0], explain=explain))
    else:
        emit(as_json, answers, lambda: points_report(list(zip(points, answers, strict=True))))
    if not any(answer.fits for answer in answers):
        raise typer.Exit(3)


def _draw(points: Sequence[tuple[tuple[int | None, ...], Answer]], path: Path) -> None:
    from waferline.report.charts import save
    from waferline.report.charts.prediction import batches_chart, prediction_chart

    save(prediction_chart(points[0][1]) if len(points) == 1 else batches_chart(points), path)
