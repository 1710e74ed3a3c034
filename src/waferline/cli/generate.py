"""`waferline generate`: run a GGUF model on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waferline.cli.options import Json, Threads
from waferline.cli.output import emit, progress, show
from waferline.report.table import Column, Table
from waferline.text import printable

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
    threads: Threads = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of KV cache.  [default: model's, at most 2048]")
    ] = None,
    kv: Annotated[str, typer.Option(help="KV cache format: f16 or q8.")] = "f16",
    as_json: Json = False,
) -> None:
    """Continue a text with a GGUF model: prefill, then one token after the other, with the speed of both."""
    import sys

    from waferline.kernels.binding import bind_threads

    bind_threads()
    from waferline.kernels.runner import Sampling, load, warm_up

    sampling = Sampling(temperature, top_k, top_p, seed)
    with progress(f"loading {model.name} and compiling its kernels"):
        runner = load(model, context=context, kv=kv, threads=threads)
        warm_up(runner, len(runner.encode(prompt)))
    result = runner.generate(prompt, max_tokens, sampling, on_text=None if as_json else _say)
    emit(as_json, _data(runner, result), lambda: [""])
    if not as_json:
        show([_speed(result)], sys.stderr)


def _say(text: str) -> None:
    """Print a piece of the text as it comes; what a model writes steers no terminal."""
    print("".join(c if c in "\n\t" else printable(c) for c in text), end="", flush=True)


def _data(runner: Runner, result: Generation) -> dict[str, object]:
    t = result.timings
    return {
        "model": runner.file.path,
        "architecture": runner.config.architecture,
        "threads": runner.threads,
        "text": result.text,
        "tokens": result.tokens,
        "stopped": result.stopped,
        "load_s": t.load_s,
        "prefill_tokens": t.prefill_tokens,
        "prefill_s": t.prefill_s,
        "prefill_tokens_per_s": t.prefill_tokens_per_s,
        "decode_s": t.decode_s,
        "decode_tokens_per_s": t.decode_tokens_per_s,
        "decode_operators_s": t.operators_s,
    }


def _speed(result: Generation) -> Table:
    t = result.timings
    rows = [
        ("prefill", t.prefill_tokens, t.prefill_s, t.prefill_tokens_per_s),
        ("decode", len(t.decode_s), sum(t.decode_s), t.decode_tokens_per_s),
    ]
    columns = ("phase", Column("tokens", "d"), Column("seconds", ".3f"), Column("tokens/s", ".1f"))
    return Table(f"measured; stopped at: {result.stopped}", columns, rows, ("decode: the median token",))
