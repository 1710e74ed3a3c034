"""`waferline catalog`: what machines, models and number formats are known, and where every figure comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from waferline.cli.options import complete_format, complete_hardware, complete_model

if TYPE_CHECKING:
    from waferline.formats.format import Format
    from waferline.machines.device import Citation, Device
    from waferline.workloads.spec import ModelSpec

app = typer.Typer(help="Machines, models and number formats, with the source of every figure.", no_args_is_help=True)

_JSON = Annotated[bool, typer.Option("--json", help="Print data instead of tables.")]
_MACHINE = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A machine or a YAML file.", autocompletion=complete_hardware)
]
_MODEL = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A model, or its file.", autocompletion=complete_model)
]
_FORMAT = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A format.", autocompletion=complete_format)]
_KIND = Annotated[str | None, typer.Option("--kind", help="Only one kind: gpu, cpu, tpu, npu, soc, mcu, wafer, ...")]


def _print_json(data: object) -> None:
    import json

    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@app.command("hardware")
def hardware(name: _MACHINE = None, kind: _KIND = None, as_json: _JSON = False) -> None:
    """All machines, or one with every figure and its source."""
    if name is None:
        return _list_hardware(kind, as_json)
    from waferline.machines.hardware import assumed_variant, load_hardware

    device = load_hardware(name)
    assumed_from = name if assumed_variant(name) else None
    if as_json:
        return _print_json({**_hardware_data(device), "assumed_from": assumed_from, "figures": _figures_data(device)})
    from waferline.report.catalog import print_hardware

    return print_hardware(device, assumed_from)


def _list_hardware(kind: str | None, as_json: bool) -> None:
    from waferline.errors import unknown
    from waferline.machines.hardware import hardware_names, load_hardware

    devices = [load_hardware(name) for name in hardware_names()]
    kinds = {d.kind for d in devices}
    if kind is not None and kind not in kinds:
        raise unknown("kind of hardware", kind, kinds)
    devices = [d for d in devices if kind in (None, d.kind)]
    if as_json:
        return _print_json([_hardware_data(d) for d in devices])
    from waferline.report.catalog import print_hardware_list

    return print_hardware_list(devices)


def _hardware_data(device: Device) -> dict[str, Any]:
    """A machine as data, in SI units, without its citations."""
    from dataclasses import asdict

    data = asdict(device)
    del data["citations"]
    return data


def _figures_data(device: Device) -> list[dict[str, Any]]:
    from waferline.machines.figures import figures

    return [
        {"figure": f.name, "value": f.value, "unit": f.unit, "sources": [_citation(c) for c in f.citations]}
        for f in figures(device)
    ]


def _citation(citation: Citation) -> dict[str, str]:
    return {"title": citation.title, "url": citation.url, "date": citation.date}


@app.command("models")
def models(name: _MODEL = None, as_json: _JSON = False) -> None:
    """All models, or one with its structure, parameters and sources."""
    from waferline.report.catalog import print_item
    from waferline.workloads.load import load_model
    from waferline.workloads.models import model_names

    if name is not None:
        data = _model_data(load_model(name))
        sources = data.pop("sources")
        return _print_json({**data, "sources": sources}) if as_json else print_item(data["title"], data, sources)
    rows = [_model_data(load_model(n)) for n in model_names()]
    return _print_json(rows) if as_json else _print_models(rows)


def _print_models(rows: list[dict[str, Any]]) -> None:
    from waferline.report.catalog import console, table
    from waferline.text import metric

    columns = ("name", "title", "parameters", "active per token")
    cells = [
        (
            r["name"],
            r["title"],
            metric(r["params"]),
            metric(r["active_params"]) if r["active_params"] else "–",
        )
        for r in rows
    ]
    console().print(table(f"{len(rows)} models", columns, cells, right=2))


def _model_data(spec: ModelSpec) -> dict[str, Any]:
    """A model as data: what it is, what was counted, what was published."""
    from dataclasses import asdict

    from waferline.workloads.counts import parameter_count
    from waferline.workloads.spec import Transformer

    counted = parameter_count(spec)
    data: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title,
        "family": spec.family,
        "aliases": list(spec.aliases),
    }
    if isinstance(spec, Transformer):
        data |= {"kind": spec.kind, "hidden_size": spec.hidden_size, "vocab_size": spec.vocab_size}
        data |= {"layers": sum(b.count for b in spec.blocks), "encoder_layers": sum(b.count for b in spec.encoder)}
        data |= {"max_positions": spec.max_positions, "tied_embeddings": spec.tied_embeddings}
        data |= {"weight_format": spec.weight_format, "published_active_params": spec.published_active_params}
    else:
        data |= {"kind": "convolutional", "input_shape": list(spec.input_shape), "classes": spec.classes}
        data |= {"layers": len(spec.layers), "published_macs": spec.published_macs}
    active = counted.active_per_token if counted.experts else None
    data |= {"params": counted.total, "published_params": spec.published_params, "active_params": active}
    data |= {"macs": counted.macs or None, "sources": [asdict(s) for s in spec.sources]}
    return data


@app.command("formats")
def formats(name: _FORMAT = None, as_json: _JSON = False) -> None:
    """All number formats, or one with its definition and source."""
    from waferline.formats import format_names, get_format
    from waferline.report.catalog import print_item

    if name is not None:
        data = _format_data(get_format(name))
        return _print_json(data) if as_json else print_item(data["name"], data, [{"url": data["source"]}])
    rows = [_format_data(get_format(n)) for n in format_names()]
    return _print_json(rows) if as_json else _print_formats(rows)


def _print_formats(rows: list[dict[str, Any]]) -> None:
    from waferline.report.catalog import console, table

    columns = ("name", "bits per weight", "block", "arithmetic", "activations", "also")
    cells = [
        (
            r["name"],
            f"{r['bits']:g}",
            str(r["block"]),
            r["arithmetic"],
            ", ".join(r["activations"]),
            ", ".join(r["aliases"]),
        )
        for r in rows
    ]
    console().print(table(f"{len(rows)} number formats", columns, cells))


def _format_data(fmt: Format) -> dict[str, Any]:
    from dataclasses import asdict

    data = asdict(fmt)
    return {**data, "activations": list(fmt.activations), "aliases": list(fmt.aliases)}
