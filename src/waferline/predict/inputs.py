"""What callers may pass for a model or a machine: a record, a catalogue name, or a file."""

from __future__ import annotations

from typing import Any

from waferline.errors import InvalidInputError
from waferline.machines.device import Device
from waferline.workloads.spec import ConvNet, ModelSpec, Transformer


def as_model(model: Any) -> ModelSpec:
    """A `ModelSpec`, or the one a name or path means.

    Raises: UnknownNameError, FileFormatError, InvalidInputError for any other type.
    """
    if isinstance(model, Transformer | ConvNet):
        return model
    from waferline.workloads.load import load_model

    if isinstance(model, str | dict) or hasattr(model, "__fspath__"):
        return load_model(model)
    raise InvalidInputError(f"a model is a name, a path or a loaded model, not {type(model).__name__}")


def as_device(hardware: Any) -> Device:
    """A `Device`, or the one a name or path means.

    Raises: UnknownNameError, FileFormatError, InvalidInputError for any other type.
    """
    if isinstance(hardware, Device):
        return hardware
    from waferline.machines.hardware import load_hardware

    if isinstance(hardware, str) or hasattr(hardware, "__fspath__"):
        return load_hardware(hardware)
    raise InvalidInputError(f"hardware is a name, a path or a loaded device, not {type(hardware).__name__}")
