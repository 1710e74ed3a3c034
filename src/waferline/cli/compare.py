"""`waferline compare`: one model on several machines, side by side."""

from __future__ import annotations

import typer

from waferline.cli import options
from waferline.cli.output import emit


def compare(
    model: options.Model,
    on: options.Machines,
    precision: options.Precision = None,
    kv: options.Kv = None,
    batch: options.Batch = None,
    prompt: options.Prompt = None,
    output: options.Output = None,
    context: options.Context = None,
    memory: options.Memory = None,
    memory_share: options.MemoryShare = None,
    devices: options.Devices = None,
    engine: options.Engine = None,
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
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """MODEL on several machines: devices needed, speed, bottleneck, energy and cost."""
    from waferline.errors import InvalidInputError
    from waferline.predict.compare import compare as compare_machines
    from waferline.predict.scenario import Scenario
    from waferline.report.compare import comparison_report

    if plot is not None:
        from waferline.report.charts import check_ending

        check_ending(plot)
    machines = [options.machine(name.strip()) for name in on.split(",") if name.strip()]
    if not machines:
        raise InvalidInputError("--on names no machine", hint="separate several by commas: --on h100,h200")
    scenario = Scenario(
        model=model,
        machine=None,
        precision=precision,
        kv=kv,
        batch=options.single(batch, "--batch"),
        prompt=options.single(prompt, "--prompt"),
        output=options.single(output, "--output"),
        context=context,
        memory=memory,
        memory_share=memory_share,
        devices=devices,
        engine=engine,
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
    )
    rows = compare_machines(scenario, machines)
    if plot is not None:
        from waferline.report.charts import save
        from waferline.report.charts.comparison import comparison_chart

        save(comparison_chart(rows), plot)
    emit(as_json, rows, lambda: comparison_report(rows))
    if not any(row.answer is not None and row.answer.fits for row in rows):
        raise typer.Exit(3)
