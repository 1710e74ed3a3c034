"""The other way round: what runs well on a machine. Every model of the catalogue in the formats that its engine reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from waferline.errors import WaferlineError
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.memory_size import with_memory
from waferline.predict.scenario import Scenario, run
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.models import model_names
from waferline.workloads.spec import Transformer

LEAST = 10.0  # tokens a second that a reader does not wait for
PROMPT, OUTPUT = 2048, 256
_CONTEXTS = 2 ** np.arange(9, 21)
# Formats by kind of machine, widest first.
_SERVER = ("bf16", "fp8", "int4")
_DESKTOP = ("fp16", "q8_0", "q4_k_m")


@dataclass(frozen=True, slots=True)
class Run:
    """A model that runs: bytes on the device, time to first token, tokens a second of one user, longest context that fits."""

    model: str
    precision: str
    params: float
    memory_bytes: float
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
    prompt: int = PROMPT

    def to_json(self) -> dict[str, Any]:
        return {"how": "predicted", "machine": self.machine, "runs": [asdict(r) for r in self.rows]}


def what_runs(machine: Any, *, memory: str | None = None, least: float = LEAST) -> Runs:
    """Every model of the catalogue that fits one `machine` and gives a user `least` tokens a second, largest first.

    Raises: UnknownNameError, FileFormatError, InvalidInputError for a size of memory that it is not sold with.
    """
    device = with_memory(load_hardware(machine), memory)[0]
    found = []
    for name in model_names():
        spec = load_model(name)
        if not isinstance(spec, Transformer) or not spec.has_head:
            continue
        row = _widest(spec, device, least)
        found += [] if row is None else [row]
    return Runs(device.name, sorted(found, key=lambda r: (-r.params, r.model)), least)


def _widest(spec: Transformer, device: Device, least: float) -> Run | None:
    """The model in its widest format that fits and is fast enough."""
    server = device.kind == "gpu" and device.link("scale-up") is not None
    for precision in _SERVER if server else _DESKTOP:
        asked = Scenario(
            model=spec, machine=device, precision=precision, prompt=PROMPT, output=OUTPUT, batch=1,
            intervals=False, engine=None if server else "llama.cpp",
        )  # fmt: skip
        try:
            r = run(asked).result
            if not bool(r["feasible"]) or float(r["user_tokens_per_s"]) < least:
                continue
        except WaferlineError:
            continue
        tokens = float(r["kv_capacity_tokens"])
        longest = _CONTEXTS[min(tokens, spec.max_positions or np.inf) >= _CONTEXTS]
        return Run(
            spec.name, precision, float(parameter_count(spec).total), float(r["device_memory_bytes"]), float(r["ttft_s"]),
            float(r["user_tokens_per_s"]), int(longest[-1]) if longest.size else PROMPT, str(r["decode_tier"]),
        )  # fmt: skip
    return None
