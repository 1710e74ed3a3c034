"""The other way round: what runs well on a machine. Every model of the catalogue in the formats that its engine reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from waferline.errors import WaferlineError
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.memory_size import with_memory
from waferline.predict.run import run
from waferline.predict.scenario import OUTPUT_TOKENS, PROMPT_TOKENS, Scenario
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.models import model_names
from waferline.workloads.spec import Transformer

LEAST = 10.0  # tokens a second that a reader does not wait for
_CONTEXTS = 2 ** np.arange(9, 21)
# What is read of an answer; a wafer's names no memory of a device, and some no time to the first token.
_READ = ("device_memory_bytes", "memory_utilization", "ttft_s", "user_tokens_per_s", "kv_capacity_tokens")
# Formats by kind of machine, widest first.
_SERVER = ("bf16", "fp8", "int4")
_DESKTOP = ("fp16", "q8_0", "q4_k_m")


@dataclass(frozen=True, slots=True)
class Run:
    """A model on a machine: whether it fits, bytes on the device and their share of it, time to first token, tokens a second of one
    user, longest context that fits."""

    model: str
    precision: str
    params: float
    fits: bool
    memory_bytes: float
    memory_share: float
    ttft_s: float
    tokens_per_s: float
    longest: int
    tier: str


@dataclass(frozen=True, slots=True)
class Runs:
    """What runs on a machine, largest models first."""

    machine: str
    rows: Sequence[Run]
    least: float = LEAST
    prompt: int = PROMPT_TOKENS

    def to_json(self) -> dict[str, Any]:
        return {"how": "predicted", "machine": self.machine, "runs": [asdict(r) for r in self.rows]}


def what_runs(
    machine: Any,
    *,
    memory: str | None = None,
    least: float = LEAST,
    formats: Sequence[str] = (),
    context: int = PROMPT_TOKENS,
) -> Runs:
    """Every model of the catalogue that fits one `machine` and gives a user `least` tokens a second, largest first.

    Each in the widest format that does, or in every one of `formats` with a prompt of `context` tokens.

    Raises: UnknownNameError, FileFormatError, InvalidInputError for a size of memory that it is not sold with.
    """
    device = with_memory(load_hardware(machine), memory)[0]
    if formats:
        every = (row for fmt in formats for row in every_run(device, fmt, context))
        rows = [row for row in every if row.fits and row.tokens_per_s >= least]
    else:
        rows = [row for spec in language_models() if (row := _widest(spec, device, least)) is not None]
    return Runs(device.name, sorted(rows, key=lambda r: (-r.params, r.model)), least, context)


def every_run(device: Device, precision: str, context: int) -> Iterator[Run]:
    """Every model that the machine computes in a format and that was made for such contexts, whether it fits or not."""
    for spec in language_models():
        if not spec.max_positions or context <= spec.max_positions:
            row = run_of(spec, device, precision, prompt=context)
            if row is not None:
                yield row


@cache
def language_models() -> tuple[Transformer, ...]:
    """Every model of the catalogue that goes on with a text and that somebody can have."""
    specs = (load_model(name) for name in model_names())
    texts = (spec for spec in specs if isinstance(spec, Transformer) and spec.has_head and not spec.encoder)
    return tuple(spec for spec in texts if "weights" not in spec.metadata)


def _widest(spec: Transformer, device: Device, least: float) -> Run | None:
    """The model in its widest format that fits and is fast enough."""
    desktop = device.kind in ("cpu", "soc") or (device.kind == "gpu" and device.group != "Cloud")
    for precision in _DESKTOP if desktop else _SERVER:
        row = run_of(spec, device, precision, engine="llama.cpp" if desktop else None)
        if row is not None and row.fits and row.tokens_per_s >= least:
            return row
    return None


def run_of(
    spec: Transformer, device: Device, precision: str, *, prompt: int = PROMPT_TOKENS, engine: str | None = None
) -> Run | None:
    """One user of a model in a format; None where the machine cannot compute it."""
    asked = Scenario(
        model=spec, machine=device, precision=precision, prompt=prompt, output=OUTPUT_TOKENS, batch=1, devices=1,
        engine=engine, intervals=False,
    )  # fmt: skip
    try:
        found = run(asked)
    except WaferlineError:
        return None
    r = found.result
    said = {name: float(r[name]) if name in r else float("nan") for name in _READ}
    longest = _CONTEXTS[min(said["kv_capacity_tokens"], spec.max_positions or np.inf) >= _CONTEXTS]
    return Run(
        spec.name, precision, float(parameter_count(spec).total), found.fits and float(r["devices"]) == 1.0,
        said["device_memory_bytes"],
        said["memory_utilization"], said["ttft_s"], said["user_tokens_per_s"],
        int(longest[-1]) if longest.size else prompt, str(r["decode_tier"]) if "decode_tier" in r else "spec only",
    )  # fmt: skip
