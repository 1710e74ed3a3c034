"""`waferline quantize` and `waferline formats`: rewrite a tensor file in another format, and say what formats lose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from waferline.cli.options import Json, complete_format
from waferline.cli.output import emit, progress

app = typer.Typer(help="Number formats: which there are, and what they lose.", no_args_is_help=True)

_DEFAULT_FORMATS = ("bf16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k", "int4", "nvfp4", "mxfp4", "q3_k", "q2_k")
_File = Annotated[Path, typer.Argument(help="A .safetensors or .gguf file.", metavar="FILE")]


def quantize(
    file: _File,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="Number format, such as q4_k, mxfp4 or fp8.", autocompletion=complete_format
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .gguf or .safetensors file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    as_json: Json = False,
) -> None:
    """Rewrite the matrices of a tensor file in FORMAT. All is written, or nothing."""
    from waferline.formats.convert import check_output, convert, plan
    from waferline.formats.open_file import open_tensors
    from waferline.report.formats import quantize_data, quantize_report

    check_output(output, replace=force)
    source = open_tensors(file)
    steps = plan(source, format, output.suffix.lower())
    with progress("quantize", sum(s.source.weights for s in steps)) as advance:
        errors = convert(source, steps, output, progress=lambda name, n: advance(n, description=name))
    result = quantize_data(steps, errors, output)
    emit(as_json, result, lambda: quantize_report(result))


@app.command("list")
def list_formats(as_json: Json = False) -> None:
    """Every format that can be encoded or decoded, with its bits per weight."""
    from waferline.report.formats import codec_rows, codec_table

    rows = codec_rows()
    emit(as_json, rows, lambda: [codec_table(rows)])


@app.command("error")
def error(
    file: _File,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="Format to try; repeat for more.", autocompletion=complete_format),
    ] = None,
    tensor: Annotated[list[str] | None, typer.Option("--tensor", "-t", help="Only this tensor; repeat.")] = None,
    as_json: Json = False,
) -> None:
    """What each format would lose on the matrices of a tensor file."""
    from waferline.errors import InvalidInputError
    from waferline.formats.codec import codec_for
    from waferline.formats.convert import tensor_error
    from waferline.formats.open_file import open_tensors
    from waferline.formats.reconstruction import ErrorSums
    from waferline.report.formats import error_table

    source = open_tensors(file)
    names = [codec_for(name).name for name in format or _DEFAULT_FORMATS]
    chosen = [source[name] for name in tensor] if tensor else list(source.tensors)
    matrices = [t for t in chosen if t.is_float and len(t.shape) >= 2 and t.weights]
    totals = {name: ErrorSums() for name in names}
    rows: list[dict[str, Any]] = []
    with progress("error", sum(t.weights for t in matrices) * len(names)) as advance:
        for info, name in ((info, name) for info in matrices for name in names):
            advance(description=f"{info.name} {name}")
            row: dict[str, Any] = {"tensor": info.name, "shape": info.shape, "from": info.format, "format": name}
            try:
                sums = tensor_error(source, info, name, advance)
            except InvalidInputError as refusal:
                advance(info.weights)
                rows.append(row | {"error": None, "refused": str(refusal)})
                continue
            totals[name].merge(sums)
            rows.append(row | {"error": sums.stats(), "refused": None})
    summary = {name: sums.stats() for name, sums in totals.items() if sums.weights}
    emit(as_json, {"file": file, "tensors": rows, "total": summary}, lambda: [error_table(rows, summary)])
