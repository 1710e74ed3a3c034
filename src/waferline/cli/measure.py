"""`waferline measure`: run it for real on this machine or against a live server, and put predicted beside measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from waferline.measure.contract import Outcome

app = typer.Typer(help="Run operators, models and servers for real; predicted beside measured.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
_ON = Annotated[
    str | None, typer.Option("--on", help="Machine to predict for: 'this', a hardware file or a name.  [default: this]")
]
_STORE = Annotated[
    Path | None, typer.Option("--store", help="Append the records to this JSON-lines file.", dir_okay=False)
]
MACHINE_BUDGET_S = 30.0  # to begin calibrations in; the last one may take ten more on a first run, the roofs six


@app.callback()
def _bind() -> None:
    from waferline.kernels.binding import bind_threads

    bind_threads()


@app.command("machine")
def machine(
    save: Annotated[Path | None, typer.Option("--save", help="Also write the hardware file here.")] = None,
    budget: Annotated[
        float, typer.Option(help="Seconds for calibrating kernels; 0 measures the roofs only.")
    ] = MACHINE_BUDGET_S,
    as_json: _JSON = False,
) -> None:
    """Bandwidth of each memory level, arithmetic peaks, threads and call cost: a machine file for `--on this`."""
    from waferline.cli.measured import Known, constants_of
    from waferline.machines.hardware import device_from_record
    from waferline.measure.calibrate import calibrate
    from waferline.measure.machine import probe_machine, profile_json
    from waferline.measure.machine_file import machine_record, save_machine, this_machine_path

    with _progress() as tell:
        profile = probe_machine(tell)
        known = Known(device_from_record(_checked(machine_record(profile))), {})
        calibrations: list[Any] = []
        if budget > 0:
            profile, calibrations = calibrate(
                profile,
                known.time_at,
                known.precision,
                lambda op: constants_of(known.device, op),
                within_s=budget,
                progress=tell,
            )
    record = machine_record(profile, calibrations)
    places = [this_machine_path(), *([save] if save else [])]
    for path in places:
        save_machine(record, path)
    data = {
        **profile_json(profile),
        "calibrated": {c.key: c.to_json() for c in calibrations},
        "saved": [str(p) for p in places],
    }
    _show(data, as_json, "print_machine")


def _checked(record: Mapping[str, Any]) -> Mapping[str, Any]:
    from waferline.machines.schema import parse_hardware

    return parse_hardware(dict(record), "this machine").record()


@app.command("operator")
def operator(
    name: Annotated[str, typer.Argument(help="gemv, gemm, ...", metavar="OPERATOR")],
    shape: Annotated[str, typer.Argument(help="Such as 14336x4096.")],
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="Number format of the weights or the cache.  [default: the usual]"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Activation columns, or sequences.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Threads.  [default: all cores]")] = None,
    warm: Annotated[bool, typer.Option("--warm", help="Use the same weights again and again, from cache.")] = False,
    repeats: Annotated[int, typer.Option(help="Repeats at least.")] = 15,
    on: _ON = None,
    store: _STORE = None,
    as_json: _JSON = False,
) -> None:
    """Time one operator with this machine's kernels, beside what predict says."""
    from waferline.cli.measured import known_or_none, predicted
    from waferline.kernels.cpu.threads import available_threads
    from waferline.measure.contract import required
    from waferline.measure.engine import Plan
    from waferline.measure.operators import OperatorRequest, entry_of, measure_operator, operator_of, parse_shape

    entry = entry_of(name)
    used = threads or (available_threads() if entry.threaded else 1)
    request = OperatorRequest(name, parse_shape(shape), format or entry.format, batch, used, not warm)
    known = known_or_none(on)
    with _progress() as tell:
        tell(request.label)
        measured = required(measure_operator(request, Plan(repeats=repeats)))
    data: dict[str, Any] = {"measured": measured.to_json(), "predicted": None}
    if known is not None:
        part = known.on_threads(used) if entry.threaded else known
        op = operator_of(request, part.precision(request.format))
        data["predicted"] = predicted(part, op)
        data["roof"] = _roofs(measured, part.device)
    _keep([measured], store)
    _show(data, as_json, "print_operator")


def _roofs(measured: Any, device: Any) -> dict[str, float]:
    """Shares of the machine's roofs that a measured operator reached."""
    bandwidth = measured.rate("bytes") / device.bandwidth_bytes_per_s
    return {"bandwidth_share": bandwidth, "memory_bytes_per_s": device.bandwidth_bytes_per_s}


