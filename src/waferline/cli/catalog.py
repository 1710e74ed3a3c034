"""`waferline catalog`: what machines, models and number formats are known, and where every figure comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from waferline.cli.options import Json, complete_format, complete_machine, complete_model
from waferline.cli.output import emit

app = typer.Typer(help="Machines, models and number formats, with the source of every figure.", no_args_is_help=True)

_Machine = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A machine or a YAML file.", autocompletion=complete_machine)
]
_Model = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A model, or its file.", autocompletion=complete_model)
]
_Format = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A format.", autocompletion=complete_format)]
_Kind = Annotated[str | None, typer.Option("--kind", help="Only one kind: gpu, cpu, tpu, npu, soc, mcu, wafer, ...")]


@app.command("hardware")
def hardware(name: _Machine = None, kind: _Kind = None, as_json: Json = False) -> None:
    """All machines, or one with every figure and its source."""
    from waferline.errors import InvalidInputError, unknown
    from waferline.machines.hardware import assumed_variant, hardware_names, load_hardware
    from waferline.report import catalog as report

    if name is not None:
        if kind is not None:
            raise InvalidInputError("--kind picks from the list; one machine is named", where="--kind")
        device, assumed = load_hardware(name), name if assumed_variant(name) else None
        data = {**report.machine_data(device), "assumed_from": assumed, "figures": report.machine_figures(device)}
        return emit(as_json, data, lambda: report.machine_page(device, assumed))
    devices = [load_hardware(each) for each in hardware_names()]
    kinds = {d.kind for d in devices}
    if kind is not None and kind not in kinds:
        raise unknown("kind of hardware", kind, kinds)
    devices = [d for d in devices if kind in (None, d.kind)]
    return emit(as_json, map(report.machine_data, devices), lambda: report.machine_list(devices))


@app.command("models")
def models(name: _Model = None, as_json: Json = False) -> None:
    """All models, or one with its structure, parameters and sources."""
    from waferline.report import catalog as report
    from waferline.workloads.load import load_model
    from waferline.workloads.models import model_names

    if name is not None:
        spec = load_model(name)
        data = {**report.model_data(spec), "weights_bytes": report.weights_in(spec)}
        return emit(as_json, data, lambda: report.model_page(spec))
    rows = [report.model_data(load_model(each)) for each in model_names()]
    return emit(as_json, rows, lambda: report.model_list(rows))


@app.command("formats")
def formats(name: _Format = None, as_json: Json = False) -> None:
    """All number formats, or one with its definition and source."""
    from waferline.formats import format_names, get_format
    from waferline.report import catalog as report

    if name is not None:
        data = report.format_data(get_format(name))
        fields = {key: value for key, value in data.items() if key != "source"}
        return emit(as_json, data, lambda: report.item_page(data["name"], fields, [{"url": data["source"]}]))
    rows = [report.format_data(get_format(each)) for each in format_names()]
    return emit(as_json, rows, lambda: report.format_list(rows))
