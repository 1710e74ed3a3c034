"""What callers may pass for a model or a machine: a record, a catalogue name, or a file. One door each, that of the loaders."""

from waferline.machines.hardware import load_hardware as as_device
from waferline.workloads.load import load_model as as_model

__all__ = ["as_device", "as_model"]
