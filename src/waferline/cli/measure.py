"""`waferline measure`: run it for real on this machine or against a live server, and put predicted beside measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli.options import Counts, Json, OnMeasured, Precision, Threads, counts
from waferline.cli.output import emit, telling, warn
from waferline.errors import InvalidInputError

if TYPE_CHECKING:
    from waferline.measure.contract import Outcome

app = typer.Typer(help="Run operators, models and servers for real; predicted beside measured.", no_args_is_help=True)

MACHINE_BUDGET_S = 30.0  # to begin calibrations in; the last one may take ten more on a first run, the roofs six
SERVER_TIMEOUT_S = 300.0


class Rates(tuple[float, ...]):
    """One or several requests a second."""


def rates(text: Any) -> Rates:
    """`0.5,4` as numbers above zero; Typer's error for anything else."""
    try:
        found = Rates(map(float, text.split(","))) if isinstance(text, str) else Rates(text)
    except ValueError:
        found = Rates((math.nan,))
    if not all(0 < rate < math.inf for rate in found):
        raise typer.BadParameter("not a number of requests a second above 0, nor several separated by commas")
    return found


_Store = Annotated[
    Path | None, typer.Option("--store", help="Append the records to this JSON-lines file.", dir_okay=False)
]
_Save = Annotated[Path | None, typer.Option("--save", help="Also write the hardware file here.")]
_Budget = Annotated[float, typer.Option("--budget", help="Seconds for calibrating kernels; 0 measures the roofs only.")]
_Format = Annotated[
    str | None, typer.Option("--format", "-f", help="Number format of the weights or the cache.  [default: the usual]")
]
_Concurrency = Annotated[
    Counts,
    typer.Option(
        "--concurrency", parser=counts, metavar="N[,N...]", help="Closed loop: requests in flight, a load each."
    ),
]
_Rate = Annotated[
    Rates | None,
    typer.Option("--rate", parser=rates, metavar="R[,R...]", help="Open loop instead: requests a second."),
]
_Requests = Annotated[
    int | None, typer.Option("--requests", help="Requests of each load.  [default: 8 a stream, 16 at least]")
]
_Url = Annotated[str, typer.Argument(help="Base URL such as http://127.0.0.1:8080/v1, or a guidellm JSON file.")]


@app.callback()
def _bind() -> None:
    from waferline.kernels.binding import bind_threads

    bind_threads()


