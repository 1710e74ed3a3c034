"""`waferline predict`: one model on one machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waferline.cli import options


def predict(
    model: options.Model,
    on: options.On,
    precision: options.Precision = None,
    kv: Annotated[str | None, typer.Option(help="Format of the KV cache; 16 bits by default.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences (or inputs) at once; in training the global batch.")] = 1,
    prompt: Annotated[int | None, typer.Option(help="Prompt tokens (or tokens per input).  [default: 2048]")] = None,
    output: Annotated[int, typer.Option(help="Tokens generated for each sequence.")] = 256,
    devices: Annotated[str, typer.Option(help="How many devices: a number, or 'auto' for the fewest that fit.")] = "1",
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree.")] = None,
    pp: Annotated[int, typer.Option(help="Pipeline-parallel degree.")] = 1,
    ep: Annotated[int, typer.Option(help="Expert-parallel degree.")] = 1,
    dp: Annotated[int, typer.Option(help="Data-parallel replicas.")] = 1,
    engine: Annotated[str | None, typer.Option(help="vllm, sglang, tensorrt-llm, llama.cpp, static, none.")] = None,
    load: Annotated[
        str,
        typer.Option(help="static (one batch), closed or burst (BATCH clients), full (a queue that never empties)."),
    ] = "static",
    phase: Annotated[str, typer.Option(help="serve (prefill and decode), infer (one pass) or train.")] = "serve",
    micro_batch: Annotated[int, typer.Option(help="Training: sequences per micro-batch.")] = 1,
    recompute: Annotated[str, typer.Option(help="Training: none, selective or full.")] = "selective",
    strategy: Annotated[
        str, typer.Option(help="Wafers: wafer-resident or weight-streaming.  [default: wafer-resident on a wafer]")
    ] = "auto",
    profile: Annotated[str | None, typer.Option(help="A calibration made by `waferline calibrate`.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every operator: time, share and binding roof.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """How fast, how big and how costly MODEL runs on a machine, why, and how sure we are."""
    from waferline.predict import dispatch

    request = dispatch.Request(
        precision=precision,
        kv=kv,
        batch=batch,
        prompt=prompt,
        output=output,
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
    )
    answer = dispatch.answer(model, options.machine(on), request)
    if as_json:
        _print_json(answer)
    else:
        from waferline.report.tables import print_answer

        print_answer(answer, explain=explain)
    if not answer.fits:
        raise typer.Exit(3)


def _print_json(answer: Any) -> None:
    import json

    typer.echo(json.dumps(answer.to_json(), indent=2, allow_nan=False))