@app.command("model")
def model(
    file: Annotated[Path, typer.Argument(help="A GGUF file.", metavar="GGUF")],
    prompt: Annotated[int, typer.Option(help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option(help="Decoded tokens.")] = 64,
    threads: Annotated[int | None, typer.Option(help="Threads.  [default: all cores]")] = None,
    kv: Annotated[str, typer.Option(help="KV cache: f16 or q8.")] = "f16",
    on: _ON = None,
    store: _STORE = None,
    as_json: _JSON = False,
) -> None:
    """Prefill and decode a GGUF model with this machine's kernels, beside what predict says, operator by operator."""
    from waferline.cli.measured import known_or_none
    from waferline.cli.measured_model import predicted_model
    from waferline.measure.contract import required
    from waferline.measure.model import measure_model

    known = known_or_none(on)
    with _progress() as tell:
        result = measure_model(file, prompt=prompt, output=output, threads=threads, kv=kv, progress=tell)
    decode = required(result.decode)
    data = {**result.to_json(), "predicted": None}
    if known is not None:
        data["predicted"] = predicted_model(known.on_threads(result.threads), file, decode.detail["formats"], result)
    _keep([required(result.prefill), decode], store)
    _show(data, as_json, "print_model")


@app.command("resident")
def resident(
    device: Annotated[str, typer.Option(help="cuda or cpu; neither stands in for the other.")] = "cuda",
    shape: Annotated[list[str] | None, typer.Option(help="sae-2k-2048, ... or 2000x2048; repeat for more.")] = None,
    reps: Annotated[int, typer.Option(help="Timed solves.")] = 20,
    store: _STORE = None,
    as_json: _JSON = False,
) -> None:
    """Device-resident normal-equation solves a second, with a verdict that only an engaged device can pass."""
    from waferline.measure.contract import Refusal
    from waferline.measure.resident import CANONICAL_ENCODE_SHAPES, encode_shape, measure_resident_solve_throughput
    from waferline.measure.resident.protocol import result_json

    shapes = [encode_shape(s) for s in shape] if shape else list(CANONICAL_ENCODE_SHAPES)
    results = []
    with _progress() as tell:
        for each in shapes:
            tell(f"{each.label} on {device}")
            results.append(measure_resident_solve_throughput(each, reps, device=device))
            if isinstance(results[-1].outcome, Refusal):
                break
    _keep([r.outcome for r in results], store)
    refused = next((r.outcome for r in results if isinstance(r.outcome, Refusal)), None)
    if refused is not None:
        raise refused.error()
    _show({"device": device, "results": [result_json(r) for r in results]}, as_json, "print_resident")


@app.command("server")
def server(
    url: Annotated[str, typer.Argument(help="Base URL such as http://127.0.0.1:8080/v1, or a guidellm JSON file.")],
    concurrency: Annotated[str, typer.Option(help="Closed loop: requests in flight, comma-separated.")] = "1",
    rate: Annotated[str | None, typer.Option(help="Open loop instead: requests/s, comma-separated.")] = None,
    prompt: Annotated[int, typer.Option(help="Prompt tokens.")] = 512,
    output: Annotated[int, typer.Option(help="Output tokens.")] = 128,
    requests: Annotated[
        int | None, typer.Option(help="Requests of each load.  [default: 8 a stream, 16 at least]")
    ] = None,
    endpoint: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    served: Annotated[str, typer.Option("--served-model", help="Name the server knows; its first by default.")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds for a whole request.")] = 300.0,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to predict for, beside the measured figures.")] = None,
    on: _ON = None,
    precision: Annotated[str | None, typer.Option("--precision", "-p", help="Precision to predict for.")] = None,
    store: _STORE = None,
    as_json: _JSON = False,
) -> None:
    """TTFT, TPOT and throughput of any OpenAI-compatible server, streamed; or what guidellm found."""
    import os

    from waferline.cli.measured_server import guidellm_data, loads_of, predicted_serving
    from waferline.measure.server import Target, measure_server

    if url.lower().endswith(".json"):
        return _show(guidellm_data(url), as_json, "print_server")
    key = os.environ.get(key_env, "") if key_env else ""
    target = Target(url, model=served, endpoint=endpoint, timeout_s=timeout, key=key)
    loads = loads_of(concurrency, rate, requests)
    with _progress() as tell:
        results = measure_server(target, loads, prompt_tokens=prompt, output_tokens=output, progress=tell)
    _keep([r.to_json() for r in results], store)
    failed = next((r for r in results if not r.engaged), None)
    if failed is not None:
        raise failed.error()
    records = [r.to_json() for r in results]
    for record in records:
        record["predicted"] = predicted_serving(model, on, precision, record) if model else None
    return _show({"url": url, "results": records}, as_json, "print_server")


@app.command("page")
def page(
    output: Annotated[Path, typer.Option("--output", "-o", help="A Markdown file to write.")],
    on: _ON = None,
    store: _STORE = None,
    as_json: _JSON = False,
) -> None:
    """Run a set of operators that no constant was fitted to, and write predicted beside measured as a page."""
    from waferline.cli.measured import known_machine
    from waferline.cli.measured_page import page_text, run_page

    known = known_machine(on)
    with _progress() as tell:
        rows = run_page(known, tell)
    output.write_text(page_text(known, rows), encoding="utf-8")
    _keep([row.measured for row in rows], store)
    _show({"rows": len(rows), "output": str(output)}, as_json, "print_export")


@app.command("export")
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="A CSV file to write.")],
    store: Annotated[Path | None, typer.Option("--store", help="The JSON-lines file to read.")] = None,
    as_json: _JSON = False,
) -> None:
    """Write stored measurements as evidence rows."""
    from waferline.measure.rows import evidence_rows, rows_csv
    from waferline.measure.store import read

    rows = list(evidence_rows(read(store)))
    output.write_text(rows_csv(rows), encoding="utf-8")
    _show({"rows": len(rows), "output": str(output)}, as_json, "print_export")


def _keep(outcomes: Sequence[Outcome | Mapping[str, Any]], path: Path | None) -> None:
    """Append to the named store, or to the user's own."""
    from waferline.measure.store import append

    append(outcomes, path)


def _show(data: Mapping[str, Any], as_json: bool, how: str) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(data, indent=2, allow_nan=False))
        return
    from waferline.cli import measured_tables

    getattr(measured_tables, how)(data)


def _progress() -> Any:
    """A spinner on standard error that says what is being measured; silent where that is no terminal."""
    import contextlib
    import sys

    from rich.console import Console

    @contextlib.contextmanager
    def spinner() -> Iterator[Callable[[str], None]]:
        console = Console(stderr=True)
        if not sys.stderr.isatty():
            yield lambda what: None
            return
        with console.status("measuring") as status:
            yield lambda what: status.update(f"measuring {what}")

    return spinner()
