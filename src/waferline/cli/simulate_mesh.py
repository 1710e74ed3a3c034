"""`waferline simulate mesh`: operators, collectives and models on a mesh of small cores."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli.options import Json, Model
from waferline.cli.output import emit, progress

if TYPE_CHECKING:
    from waferline.machines.mesh import MeshParameters
    from waferline.simulate.mesh.result import MeshResult
    from waferline.workloads.operator import Operator

app = typer.Typer(help="A 2-D mesh of small cores, from one router to a whole wafer.", no_args_is_help=True)

_DEVICES = "wse2, wse3, or a parameter set: wse2-waferllm, wse3-notebook, sdk-sim-wse3, hpdc24."
Grid = Annotated[str, typer.Option("--grid", help="Cores as WIDTHxHEIGHT, such as 720x720.")]
Device = Annotated[str, typer.Option("--device", help=_DEVICES)]
Sram = Annotated[
    int | None, typer.Option("--sram", min=1, max=2**30, help="SRAM bytes per core, instead of the device's.")
]
Format = Annotated[str, typer.Option("--format", help="Numbers the cores compute in: fp16, fp32 or int8.")]
Fidelity = Annotated[
    str,
    typer.Option(help="event: simulate every word; closed: predict by formulas; auto: simulate what takes seconds."),
]
Colours = Annotated[
    int | None, typer.Option("--colours", min=1, max=2**10, help="Routable colours per core, instead of the device's.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random operands.")]
Trace = Annotated[bool, typer.Option("--trace", help="Add a row for every step.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the mesh into this .html, .png or .svg file.")]
Reduce = Annotated[str, typer.Option("--reduce", help="chain, ring, or ktree:K.")]
Group = Annotated[
    int | None,
    typer.Option("--group", min=1, help="Cores in a first-level group of the tree; about the square root by default."),
]
Data = Annotated[bool, typer.Option("--data/--no-data", help="Compute with real numbers and compare with NumPy.")]
Weights = Annotated[str, typer.Option(help="Format of the weights: fp16, or a block format such as q4_k.")]
Accumulate = Annotated[str, typer.Option("--accumulate", help="Format of the sums: fp32 or fp16.")]


@dataclass(frozen=True)
class Run:
    """What every operator's run is asked: on which mesh, how it is found out, and what is shown of it."""

    grid: Grid
    device: Device = "wse2"
    fidelity: Fidelity = "auto"
    seed: Seed = 0
    colours: Colours = None
    sram: Sram = None
    plot: Plot = None
    trace: Trace = False
    as_json: Json = False

    def show(self, op: Operator, run: Callable[..., MeshResult], what: str = "", **options: Any) -> None:
        """Run `op` and print what came out."""
        from waferline.report.mesh import mesh_report

        if self.plot is not None:
            from waferline.report.charts import check_ending

            check_ending(self.plot)
        p, (width, height) = (
            _parameters(self.device, self.colours, self.sram),
            _sizes(self.grid, "--grid", "WIDTHxHEIGHT"),
        )
        with progress(what, hidden=self.as_json or not what) as advance:
            if what:
                options["progress"] = lambda done, whole: advance(completed=done, total=whole)
            result = run(op, p, width, height, fidelity=self.fidelity, seed=self.seed, **options)
        data = result.to_json() | ({"trace": result.trace} if self.trace else {})
        if self.plot is not None:
            from waferline.report.mesh_picture import write_picture

            write_picture(result, self.plot)
            data["plot"] = str(self.plot)
        picture = [] if self.plot is None else [f"picture: {self.plot}"]
        emit(self.as_json, data, lambda: [*mesh_report(result, trace=self.trace), *picture])


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """A command with its own parameters and those of `Run`, which it gets as its first one, made up."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = list(inspect.signature(Run, eval_str=True).parameters.values())

    def command(**given: Any) -> None:
        run = Run(**{p.name: given.pop(p.name) for p in shared})
        function(run, **given)

    # An argument comes first, then the grid, which every command needs, then what has a default.
    ordered = sorted([*own[:1], *shared, *own[1:]], key=lambda p: p.default is not inspect.Parameter.empty)
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in ordered]
    command.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in keywords}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    app.command()(command)
    return function


@_command
def gemm(
    run: Run,
    shape: Annotated[str, typer.Argument(help="MxKxN, such as 4096x4096x4096.")],
    algorithm: Annotated[str, typer.Option(help="meshgemm, cannon, summa, allgather or gemm-t.")] = "meshgemm",
    weights: Weights = "",
    number_format: Format = "fp16",
    accumulate: Accumulate = "fp32",
    dataflow: Annotated[bool, typer.Option("--dataflow", help="Event fidelity without a barrier per step.")] = False,
    data: Data = True,
) -> None:
    """C[M, N] = A[M, K] B[K, N] distributed over the grid."""
    from waferline.simulate.mesh.gemm import simulate_gemm
    from waferline.simulate.mesh.operators import matrix_product

    m, k, n = _sizes(shape, "SHAPE", "MxKxN")
    op = matrix_product(m, k, n, number_format, weights or None)
    run.show(
        op, simulate_gemm, "multiplying", algorithm=algorithm, accumulator=accumulate, lockstep=not dataflow, data=data
    )


@_command
def gemv(
    run: Run,
    shape: Annotated[str, typer.Argument(help="MxN, such as 16384x16384.")],
    reduce: Reduce = "ktree:2",
    group: Group = None,
    batch: Annotated[int, typer.Option(help="Vectors at once (weights stay in place).")] = 1,
    weights: Weights = "",
    number_format: Format = "fp16",
    accumulate: Accumulate = "fp32",
    data: Data = True,
) -> None:
    """c[N] = a[M] B[M, N] with B in place, partial results all-reduced."""
    from waferline.simulate.mesh.gemv import simulate_gemv
    from waferline.simulate.mesh.operators import matrix_product

    m, n = _sizes(shape, "SHAPE", "MxN")
    op = matrix_product(batch, m, n, number_format, weights or None)
    run.show(op, simulate_gemv, "multiplying", reduction=reduce, group=group, accumulator=accumulate, data=data)


@_command
def dequantise(
    run: Run,
    shape: Annotated[str, typer.Argument(help="KxN, such as 4096x4096.")],
    weights: Weights = "q4_k",
    number_format: Format = "fp16",
) -> None:
    """Decode packed weights where they lie, each core its own tile."""
    from waferline.simulate.mesh.dequantise import simulate_dequantise
    from waferline.simulate.mesh.operators import matrix_product

    k, n = _sizes(shape, "SHAPE", "KxN")
    run.show(matrix_product(1, k, n, number_format, weights), simulate_dequantise)


@_command
def allreduce(
    run: Run,
    words: Annotated[int, typer.Option(help="fp32 values per core.")] = 128,
    reduce: Reduce = "ktree:2",
    group: Group = None,
) -> None:
    """Sum a vector over all cores, rows first and then columns; every core gets the sum."""
    from waferline.simulate.mesh.gemv import simulate_allreduce
    from waferline.simulate.mesh.operators import all_reduce

    width, height = _sizes(run.grid, "--grid", "WIDTHxHEIGHT")
    run.show(all_reduce(words, width * height), simulate_allreduce, reduction=reduce, group=group)


@app.command()
def forward(
    model: Model,
    grid: Grid = "4x4",
    weights: Weights = "",
    number_format: Format = "fp32",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run a small model with MODEL's head grouping, prompt and generated tokens, and compare every logit with NumPy."""
    from waferline.report.mesh import facts_report
    from waferline.simulate.mesh.transformer import simulate_forward
    from waferline.workloads.load import load_model

    width, height = _sizes(grid, "--grid", "WIDTHxHEIGHT")
    facts = simulate_forward(load_model(model), width, height, number_format=number_format, weights=weights, seed=seed)
    emit(as_json, facts, lambda: facts_report("A small model on the mesh", facts))


