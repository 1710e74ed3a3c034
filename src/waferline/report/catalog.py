"""The catalogue: a list of items, or one item with the source of every figure, as blocks and as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from waferline.encode import encode
from waferline.formats import resolve
from waferline.formats.format import Format
from waferline.machines.device import Device
from waferline.machines.figures import Figure, figures
from waferline.predict.memory import kv_elements_per_token, model_weight_bytes
from waferline.report.table import Block, Column, Table
from waferline.text import dollars, metric
from waferline.workloads.counts import parameter_count
from waferline.workloads.spec import Attention, CompressedAttention, LatentAttention, ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_KV_BYTES = 2  # of an element, unless an engine is told otherwise
_ASKED_FOR = ("bf16", "fp8", "q8_0", "q6_k", "q4_k_m", "int4")
_BEST = ("bf16", "fp16", "fp32")  # the peak that a list shows: 16 bit, or what there is
_MACHINES = (
    "name",
    "kind",
    Column("peak", left=False),
    Column("memory", unit="B"),
    Column("bandwidth", unit="B/s"),
    Column("power", unit="W"),
    Column("price", dollars),
    Column("per hour", dollars),
)
_MODELS = ("name", "title", Column("parameters", metric), Column("active per token", metric))
_FORMATS = ("name", Column("bits per weight", "g"), Column("block", "d"), "arithmetic", "activations", "also")


def machine_data(device: Device) -> dict[str, Any]:
    """A machine as data, in SI units, without its citations."""
    return {key: value for key, value in encode(device).items() if key != "citations"}


def machine_figures(device: Device) -> list[dict[str, Any]]:
    """Every figure of a machine with its sources."""
    return [
        {"figure": f.name, "value": f.value, "unit": f.unit, "sources": [_cited(c) for c in f.citations]}
        for f in figures(device)
    ]


def _cited(citation: Any) -> dict[str, str]:
    return {"title": citation.title, "url": citation.url, "date": citation.date}


def machine_list(devices: Sequence[Device]) -> Iterator[Block]:
    """All machines, one table a group."""
    for group in dict.fromkeys(d.group for d in devices):
        rows = [_machine_row(d) for d in devices if d.group == group]
        yield Table(f"{group} ({len(rows)})", _MACHINES, rows)


def _machine_row(device: Device) -> tuple[Any, ...]:
    fmt = next(f for f in (*_BEST, *device.peak_flops) if f in device.peak_flops)
    peak = f"{metric(device.peak_flops[fmt], 'op/s' if fmt.startswith('int') else 'FLOP/s')} {fmt}"
    power, price, hourly = (value or None for value in (device.tdp_w, device.price_usd, device.hourly_usd))
    memory = device.capacity_bytes, device.bandwidth_bytes_per_s
    return (device.name, device.kind, peak, *memory, power, price, hourly)


def machine_page(device: Device, assumed_from: str | None) -> Iterator[Block]:
    """One machine in full; the number beside a figure is that of its source below."""
    numbers = {citation: i for i, citation in enumerate(device.citations, start=1)}
    yield device.title, "title"
    yield f"{device.name}, {device.kind}, {device.architecture}, {device.year}"
    if assumed_from:
        yield f"'{assumed_from}' does not say which variant; this one is taken"
    rows = [(f.name, _value(f), ", ".join(str(numbers[c]) for c in f.citations)) for f in figures(device)]
    yield Table("", ("figure", "value", "source"), rows)
    if device.aliases:
        yield f"also: {', '.join(device.aliases)}", "note"
    if device.notes:
        yield device.notes.strip()
    yield "Sources", "title"
    for citation, number in numbers.items():
        yield f"{number:3d}  {citation.title} ({citation.date}{'' if citation.checked else ', not checked'})"
        yield f"     {citation.url}", "note"


def _value(figure: Figure) -> str:
    if figure.unit.startswith("USD"):
        return dollars(figure.value) + figure.unit.removeprefix("USD")
    if figure.unit:
        return metric(figure.value, figure.unit)
    return _text(figure.value)


def model_data(spec: ModelSpec) -> dict[str, Any]:
    """A model as data: what it is, what was counted, what was published."""
    counted = parameter_count(spec)
    data: dict[str, Any] = {key: getattr(spec, key) for key in ("name", "title", "family", "aliases")}
    if isinstance(spec, Transformer):
        data |= {"kind": spec.kind, "hidden_size": spec.hidden_size, "vocab_size": spec.vocab_size}
        data |= {"layers": sum(b.count for b in spec.blocks), "encoder_layers": sum(b.count for b in spec.encoder)}
        data |= {"max_positions": spec.max_positions, "tied_embeddings": spec.tied_embeddings}
        data |= {"weight_format": spec.weight_format, "published_active_params": spec.published_active_params}
        data |= {"tower_params": counted.tower or None}
        data |= {"attention": _attention(spec), "kv_bytes_per_token": kv_elements_per_token(spec) * _KV_BYTES}
    elif isinstance(spec, StreamNet):
        data |= {"kind": "diffusion" if spec.steps else "image encoder", "layers": spec.layers}
    else:
        data |= {"kind": "convolutional", "input_shape": spec.input_shape, "classes": spec.classes}
        data |= {"layers": len(spec.layers), "published_macs": spec.published_macs}
    active = counted.active_per_token if counted.experts else None
    data |= {"params": counted.total, "published_params": spec.published_params, "active_params": active}
    return data | {"macs": counted.macs or None, "sources": [asdict(s) for s in spec.sources]}


def _attention(spec: Transformer) -> list[str]:
    """The kinds of attention in a stack, in words: layers, heads and what they see."""
    said = []
    for block in (*spec.encoder, *spec.blocks):
        mixer = block.mixer
        if isinstance(mixer, Attention):
            seen = "" if mixer.window is None else f", window {mixer.window:,}"
            said.append(f"{block.count} x {mixer.heads} heads, {mixer.kv_heads} KV, {mixer.head_dim} wide{seen}")
        elif isinstance(mixer, LatentAttention):
            said.append(f"{block.count} x {mixer.heads} heads, latent of {mixer.kv_lora_rank}+{mixer.qk_rope_head_dim}")
        elif isinstance(mixer, CompressedAttention):
            far = f", 1 entry for {mixer.ratio} tokens before" if mixer.ratio else ""
            said.append(
                f"{block.count} x {mixer.heads} heads, one key {mixer.head_dim} wide, window {mixer.window}{far}"
            )
        elif mixer is not None:
            said.append(f"{block.count} x {_WORDS.get(type(mixer).__name__, type(mixer).__name__)}")
    return said


_WORDS = {"StateSpace": "state space", "LinearAttention": "linear attention"}


def weights_in(spec: ModelSpec) -> dict[str, float]:
    """Bytes of all weights: as the checkpoint ships, where it is quantised, and in formats that people ask for."""
    if not isinstance(spec, Transformer):
        return {}
    names = ((spec.weight_format,) if spec.weight_format else ()) + _ASKED_FOR
    return {name: model_weight_bytes(spec, resolve(name, lambda fmt: fmt)) for name in names}


def model_page(spec: ModelSpec) -> Iterator[Block]:
    """One model in full: structure, KV cache, weights in several formats, sources."""
    data = model_data(spec)
    cache = data.pop("kv_bytes_per_token", None)
    fields = {key: value for key, value in data.items() if key != "sources"}
    if cache:
        fields["KV a token, 16 bit"] = metric(cache, "B")
    fields["weights"] = [f"{name} {metric(size, 'B')}" for name, size in weights_in(spec).items()]
    yield from item_page(data["title"], fields, data["sources"])


def model_list(models: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    rows = [(m["name"], m["title"], m["params"], m["active_params"]) for m in models]
    yield Table(f"{len(rows)} models", _MODELS, rows)


def format_data(fmt: Format) -> dict[str, Any]:
    return asdict(fmt)


def format_list(formats: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    keys = ("name", "bits", "block", "arithmetic", "activations", "aliases")
    yield Table(f"{len(formats)} number formats", _FORMATS, [[f[k] for k in keys] for f in formats])


def item_page(title: str, fields: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """A model or a format: its fields, then its sources."""
    shown = [(key, _text(value)) for key, value in fields.items() if value not in (None, "", [], ())]
    yield Table(title, ("", Column("", _text, left=True)), shown)
    if sources:
        yield "Sources", "title"
    for source in sources:
        yield "  ".join(str(source[key]) for key in ("title", "date", "url") if source.get(key))


def _text(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return metric(value) if abs(value) >= 1e5 else f"{value:,g}"
    return value
