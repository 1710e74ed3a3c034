"""A machine's roofs without any work under them: what each memory level and each arithmetic format allows."""

from __future__ import annotations

from waferline.machines.device import Device
from waferline.report.charts.chart import Axis, Chart, Panel, Series
from waferline.text import metric


def roofs(device: Device) -> Chart:
    """FLOP/s over FLOP/byte: a slope a memory level, up to the highest peak, and a level line a format."""
    peaks = sorted(device.peak_flops.items(), key=lambda item: item[1])
    ridges = [peaks[-1][1] / level.bandwidth_bytes_per_s for level in device.memory]
    low, high = peaks[0][1] / max(v.bandwidth_bytes_per_s for v in device.memory) / 30, max(ridges) * 4
    slopes = [
        Series(name=f"{level.name} {metric(level.bandwidth_bytes_per_s, 'B/s')}", kind="line", colour=n,
               x=(low, ridge), y=(low * level.bandwidth_bytes_per_s, peaks[-1][1]))
        for n, (level, ridge) in enumerate(zip(device.memory, ridges, strict=True))
    ]  # fmt: skip
    flat = [Series(name="", kind="line", colour="ink", dashed=True, x=(low, high), y=(peak, peak)) for _, peak in peaks]
    labels = tuple((high, peak, f"{fmt} {metric(peak, 'FLOP/s')}") for fmt, peak in peaks)
    across = Axis(title="arithmetic intensity, FLOP/byte", log=True, low=low, high=high)
    lowest, highest = low * device.memory[-1].bandwidth_bytes_per_s, peaks[-1][1] * 3
    up = Axis(title="rate", unit="FLOP/s", log=True, low=lowest, high=highest)
    panel = Panel(series=(*slopes, *flat), labels=labels, x=across, y=up)
    return Chart(title=f"Roofs: {device.title}", panels=(panel,), height=460)
