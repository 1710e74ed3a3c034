"""A user's calibration of an engine on a machine: constants that override the catalogue's, saved as one readable file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from waferline.errors import FileFormatError, InvalidInputError
from waferline.machines.device import Device
from waferline.predict.engine import Engine

KIND = "waferline engine profile"
CONSTANTS = (
    "step_s",
    "kernel_s",
    "layer_s",
    "expert_layer_s",
    "sequence_s",
    "decode_excess",
    "decode_scale",
    "prefill_scale",
    "collective_scale",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """Constants of `engine` on `hardware`, with the residuals and the card (rows, errors, date) of their fit."""

    engine: str
    hardware: str
    constants: Mapping[str, float]
    residual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def over(self, engine: Engine, device: Device) -> Engine:
        """`engine` with the constants of this profile.

        Raises: InvalidInputError when the profile was fitted for another engine or machine.
        """
        for asked, own in ((engine.name, self.engine), (device.name, self.hardware)):
            if asked != own:
                raise InvalidInputError(f"the profile was fitted for {self.engine} on {self.hardware}, not {asked}")
        own_residual = {**engine.residual, **self.residual}
        changes: dict[str, Any] = dict(self.constants)
        return replace(engine.running_on(device), vendors={}, residual=own_residual, **changes)

    def save(self, path: Path) -> None:
        """Write the profile as YAML."""
        fields = {"kind": KIND, "engine": self.engine, "hardware": self.hardware, "constants": dict(self.constants)}
        fields |= {"residual": {k: list(v) for k, v in self.residual.items()}, "card": dict(self.card)}
        path.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")


def load_profile(path: str | Path) -> Profile:
    """The profile in a file written by `waferline calibrate`.

    Raises: FileFormatError when the file is not there or is no such profile.
    """
    try:
        fields = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError(f"cannot read the profile: {error.strerror}", where=str(path)) from None
    except yaml.YAMLError:
        raise FileFormatError("not YAML", where=str(path)) from None
    if not isinstance(fields, dict) or fields.get("kind") != KIND:
        raise FileFormatError(f"not a profile: it does not say 'kind: {KIND}'", where=str(path))
    constants = fields.get("constants", {})
    for name, value in constants.items():
        if name not in CONSTANTS or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise FileFormatError(
                f"constant '{name}' is {value!r}: expected a finite number of {', '.join(CONSTANTS)}", where=str(path)
            )
    residual = {k: tuple(map(float, v)) for k, v in fields.get("residual", {}).items()}
    return Profile(str(fields.get("engine")), str(fields.get("hardware")), constants, residual, fields.get("card", {}))