@app.command()
def kv(
    model: Model,
    grid: Grid,
    policy: Annotated[str, typer.Option(help="shift (rows stay level) or concat (the last row fills).")] = "shift",
    device: Device = "wse2",
    number_format: Format = "fp16",
    sram: Sram = None,
    as_json: Json = False,
) -> None:
    """Fill the KV cache of a region token by token until a core has no room."""
    from waferline.report.mesh import facts_report
    from waferline.simulate.mesh.transformer import simulate_kv
    from waferline.workloads.load import load_model

    width, height = _sizes(grid, "--grid", "WIDTHxHEIGHT")
    with progress("caching", hidden=as_json) as advance:
        facts = simulate_kv(_parameters(device, None, sram), load_model(model), width, height, policy=policy,
                            number_format=number_format,
                            progress=lambda done, whole: advance(completed=done, total=whole))  # fmt: skip
    emit(as_json, facts, lambda: facts_report("KV cache of one region", facts))


def _sizes(text: str, where: str, form: str) -> tuple[int, ...]:
    """`12x34` as whole numbers, as many as in `form`."""
    from waferline.errors import InvalidInputError
    from waferline.text import is_count

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != form.count("x") + 1 or not all(is_count(p.strip()) for p in parts):
        raise InvalidInputError(f"'{text}' is not {form}", where=where, hint="whole numbers joined by x")
    return tuple(int(part) for part in parts)


def _parameters(device: str, colours: int | None, sram: int | None) -> MeshParameters:
    from waferline.machines.mesh import load_parameters

    changes = {name: value for name, value in (("colours", colours), ("sram_bytes", sram)) if value is not None}
    parameters = load_parameters(device)
    return parameters.with_values(**changes) if changes else parameters
