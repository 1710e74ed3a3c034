"""`waferline simulate mesh`: GEMM, GEMV, collectives and whole models on a mesh of small cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from waferline.machines.mesh import MeshParameters
    from waferline.simulate.mesh.result import MeshResult

app = typer.Typer(help="A 2-D mesh of small cores, from one router to a whole wafer.", no_args_is_help=True)

GRID = typer.Option("--grid", help="Cores as WIDTHxHEIGHT, such as 720x720.")
DEVICE = typer.Option(
    "--device", help="wse2, wse3, or a parameter set: wse2-waferllm, wse3-notebook, sdk-sim-wse3, hpdc24."
)
FIDELITY = typer.Option("--fidelity", help="closed: formulas per step; event: every word through the routers.")
FORMAT = typer.Option("--format", help="Numbers the cores compute in: fp16, fp32 or int8.")
JSON = typer.Option("--json", help="Print data instead of tables.")
TRACE = typer.Option("--trace", help="Add a row for every step.")
PLOT = typer.Option("--plot", help="Draw the mesh into this .html or .png file.")
DATA = typer.Option("--data/--no-data", help="Compute with real numbers and compare with NumPy.")
REDUCE = typer.Option("--reduce", help="chain, ring, or ktree:K.")
GROUP = typer.Option("--group", help="Cores in a first-level group of the tree; about the square root by default.")
COLOURS = typer.Option("--colours", help="Routable colours per core, instead of the device's.")
SRAM = typer.Option("--sram", help="SRAM bytes per core, instead of the device's.")


@app.command()
def gemm(
    shape: Annotated[str, typer.Argument(help="MxKxN, such as 4096x4096x4096.")],
    grid: Annotated[str, GRID],
    device: Annotated[str, DEVICE] = "wse2",
    algorithm: Annotated[str, typer.Option(help="meshgemm, cannon, summa, allgather or gemm-t.")] = "meshgemm",
    number_format: Annotated[str, FORMAT] = "fp16",
    accumulate: Annotated[str, typer.Option(help="Format of the sums: fp32 or fp16.")] = "fp32",
    fidelity: Annotated[str, FIDELITY] = "closed",
    dataflow: Annotated[bool, typer.Option("--dataflow", help="Event fidelity without a barrier per step.")] = False,
    data: Annotated[bool, DATA] = True,
    seed: Annotated[int, typer.Option(help="Seed of the random operands.")] = 0,
    colours: Annotated[int | None, COLOURS] = None,
    sram: Annotated[int | None, SRAM] = None,
    plot: Annotated[Path | None, PLOT] = None,
    trace: Annotated[bool, TRACE] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """C[M, N] = A[M, K] B[K, N] distributed over the grid."""
    from waferline.simulate.mesh.gemm import simulate_gemm

    m, k, n = _sizes(shape, 3, "SHAPE", "MxKxN")
    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, colours, sram)
    with _progress("multiplying", as_json) as report:
        result = simulate_gemm(parameters, m, k, n, width, height, algorithm=algorithm, number_format=number_format,
                               accumulator=accumulate, fidelity=fidelity, lockstep=not dataflow, data=data, seed=seed,
                               progress=report)  # fmt: skip
    _show(result, plot, trace, as_json)


@app.command()
def gemv(
    shape: Annotated[str, typer.Argument(help="MxN, such as 16384x16384.")],
    grid: Annotated[str, GRID],
    device: Annotated[str, DEVICE] = "wse2",
    reduce: Annotated[str, REDUCE] = "ktree:2",
    group: Annotated[int | None, GROUP] = None,
    batch: Annotated[int, typer.Option(help="Vectors at once (weights stay in place).")] = 1,
    weights: Annotated[str, typer.Option(help="Format of the weights: fp16, or a block format such as q4_k.")] = "",
    number_format: Annotated[str, FORMAT] = "fp16",
    accumulate: Annotated[str, typer.Option(help="Format of the sums: fp32 or fp16.")] = "fp32",
    fidelity: Annotated[str, FIDELITY] = "closed",
    data: Annotated[bool, DATA] = True,
    seed: Annotated[int, typer.Option(help="Seed of the random operands.")] = 0,
    colours: Annotated[int | None, COLOURS] = None,
    sram: Annotated[int | None, SRAM] = None,
    plot: Annotated[Path | None, PLOT] = None,
    trace: Annotated[bool, TRACE] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """c[N] = a[M] B[M, N] with B in place, partial results all-reduced."""
    from waferline.simulate.mesh.gemv import simulate_gemv

    m, n = _sizes(shape, 2, "SHAPE", "MxN")
    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, colours, sram)
    with _progress("multiplying", as_json) as report:
        result = simulate_gemv(parameters, m, n, width, height, batch=batch, reduction=reduce, group=group,
                               weights=weights or number_format, number_format=number_format, accumulator=accumulate,
                               data=data, fidelity=fidelity, seed=seed, progress=report)  # fmt: skip
    _show(result, plot, trace, as_json)


@app.command()
def allreduce(
    grid: Annotated[str, GRID],
    words: Annotated[int, typer.Option(help="fp32 values per core.")] = 128,
    device: Annotated[str, DEVICE] = "wse2",
    reduce: Annotated[str, REDUCE] = "ktree:2",
    group: Annotated[int | None, GROUP] = None,
    fidelity: Annotated[str, FIDELITY] = "event",
    seed: Annotated[int, typer.Option(help="Seed of the random values.")] = 0,
    colours: Annotated[int | None, COLOURS] = None,
    sram: Annotated[int | None, SRAM] = None,
    plot: Annotated[Path | None, PLOT] = None,
    trace: Annotated[bool, TRACE] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Sum a vector over all cores, rows first and then columns; every core gets the sum."""
    from waferline.simulate.mesh.gemv import simulate_allreduce

    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, colours, sram)
    result = simulate_allreduce(parameters, words, width, height, reduction=reduce, group=group, fidelity=fidelity,
                                seed=seed)  # fmt: skip
    _show(result, plot, trace, as_json)