@app.command("machine")
def machine(
    save: _Save = None,
    budget: _Budget = MACHINE_BUDGET_S,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Constants of this engine instead, by its own benchmark: llama.cpp.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="GGUF file that the engine runs.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Bandwidth of each memory level, arithmetic peaks, threads and call cost: a machine file for `--on this`.

    With --engine, the constants of an engine that is installed here are added to that file.
    """
    from waferline.evidence.side_by_side.engine import measure_engine
    from waferline.evidence.side_by_side.machine import measure_this_machine
    from waferline.report import measured

    also = [save] if save else []
    if model is not None and engine is None:
        raise InvalidInputError("--model is read by --engine, which is missing")
    if engine is not None and budget != MACHINE_BUDGET_S:
        raise InvalidInputError("--budget is of this machine's own kernels, not of --engine")
    with telling("measuring") as tell:
        if engine is not None:
            data = measure_engine(engine, model, also, tell)
        else:
            data = measure_this_machine(budget, also, tell)
    emit(as_json, data, lambda: measured.engine(data) if engine is not None else measured.machine(data))


def audit(
    on: Annotated[
        str, typer.Argument(help="The machine of the catalogue that this one is said to be.", metavar="MACHINE")
    ],
    as_json: Json = False,
) -> None:
    """This machine, once `measure machine` ran, against the spec sheet of MACHINE: bandwidth, peaks and memory."""
    from waferline.evidence.side_by_side.audit import audit as against_sheet
    from waferline.report import measured

    data = against_sheet(on)
    emit(as_json, data, lambda: measured.audit(data))


@app.command("operator")
def operator(
    name: Annotated[str, typer.Argument(help="gemv, gemm, ...", metavar="OPERATOR")],
    shape: Annotated[str, typer.Argument(help="Such as 14336x4096.")],
    format: _Format = None,
    batch: Annotated[int, typer.Option(help="Activation columns, or sequences.")] = 1,
    threads: Threads = None,
    warm: Annotated[bool, typer.Option("--warm", help="Use the same weights again and again, from cache.")] = False,
    repeats: Annotated[int, typer.Option(help="Repeats at least.")] = 15,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel", "--algorithm", help="softmax: two-pass, recompute or reload; gemv: lut.  [default: the usual]"
        ),
    ] = None,
    on: OnMeasured = None,
    store: _Store = None,
    as_json: Json = False,
) -> None:
    """Time one operator with this machine's kernels, beside what predict says.

    With --kernel: another kernel of the same operator, and the usual one beside it.
    """
    from waferline.evidence.side_by_side import known_or_none
    from waferline.evidence.side_by_side.operator import operator_beside
    from waferline.kernels.cpu.threads import available_threads
    from waferline.measure.engine import Plan
    from waferline.measure.operators import OperatorRequest, entry_of, parse_shape
    from waferline.report import measured

    entry = entry_of(name)
    used = threads or (available_threads() if entry.threaded else 1)
    request = OperatorRequest(name, parse_shape(shape), format or entry.format, batch, used, not warm, kernel or "")
    known = known_or_none(on)
    with telling("measuring") as tell:
        tell(request.label)
        beside = operator_beside(request, known, Plan(repeats=repeats))
    data = beside.to_json()
    emit(as_json, data, lambda: measured.operator(data))
    _keep([beside.kept()], store)


@app.command("model")
def model(
    file: Annotated[Path, typer.Argument(help="A GGUF file.", metavar="GGUF")],
    prompt: Annotated[int, typer.Option(help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option(help="Decoded tokens.")] = 64,
    threads: Threads = None,
    kv: Annotated[str, typer.Option(help="KV cache: f16 or q8.")] = "f16",
    on: OnMeasured = None,
    store: _Store = None,
    as_json: Json = False,
) -> None:
    """Prefill and decode a GGUF model with this machine's kernels, beside what predict says, operator by operator."""
    from waferline.evidence.side_by_side import known_or_none
    from waferline.evidence.side_by_side.model import model_beside
    from waferline.measure.model import measure_model
    from waferline.report import measured

    known = known_or_none(on)
    with telling("measuring") as tell:
        result = measure_model(file, prompt=prompt, output=output, threads=threads, kv=kv, progress=tell)
    data = model_beside(result, known)
    emit(as_json, data, lambda: measured.model(data))
    told = data["predicted"] or {}
    _keep([{**data[phase], "predicted": told.get(phase)} for phase in ("prefill", "decode")], store)


@app.command("resident")
def resident(
    device: Annotated[str, typer.Option(help="cuda or cpu; neither stands in for the other.")] = "cuda",
    shape: Annotated[list[str] | None, typer.Option(help="sae-2k-2048, ... or 2000x2048; repeat for more.")] = None,
    reps: Annotated[int, typer.Option(help="Timed solves.")] = 20,
    store: _Store = None,
    as_json: Json = False,
) -> None:
    """Device-resident normal-equation solves a second, with a verdict that only an engaged GPU can pass."""
    from waferline.measure.resident import CANONICAL_ENCODE_SHAPES, encode_shape, measure_resident_solve_throughput
    from waferline.report import measured

    shapes = [encode_shape(s) for s in shape] if shape else list(CANONICAL_ENCODE_SHAPES)
    results = []
    with telling("measuring") as tell:
        for each in shapes:
            results.append(measure_resident_solve_throughput(each, reps, device=device, progress=tell))
            if not results[-1].engaged:
                break
    done = [r for r in results if r.engaged]
    data = {"device": device, "results": [r.to_json() for r in done]}
    if len(done) == len(results) or (done and not as_json):
        emit(as_json, data, lambda: measured.resident(data))
    _keep([r.outcome for r in results], store)
    for result in results:
        result.required()


@app.command("server")
def server(
    url: _Url,
    concurrency: _Concurrency = Counts((1,)),
    rate: _Rate = None,
    prompt: Annotated[int, typer.Option(help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option(help="Output tokens.")] = 128,
    requests: _Requests = None,
    endpoint: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    served: Annotated[str, typer.Option("--served-model", help="Name the server knows; its first by default.")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds for a whole request.")] = SERVER_TIMEOUT_S,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to predict for, beside the measured figures.")] = None,
    on: OnMeasured = None,
    precision: Precision = None,
    store: _Store = None,
    as_json: Json = False,
) -> None:
    """TTFT, TPOT and throughput of any OpenAI-compatible server, streamed; or what guidellm found."""
    import os

    from waferline.evidence.side_by_side.server import guidellm_data, server_beside
    from waferline.measure.server import Target, loads, measure_server
    from waferline.report import measured

    if url.lower().endswith(".json"):
        told = guidellm_data(url)
        return emit(as_json, told, lambda: measured.server(told))
    key = os.environ.get(key_env, "") if key_env else ""
    target = Target(url, model=served, endpoint=endpoint, timeout_s=timeout, key=key)
    offered = loads(concurrency, rate or (), requests)
    with telling("measuring") as tell:
        results = measure_server(target, offered, prompt_tokens=prompt, output_tokens=output, progress=tell)
    done = [r for r in results if r.engaged]
    beside = [server_beside(r, model, on, precision) for r in done]
    data = {"url": url, "results": beside}
    if len(done) == len(results) or (done and not as_json):
        emit(as_json, data, lambda: measured.server(data))
    _keep([*beside, *(r.to_json() for r in results if not r.engaged)], store)
    for result in results:
        result.required()
    return None


@app.command("page")
def page(
    output: Annotated[Path, typer.Option("--output", "-o", help="A Markdown file to write.")],
    on: OnMeasured = None,
    store: _Store = None,
    as_json: Json = False,
) -> None:
    """Run a set of operators that no constant was fitted to, and write predicted beside measured as a page."""
    from waferline.evidence.side_by_side import known_machine
    from waferline.evidence.side_by_side.operator import run_held_out
    from waferline.files import replacing
    from waferline.report import measured

    known = known_machine(on)
    with replacing(output) as own, telling("measuring") as tell:  # a path that cannot be written is said before
        rows = run_held_out(known, tell)
        own.write_text(measured.page(known, rows), encoding="utf-8")
    data = {"rows": len(rows), "output": str(output)}
    emit(as_json, data, lambda: measured.written(data))
    _keep([row.kept() for row in rows], store)


@app.command("show")
def show(
    store: Annotated[Path | None, typer.Option("--store", help="The JSON-lines file to read.")] = None,
    as_json: Json = False,
) -> None:
    """What was measured and kept, newest first, beside what predict said of it."""
    from waferline.measure.measurements import measurements
    from waferline.report import measured

    kept = measurements(store)
    emit(as_json, kept, lambda: measured.kept(kept))


@app.command("export")
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="A CSV file to write.")],
    store: Annotated[Path | None, typer.Option("--store", help="The JSON-lines file to read.")] = None,
    as_json: Json = False,
) -> None:
    """Write stored measurements as evidence rows."""
    from waferline.files import write_text
    from waferline.measure.rows import evidence_rows, is_measurement, rows_csv
    from waferline.measure.store import read
    from waferline.report import measured

    kept = read(store)
    rows = list(evidence_rows(kept.records))
    write_text(output, rows_csv(rows))
    odd = sum(r["engaged"] and not is_measurement(r) for r in kept.records)
    data = {"rows": len(rows), "skipped": kept.skipped + odd, "output": str(output)}
    emit(as_json, data, lambda: measured.written(data))


def _keep(outcomes: Sequence[Outcome | Mapping[str, Any]], path: Path | None) -> None:
    """Append to the named store, or to the user's own; what was shown already is worth more than a store that fails."""
    from waferline.errors import FileFormatError
    from waferline.measure.store import append

    try:
        append(outcomes, path)
    except FileFormatError as error:
        warn(f"not kept: {error}")
