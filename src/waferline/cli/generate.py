"""`waferline generate`: run a GGUF model on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from waferline.kernels.runner import Generation, Runner


def generate(
    model: Annotated[Path, typer.Argument(help="GGUF file of a Llama-family model.", show_default=False)],
    prompt: Annotated[str, typer.Argument(help="Text to continue.", show_default=False)],
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=0, help="New tokens at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the k likeliest; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest that together reach p.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the random draws.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="[default: all cores]")] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of KV cache.  [default: model's, at most 2048]")
    ] = None,
    kv: Annotated[str, typer.Option(help="KV cache format: f16 or q8.")] = "f16",
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Continue a text with a GGUF model: prefill, then one token after the other, with the speed of both."""
    from rich.console import Console

    from waferline.kernels.binding import bind_threads

    bind_threads()
    from waferline.kernels.runner import Sampling, load, warm_up

    sampling = Sampling(temperature, top_k, top_p, seed)
    console = Console(stderr=True)
    with console.status(f"loading {model.name} and compiling its kernels"):
        runner = load(model, context=context, kv=kv, threads=threads)
        warm_up(runner, len(runner.encode(prompt)))
    say = None if as_json else lambda text: typer.echo(text, nl=False)
    result = runner.generate(prompt, max_tokens, sampling, on_text=say)
    if as_json:
        _print_json(runner, result)
    else:
        typer.echo()
        _print_speed(console, result)


def _print_json(runner: Runner, result: Generation) -> None:
    import json

    t = result.timings
    data = {
        "model": str(runner.file.path),
        "architecture": runner.config.architecture,
        "threads": runner.threads,
        "text": result.text,
        "tokens": list(result.tokens),
        "stopped": result.stopped,
        "load_s": t.load_s,
        "prefill_tokens": t.prefill_tokens,
        "prefill_s": t.prefill_s,
        "prefill_tokens_per_s": t.prefill_tokens_per_s,
        "decode_s": list(t.decode_s),
        "decode_tokens_per_s": t.decode_tokens_per_s,
        "decode_operators_s": t.operators_s,
    }
    typer.echo(json.dumps(data, indent=2))


def _print_speed(console: object, result: Generation) -> None:
    from rich.table import Table

    t = result.timings
    table = Table("phase", "tokens", "seconds", "tokens/s", title=f"measured; stopped at: {result.stopped}")
    table.add_row("prefill", str(t.prefill_tokens), f"{t.prefill_s:.3f}", f"{t.prefill_tokens_per_s:.1f}")
    table.add_row("decode", str(len(t.decode_s)), f"{sum(t.decode_s):.3f}", f"{t.decode_tokens_per_s:.1f} (median)")
    console.print(table)  # type: ignore[attr-defined]
