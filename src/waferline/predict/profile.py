"""A user's calibration of an engine on a machine: constants that override the catalogue's, saved as one readable file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from waferline.catalog.text_file import parse_yaml, read_text
from waferline.errors import FileFormatError, InvalidInputError, UnknownNameError, unknown
from waferline.files import replacing
from waferline.fit import QUANTILES
from waferline.machines.device import Device
from waferline.predict.engine import PASSES, Engine

KIND = "waferline engine profile"
_LONGEST_S, _LARGEST_SCALE = 100.0, 100.0  # beyond, it is another operator or a typing error, and sums may overflow
# What a profile may set, with the largest value of each.
CONSTANTS: Mapping[str, float] = {
    **dict.fromkeys(
        ("step_s", "kernel_s", "layer_s", "expert_layer_s", "sequence_s", "launch_s", "prompt_layer_s"), _LONGEST_S
    ),
    **dict.fromkeys(
        ("decode_excess", "decode_scale", "prefill_scale", "collective_scale", "conv_scale"), _LARGEST_SCALE
    ),
}
_FURTHEST = 5.0  # of a residual, a log ratio: a factor of 150
_KEYS = ("kind", "engine", "hardware", "constants", "residual", "card")


@dataclass(frozen=True, slots=True)
class Profile:
    """Constants of `engine` on `hardware`, with the residuals and the card (rows, errors, date) of their fit.

    residual: by pass, quantiles (5, 25, 75, 95 %) of log(measured / predicted).
    Raises: InvalidInputError for a constant or pass that is none, or figures that no fit can have.
    """

    engine: str
    hardware: str
    constants: Mapping[str, float]
    residual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name in (("engine", self.engine), ("hardware", self.hardware)):
            if not isinstance(name, str) or not name:
                raise InvalidInputError(f"a profile's {what} is a name, got {shown(name)}")
        for what, table in (("constants", self.constants), ("residual", self.residual), ("card", self.card)):
            if not isinstance(table, Mapping):
                raise InvalidInputError(f"a profile's {what} are a mapping, got {shown(table)}")
        for name, value in self.constants.items():
            if name not in CONSTANTS:
                raise unknown("constant", str(name), CONSTANTS)
            if not _number(value) or not 0 <= value <= CONSTANTS[name]:
                raise InvalidInputError(f"constant {name} is between 0 and {CONSTANTS[name]:g}, got {shown(value)}")
        for name, quantiles in self.residual.items():
            if name not in PASSES:
                raise unknown("residual", str(name), PASSES)
            if not _quantiles(quantiles):
                raise InvalidInputError(
                    f"residual {name} is four log ratios in rising order, none beyond ±{_FURTHEST:g}, got {shown(quantiles)}"
                )

    def over(self, engine: Engine, device: Device) -> Engine:
        """`engine` with the constants of this profile.

        Raises: InvalidInputError when the profile was fitted for another engine or machine.
        """
        for asked, own in ((engine.name, self.engine), (device.name, self.hardware)):
            if asked != own:
                raise InvalidInputError(f"the profile was fitted for {self.engine} on {self.hardware}, not {asked}")
        own_residual = {**engine.residual, **self.residual}
        changes: dict[str, Any] = dict(self.constants)
        return replace(engine.running_on(device), vendors={}, known="", notes=(), residual=own_residual, **changes)

    def save(self, path: Path) -> None:
        """Write the profile as YAML.

        Raises: FileFormatError when it cannot be written.
        """
        import yaml

        fields = {"kind": KIND, "engine": self.engine, "hardware": self.hardware, "constants": dict(self.constants)}
        fields |= {"residual": {k: list(v) for k, v in self.residual.items()}, "card": dict(self.card)}
        with replacing(path) as own:
            own.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")


def load_profile(path: str | Path) -> Profile:
    """The profile in a file written by `waferline calibrate`.

    Raises: FileFormatError when the file is not there or is no such profile.
    """
    where = str(path)
    fields = parse_yaml(read_text(Path(path)), where)
    if not isinstance(fields, dict) or fields.get("kind") != KIND:
        raise FileFormatError(f"not a profile: it does not say 'kind: {KIND}'", where=where)
    try:
        for key in fields:
            if key not in _KEYS:
                raise unknown("key", str(key), _KEYS)
        del fields["kind"]
        return Profile(**{"engine": "", "hardware": "", "constants": {}, **fields})
    except (InvalidInputError, UnknownNameError) as error:
        raise FileFormatError(error.message, where=where, hint=error.hint) from None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _quantiles(values: object) -> bool:
    """Whether these are four numbers that an interval can be made of."""
    if not isinstance(values, list | tuple) or len(values) != len(QUANTILES) or not all(map(_number, values)):
        return False
    return list(values) == sorted(values) and max(map(abs, values)) <= _FURTHEST
