"""The precision of an answer when nobody names one, and what is said of it beside what the checkpoint ships in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waferline.errors import UnsupportedError
from waferline.formats import get_format, labels_of, resolve
from waferline.machines.device import Device
from waferline.workloads.spec import ConvNet, ModelSpec, Transformer
from waferline.workloads.weights import WIDE_BITS, ships

# Formats to try, in order, when the user names none and the checkpoint has none of its own.
_USUAL_PRECISIONS = ("bf16", "fp16", "w8a8", "fp32")


def choose_precision(
    model: ModelSpec, device: Device, asked: Any, kv: str | None = None, *, training: bool = False
) -> tuple[Any, tuple[str, ...]]:
    """The precision to use, and notes that say what it is beside what the checkpoint ships in.

    Without a wish it is what the checkpoint ships in: as it says where the machine computes that, else its weights in 16-bit
    arithmetic, as engines do; nobody trains integers or 4 bits. `kv`: the format of the cache that was asked for, which wins.
    """
    shipped = model.weight_format if isinstance(model, Transformer) else None
    if asked is not None:
        labels = [str(label) for label in labels_of(asked).flat]
        if isinstance(asked, str):
            resolve(asked, device.arithmetic)
        return asked, _beside_shipped(model, labels) if shipped else ()
    if shipped is not None and not (training and get_format(shipped).family != "fp8"):
        assert isinstance(model, Transformer)
        return _shipped_precision(model, device, kv)
    stored = model.precision if isinstance(model, ConvNet) else None
    if stored is not None and _computes(device, stored):
        return stored, (f"precision {stored}: as in the file; --precision changes it",)
    usual = ("fp16", "bf16", "fp32") if training and device.kind == "mcu" else _USUAL_PRECISIONS
    for candidate in (("w8a8",) if device.kind == "mcu" and not training else ()) + usual:
        if _computes(device, candidate):
            return candidate, (f"precision {candidate}: the usual choice here; --precision changes it",)
    raise UnsupportedError(f"{device.name} computes none of the usual formats", hint="name one with --precision")


def _computes(device: Device, precision: str) -> bool:
    try:
        resolve(precision, device.arithmetic)
    except UnsupportedError:
        return False
    return True


def _shipped_precision(model: Transformer, device: Device, kv: str | None) -> tuple[str, tuple[str, ...]]:
    """The formats that the checkpoint says, or its weights alone where the machine lacks the arithmetic."""
    weights, stored = str(model.weight_format), model.stored
    activations = get_format(weights).activations[0] if stored is None else stored.activations_of(weights)
    narrow = activations is not None and get_format(activations).bits < WIDE_BITS
    own = weights if activations in get_format(weights).activations else f"w={weights},a={activations}"
    wide = [f"w={weights},a={fmt}" for fmt in ("bf16", "fp16", "fp32")]
    if activations is None and get_format(get_format(weights).activations[0]).bits >= WIDE_BITS:
        wide = [weights, *wide]
    found = next((c for c in ((own,) if narrow else ()) + tuple(wide) if _computes(device, c)), None)
    if found is None:
        raise UnsupportedError(f"{device.name} computes none of the usual formats", hint="name one with --precision")
    lacks = (
        f", weights alone: no {get_format(str(activations)).arithmetic} units here" if narrow and found != own else ""
    )
    cache = stored.kv if stored is not None and kv is None else None
    notes = [f"precision {found}: as the checkpoint ships{_parts_beside(model)}{lacks}; --precision changes it"]
    if cache is not None:
        notes.append(f"KV cache in {cache}: as the checkpoint ships; --kv changes it")
        found = f"{found},kv={cache}"
    return found, tuple(notes)


def _parts_beside(model: Transformer) -> str:
    """What of the checkpoint is in another format than most of it."""
    if model.stored is None:
        return ""
    other = sorted(
        {fmt for b in model.blocks for name, fmt, _ in b.formats if name != "moe.router"} - {model.weight_format}
    )
    parts = [f"some matrices {fmt}" for fmt in other]
    return f" ({model.stored.method}; head {model.stored.head}{''.join(f', {p}' for p in parts)})"


def _beside_shipped(model: ModelSpec, labels: Sequence[str]) -> tuple[str, ...]:
    assert isinstance(model, Transformer)
    other = [x for x in labels if not ships(model, resolve(x, lambda fmt: fmt))]
    if not other:
        return ()
    return (f"precision {', '.join(dict.fromkeys(other))}: as asked; the checkpoint ships in {model.weight_format}",)
