"""One model on several machines, each in the nearest precision that it computes, and every refusal said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from waferline.errors import InvalidInputError, UnsupportedError, WaferlineError
from waferline.formats import get_format, resolve
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.run import Answer, run
from waferline.predict.scenario import Scenario, reads
from waferline.workloads.load import load_model


@dataclass(frozen=True, slots=True)
class Row:
    """A machine with its answer, or with the reason why there is none."""

    hardware: str
    answer: Answer | None
    refused: WaferlineError | None = None

    def to_json(self) -> dict[str, Any]:
        if self.answer is None:
            assert self.refused is not None
            return {"hardware": self.hardware, "fits": False, "refused": self.refused.to_json()}
        return self.answer.to_json()


def nearest_precision(device: Device, asked: str | None) -> tuple[str | None, str | None]:
    """(`asked` or its weight-only form, why it changed): weights as asked, arithmetic in 16 bits, where units are missing."""
    if asked is None:
        return None, None
    try:
        resolve(asked, device.arithmetic)
    except UnsupportedError:
        weights = resolve(asked, lambda fmt: fmt).weights
        wide = next((f for f in ("bf16", "fp16", "fp32") if f in device.peak_flops), "fp32")
        return (
            f"w={weights},a={wide}",
            f"{device.name} has no {get_format(weights).arithmetic} units: {weights} weights, {wide} arithmetic",
        )
    return asked, None


def compare(scenario: Scenario, machines: Sequence[Any]) -> list[Row]:
    """`scenario` on every machine, on the fewest devices that fit unless it says how many.

    Unknown names raise; what one machine cannot do is a refused row of its own, and what its answer would not read is left
    out there and said. Raises: InvalidInputError for a field that no machine reads.
    """
    model = load_model(scenario.model, input_shape=scenario.input_shape, assume=scenario.assume)
    scenario = replace(scenario, input_shape=None, assume=None)
    rows, read = [], set[str]()
    for device in [load_hardware(machine) for machine in machines]:
        precision, why = nearest_precision(device, scenario.precision)
        asked = replace(scenario, model=model, machine=device, precision=precision)
        unread = sorted(asked.given().keys() - reads(asked))
        read |= reads(asked)
        left_out: dict[str, Any] = dict.fromkeys(unread)
        asked = replace(asked, **left_out)
        if scenario.devices is None and "devices" in reads(asked) and scenario.phase == "serve":
            asked = replace(asked, devices="auto")
        notes = (*((why,) if why else ()), *((f"{', '.join(unread)} not read here",) if unread else ()))
        try:
            found = run(asked)
        except WaferlineError as error:
            rows.append(Row(device.name, None, error))
            continue
        rows.append(Row(device.name, replace(found, notes=(*found.notes, *notes))))
    nowhere = sorted(scenario.given().keys() - read)
    if nowhere:
        raise InvalidInputError(f"{', '.join(nowhere)} would not be read on any of the machines")
    return rows
