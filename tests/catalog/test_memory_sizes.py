"""Memory as it is bought: sizes that a machine is sold with, what each gives, and figures that no datasheet trick enters."""

from __future__ import annotations

import pytest

from waferline.errors import InvalidInputError
from waferline.machines.hardware import hardware_names, load_hardware
from waferline.machines.memory_size import with_memory

GIB = 2.0**30
DEVICES = [load_hardware(name) for name in hardware_names()]

# machine, size asked, GB that logs of Metal, ROCm or the size itself say (Metal: recommendedMaxWorkingSetSize)
GIVEN = [
    ("m4", "16GB", 11.453),
    ("m2", "24 GiB", 17.180),
    ("m1-pro", "32gb", 22.906),
    ("m4-max", "64GB", 55.663),
    ("m4-max", "128GiB", 115.449),
    ("m3-ultra", "0.5TB", 498.216),
    ("strix-halo", "128GB", 103.079),
    ("h100", "80GB", 85.521),
    ("epyc-9654", "1.5TB", 1536 * GIB / 1e9),
]


@pytest.mark.parametrize(("name", "size", "gigabytes"), GIVEN)
def test_a_size_gives_what_the_system_reports(name: str, size: str, gigabytes: float) -> None:
    machine = load_hardware(name)
    bought, _ = with_memory(machine, size)
    assert bought.capacity_bytes / 1e9 == pytest.approx(gigabytes, rel=1e-3)
    assert bought.bandwidth_bytes_per_s == machine.bandwidth_bytes_per_s and bought.name == machine.name


def test_another_size_is_refused_with_those_sold_and_modules_are_said() -> None:
    with pytest.raises(InvalidInputError, match="not sold with 96GB") as refused:
        with_memory(load_hardware("m4-max"), "96GB")
    assert "48GB, 64GB, 128GB" in str(refused.value)
    for nonsense in ("", "lots", "-4GB", "0GB", "64MB", "64 GB 2"):
        with pytest.raises(InvalidInputError, match="memory is a size"):
            with_memory(load_hardware("m4-max"), nonsense)
    assert "as asked" in with_memory(load_hardware("epyc-9654"), "384GB")[1][0]


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_capacity_is_reported_bytes_and_one_of_the_sizes(device) -> None:
    """Macs list their sizes; no size gives more than it has; no card has its name's number in decimal gigabytes."""
    if device.vendor == "Apple" and device.kind == "soc":
        assert device.memory_sizes
    for gib, given in device.memory_sizes.items():
        assert 0.6 * gib * GIB < given <= gib * GIB
    if device.memory_sizes:
        assert device.capacity_bytes == max(device.memory_sizes.values())
    if device.kind in ("gpu", "cpu"):
        assert (device.capacity_bytes / 1e9) % 1.0 or device.capacity_bytes < 1e9


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_no_sparse_rate_enters(device) -> None:
    """A rate with two-to-four sparsity is twice the dense one: no step between formats is more than that of its width.

    Cards of workstations run fp8 at half the rate when they add up in fp32; data-centre Blackwell Ultra has three of fp4 for one.
    """
    peaks, step = device.peak_flops, 3 if device.group == "Cloud" else 4
    for wide, narrow, most in (("bf16", "fp8", 2), ("fp8", "fp4", step), ("int8", "int4", 2), ("fp16", "int8", 4)):
        if wide in peaks and narrow in peaks and device.kind == "gpu":
            assert peaks[narrow] <= most * 1.02 * peaks[wide], (wide, narrow)
