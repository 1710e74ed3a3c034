"""Published rates of attention kernels alone, in quantised formats: the two products and the exponentials between them, in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waferline.evidence.names import hardware_name
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import get_engine

NAMED = "attention-kernel"  # how such rows call their model
_TERA = 1e12
_EXPONENTIALS = 16.0  # of a unit in a clock: FlashAttention-3, arXiv:2407.08608, section 1 (3.9 TFLOP/s on an H100)
_GPU = "nvidia gpu"
_PRODUCTS = ("qk", "pv")
_NARROWER = {"fp16": 1.0, "int8": 2.0, "fp8": 2.0}  # times as many operations of an instruction


def kernel_rate(
    row: Row, settings: Mapping[str, str], baseline: float | None, kernels: Mapping[str, Mapping[str, Any]]
) -> tuple[float, tuple[str, ...]] | Refusal:
    """(FLOP/s in units of 1e12, what was assumed) of the kernel that a row names: as many times the rate of the one that it is
    compared with as both have by their products' formats."""
    named = hardware_name(row.hardware)
    if isinstance(named, Refusal):
        return named
    device = load_hardware(named[0])
    asked, against = (settings.get(key, "") for key in ("kernel", "baseline"))
    unknown = [name for name in (asked, against) if name not in kernels]
    if unknown:
        return Refusal("technique", f"the formats of the attention kernel '{unknown[0]}' are not known")
    if f"{device.vendor} {device.kind}".lower() != _GPU:
        return Refusal("hardware", f"instructions for attention on {device.name} are not known")
    width = float(settings.get("head_dim", 128))
    kernel, other = (_pairs_per_s(device, kernels[name], width) for name in (asked, against))
    told = tuple(text for text in (named[1],) if text)
    if baseline is None:
        return 4.0 * width * kernel / _TERA, told
    return baseline * kernel / other, (*told, "times the published figure without it")


def _pairs_per_s(device: Device, kernel: Mapping[str, Any], width: float) -> float:
    """Pairs of a query and a key of one head: each takes 2 x width FLOPs of either product, and one exponential."""
    clocks = device.units * device.clock_hz
    seconds = sum(2.0 * width / _rate(device, kernel, part) for part in _PRODUCTS) + 1.0 / (_EXPONENTIALS * clocks)
    if kernel.get("ampere"):  # at most what whole kernels reach with its instructions, their exponentials with them
        reached = get_engine("pytorch-network").attention[_GPU] * clocks
        seconds = max(seconds, sum(2.0 * width / (reached * _NARROWER[kernel[part]]) for part in _PRODUCTS))
    return 1.0 / seconds


def _rate(device: Device, kernel: Mapping[str, Any], part: str) -> float:
    """FLOP/s of a product: the sheet's, or half of int8's where sums are of 16 bits."""
    short = kernel[part] == "fp16" and kernel.get("short_sums")
    return device.peak("int8") / 2.0 if short else device.peak(kernel[part])