@app.command()
def prefill(
    model: Annotated[str, typer.Argument(help="A catalogue name, a Hugging Face config.json, or a GGUF file.")],
    grid: Annotated[str, GRID],
    context: Annotated[int, typer.Option(help="Prompt tokens.")] = 4096,
    batch: Annotated[int, typer.Option(help="Prompts, one after another.")] = 1,
    device: Annotated[str, DEVICE] = "wse2",
    number_format: Annotated[str, FORMAT] = "fp16",
    released: Annotated[bool, typer.Option("--released", help="Count as the released WaferLLM code does.")] = False,
    data: Annotated[bool, DATA] = True,
    colours: Annotated[int | None, COLOURS] = None,
    sram: Annotated[int | None, SRAM] = None,
    plot: Annotated[Path | None, PLOT] = None,
    trace: Annotated[bool, TRACE] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Process a prompt: every layer of MODEL, region after region."""
    from waferline.simulate.mesh.transformer import simulate_prefill
    from waferline.workloads.load import load_model

    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, colours, sram)
    result = simulate_prefill(parameters, load_model(model), width, height, context=context, batch=batch,
                              number_format=number_format, released=released, data=data)  # fmt: skip
    _show(result, plot, trace, as_json)


@app.command()
def decode(
    model: Annotated[str, typer.Argument(help="A catalogue name, a Hugging Face config.json, or a GGUF file.")],
    grid: Annotated[str, GRID],
    context: Annotated[int, typer.Option(help="Cached tokens of each sequence.")] = 4096,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 1,
    device: Annotated[str, DEVICE] = "wse2",
    reduce: Annotated[str, REDUCE] = "ktree:2",
    number_format: Annotated[str, FORMAT] = "fp16",
    released: Annotated[bool, typer.Option("--released", help="Count as the released WaferLLM code does.")] = False,
    data: Annotated[bool, DATA] = True,
    colours: Annotated[int | None, COLOURS] = None,
    sram: Annotated[int | None, SRAM] = None,
    plot: Annotated[Path | None, PLOT] = None,
    trace: Annotated[bool, TRACE] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Generate one token: every layer of MODEL, region after region."""
    from waferline.simulate.mesh.transformer import simulate_decode
    from waferline.workloads.load import load_model

    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, colours, sram)
    result = simulate_decode(parameters, load_model(model), width, height, context=context, batch=batch,
                             reduction=reduce, number_format=number_format, released=released, data=data)  # fmt: skip
    _show(result, plot, trace, as_json)


@app.command()
def kv(
    model: Annotated[str, typer.Argument(help="A catalogue name, a Hugging Face config.json, or a GGUF file.")],
    grid: Annotated[str, GRID],
    policy: Annotated[str, typer.Option(help="shift (rows stay level) or concat (the last row fills).")] = "shift",
    device: Annotated[str, DEVICE] = "wse2",
    number_format: Annotated[str, FORMAT] = "fp16",
    sram: Annotated[int | None, SRAM] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Fill the KV cache of a region token by token until a core has no room."""
    from waferline.simulate.mesh.transformer import simulate_kv
    from waferline.workloads.load import load_model

    width, height = _sizes(grid, 2, "--grid", "WIDTHxHEIGHT")
    parameters = _parameters(device, None, sram)
    with _progress("caching", as_json) as report:
        rows = simulate_kv(parameters, load_model(model), width, height, policy=policy, number_format=number_format,
                           progress=report)  # fmt: skip
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
    else:
        from waferline.report.mesh import print_kv

        print_kv(rows)


def _sizes(text: str, count: int, where: str, form: str) -> tuple[int, ...]:
    """`12x34` as whole numbers."""
    from waferline.errors import InvalidInputError

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != count or not all(part.strip().isdigit() for part in parts):
        raise InvalidInputError(f"'{text}' is not {form}", where=where, hint="whole numbers joined by x")
    return tuple(int(part) for part in parts)


def _parameters(device: str, colours: int | None, sram: int | None) -> MeshParameters:
    from waferline.errors import InvalidInputError
    from waferline.machines.mesh import load_parameters

    parameters = load_parameters(device)
    changes = {name: value for name, value in (("colours", colours), ("sram_bytes", sram)) if value is not None}
    if any(value < 1 for value in changes.values()):
        raise InvalidInputError("limits must be positive", where="--colours or --sram")
    return parameters.with_values(**changes) if changes else parameters


@contextmanager
def _progress(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr (hidden with --json) that the simulator calls with (done, all)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def _show(result: MeshResult, plot: Path | None, trace: bool, as_json: bool) -> None:
    if plot is not None:
        from waferline.report.mesh_picture import write_picture

        write_picture(result, plot)
    if as_json:
        import json

        data: dict[str, Any] = result.to_json()
        if trace:
            data["trace"] = result.trace
        if plot is not None:
            data["plot"] = str(plot)
        typer.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    from waferline.report.mesh import print_mesh

    print_mesh(result, trace=trace)
    if plot is not None:
        typer.echo(f"picture: {plot}")
