"""`waferline quantize` and `waferline formats`: rewrite a tensor file in another format, and say what formats lose.

`app` is the `formats` group; `quantize` is a command of the root. Errors are raised as `WaferlineError` for the root
to print.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from waferline.formats.convert import Step
    from waferline.formats.reconstruction import ErrorStats
    from waferline.formats.tensors import TensorFile

app = typer.Typer(help="Number formats: which there are, and what they lose.", no_args_is_help=True)

_DEFAULT_FORMATS = ("bf16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k", "int4", "nvfp4", "mxfp4", "q3_k", "q2_k")
_JSON = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]


def quantize(
    file: Annotated[Path, typer.Argument(help="A .safetensors or .gguf file.", metavar="FILE")],
    format: Annotated[str, typer.Option("--format", "-f", help="Number format, such as q4_k, mxfp4 or fp8.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .gguf or .safetensors file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    as_json: _JSON = False,
) -> None:
    """Rewrite the matrices of a tensor file in FORMAT. All is written, or nothing."""
    from waferline.formats.convert import check_output, convert, plan
    from waferline.formats.open_file import open_tensors

    check_output(output, replace=force)
    source = open_tensors(file)
    steps = plan(source, format, output.suffix.lower())
    with _progress() as bar:
        task = bar.add_task("quantize", total=sum(s.source.weights for s in steps))
        errors = convert(source, steps, output, progress=lambda name, n: bar.update(task, advance=n, description=name))
    result = _quantize_result(steps, errors, output)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _print_quantize(result)


def _quantize_result(steps: list[Step], errors: dict[str, ErrorStats], output: Path) -> dict[str, Any]:
    """Everything `quantize` did, as data."""
    tensors = []
    for step in steps:
        stats = errors.get(step.source.name)
        row: dict[str, Any] = {
            "name": step.source.name,
            "shape": list(step.source.shape),
            "from": step.source.format,
            "to": step.target,
            "bytes": step.nbytes,
            "kept_because": step.reason,
        }
        tensors.append(row | {"error": stats.to_json() if stats else None})
    weights = sum(s.source.weights for s in steps)
    total_bytes = sum(s.nbytes for s in steps)
    return {
        "output": str(output),
        "file_bytes": output.stat().st_size,
        "tensor_bytes": total_bytes,
        "weights": weights,
        "bits": 8 * total_bytes / weights if weights else None,
        "tensors": tensors,
    }


def _print_quantize(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tensor", "shape", "from", "to", "relative L2", "SQNR dB", "note")
    for row in result["tensors"]:
        error = row["error"] or {}
        shape = " x ".join(map(str, row["shape"]))
        numbers = (_number(error.get("relative_l2"), ".3g"), _number(error.get("sqnr_db"), ".1f"))
        table.add_row(row["name"], shape, row["from"], row["to"], *numbers, row["kept_because"] or "")
    console = Console()
    console.print(table)
    bits = _number(result["bits"], ".3f")
    console.print(
        f"{result['output']}: {result['file_bytes']:,} bytes, {result['weights']:,} weights, {bits} bits each"
    )


@app.command("list")
def list_formats(as_json: _JSON = False) -> None:
    """Every format that can be encoded or decoded, with its bits per weight."""
    from waferline.formats.codec import codecs

    cols = 4096  # row scales and zero points depend on the row's length; this is a common one
    rows: list[dict[str, Any]] = [
        {
            "name": c.name,
            "bits": c.bits(cols),
            "block": c.block,
            "encodes": c.encode_rows is not None,
            "tensor_scale": c.tensor_scale,
            "gguf": c.ggml,
            "about": c.about,
        }
        for c in codecs().values()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("format", "bits", "block", "encodes", "GGUF", "what it is")
    for row in rows:
        yes = "yes" if row["encodes"] else "no"
        table.add_row(row["name"], f"{row['bits']:.4g}", str(row["block"]), yes, row["gguf"] or "", row["about"])
    Console().print(table)


@app.command("error")
def error(
    file: Annotated[Path, typer.Argument(help="A .safetensors or .gguf file.", metavar="FILE")],
    format: Annotated[list[str] | None, typer.Option("--format", "-f", help="Format to try; repeat for more.")] = None,
    tensor: Annotated[list[str] | None, typer.Option("--tensor", "-t", help="Only this tensor; repeat.")] = None,
    as_json: _JSON = False,
) -> None:
    """What each format would lose on the matrices of a tensor file."""
    from waferline.formats.codec import codec_for
    from waferline.formats.open_file import open_tensors
    from waferline.formats.reconstruction import ErrorSums

    source = open_tensors(file)
    names = [codec_for(name).name for name in format or _DEFAULT_FORMATS]
    chosen = [source[name] for name in tensor] if tensor else list(source.tensors)
    matrices = [t for t in chosen if t.is_float and len(t.shape) >= 2 and t.weights]
    totals = {name: ErrorSums() for name in names}
    rows: list[dict[str, Any]] = []
    with _progress() as bar:
        task = bar.add_task("error", total=sum(t.weights for t in matrices) * len(names))
        for info in matrices:
            for name in names:
                rows.append(_tensor_error(source, info, name, totals[name], bar, task))
    summary = {name: sums.stats().to_json() for name, sums in totals.items() if sums.weights}
    if as_json:
        print(json.dumps({"file": str(file), "tensors": rows, "total": summary}, indent=2))
    else:
        _print_errors(rows, summary)


def _tensor_error(source: TensorFile, info: Any, name: str, total: Any, bar: Progress, task: TaskID) -> dict[str, Any]:
    """Error of one tensor in one format, added to the format's total; what cannot be encoded says why."""
    from waferline.errors import InvalidInputError
    from waferline.formats.convert import tensor_error

    row: dict[str, Any] = {"tensor": info.name, "shape": list(info.shape), "from": info.format, "format": name}
    bar.update(task, description=f"{info.name} {name}")
    try:
        sums = tensor_error(source, info, name, lambda weights: bar.update(task, advance=weights))
    except InvalidInputError as refusal:
        bar.update(task, advance=info.weights)
        return row | {"error": None, "refused": str(refusal)}
    total.merge(sums)
    return row | {"error": sums.stats().to_json(), "refused": None}


def _print_errors(rows: list[dict[str, Any]], summary: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tensor", "format", "bits", "relative L2", "max abs", "SQNR dB", "cosine", "note")
    keys = (("bits", ".4g"), ("relative_l2", ".3g"), ("max_abs", ".3g"), ("sqnr_db", ".1f"), ("cosine", ".6f"))
    for row in rows:
        numbers = [_number((row["error"] or {}).get(key), spec) for key, spec in keys]
        table.add_row(row["tensor"], row["format"], *numbers, row["refused"] or "")
    if rows:
        table.add_section()
    for name, stats in summary.items():
        table.add_row("all", name, *[_number(stats[key], spec) for key, spec in keys], "")
    Console().print(table)


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _progress() -> Progress:
    """A progress bar on standard error, silent when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
