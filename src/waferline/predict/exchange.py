"""Gradients that replicas exchange after a training step, and how much of that the step's passes do not hide."""

from __future__ import annotations

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import anywhere, maximum
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.predict.roofline import machine_for, time_operator
from waferline.workloads.build import Builder


def collective_s(
    name: str, device: Device, engine: Engine, precision: Precision, payload: Floats, ranks: Floats
) -> Floats:
    """Seconds of a collective (`all_reduce`, `all_gather`) of `payload` bytes over so many ranks; 0 for one."""
    op = Builder(precision).collective(name, "gradients", payload, ranks)
    if not anywhere(op.shape["ranks"] > 1.0):
        return 0.0
    return time_operator(op, machine_for(device, engine.kernels)).expected_s


def exposed_s(exchange_s: Floats, passes_s: Floats, what: str = "gradients") -> Floats:
    """What is left of an exchange beside passes that hide a share of themselves of it (`catalog/training.yaml`, overlap)."""
    return maximum(exchange_s - read_packaged("training.yaml")["overlap"][what] * passes_s, 0.0)
