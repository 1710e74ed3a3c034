"""The physics gate of a hardware file: figures that no real machine has are refused when the file is loaded.

Each law yields one line that names the figures which break it. The bounds are one to two orders of magnitude beyond the
best machine in the catalogue, so that they catch a slipped unit (1.2 Tb/s entered as 1.2 TB/s a core, GB for bytes)
and never a good machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# A narrower format is never slower than a wider one of its kind: each chain runs from wide to narrow.
CHAINS: tuple[tuple[str, ...], ...] = (
    ("fp64", "fp32", "tf32", "bf16", "fp8", "fp6", "fp4"),
    ("fp64", "fp32", "fp16"),
    ("int8", "int4"),
)
# fp16 is compared with fp8 only where the machine has no bf16: Gaudi 3 runs fp16 slower than either.
CHAIN_WITHOUT_BF16 = ("fp64", "fp32", "fp16", "fp8", "fp4")

MAX_OPS_PER_UNIT_CYCLE = 1e7  # a 256 x 256 matrix unit of a TPU does 2.6e5 in int8
MAX_OPS_PER_JOULE = 2e14  # d-Matrix Corsair in int4: 1.6e13
MAX_OPS_PER_MEMORY_BYTE = 1e5  # Jetson AGX Thor in fp4: 3.8e3
MAX_CLOCK_HZ = 1e10
CLOCK_SLACK = 1.02  # rounding of published figures


def _chain_breaks(peaks: Mapping[str, float], chain: Sequence[str]) -> Iterator[str]:
    have = [f for f in chain if f in peaks]
    for wide, narrow in itertools.pairwise(have):
        if peaks[narrow] * CLOCK_SLACK < peaks[wide]:
            yield f"peak_flops: {narrow} ({peaks[narrow]:.4g}) is below {wide} ({peaks[wide]:.4g})"


def _peak_breaks(record: Mapping[str, Any]) -> Iterator[str]:
    peaks = record["peak_flops"]
    for chain in CHAINS:
        yield from _chain_breaks(peaks, chain)
    if "bf16" not in peaks:
        yield from _chain_breaks(peaks, CHAIN_WITHOUT_BF16)
    top = max(peaks.values())
    per_cycle = top / (record["units"] * record["clock_hz"])
    if per_cycle > MAX_OPS_PER_UNIT_CYCLE:
        yield f"peak_flops: {top:.4g} is {per_cycle:.3g} operations per unit and cycle; check units and clock_hz"
    tdp_w = (record.get("power") or {}).get("tdp_w")
    if tdp_w and top / tdp_w > MAX_OPS_PER_JOULE:
        yield f"power: {top:.4g} operations/s in {tdp_w:.4g} W is {top / tdp_w:.3g} per joule; check the prefix"


def _memory_breaks(record: Mapping[str, Any]) -> Iterator[str]:
    levels = record["memory"]
    for near, far in itertools.pairwise(levels):
        if near["bandwidth_bytes_per_s"] < far["bandwidth_bytes_per_s"]:
            yield f"memory: {near['name']} is nearer than {far['name']} but slower; list the nearest level first"
        if near["capacity_bytes"] > far["capacity_bytes"]:
            yield f"memory: {near['name']} is nearer than {far['name']} but larger; weights live in the last level"
    ratio = max(record["peak_flops"].values()) / levels[-1]["bandwidth_bytes_per_s"]
    if ratio > MAX_OPS_PER_MEMORY_BYTE:
        yield f"memory: {levels[-1]['name']} gives one byte per {ratio:.3g} operations; bandwidths are in bytes/s"


def _link_breaks(record: Mapping[str, Any]) -> Iterator[str]:
    fastest = max(level["bandwidth_bytes_per_s"] for level in record["memory"])
    for link in record["links"]:
        if link["bandwidth_bytes_per_s"] > fastest:
            yield f"links: {link['name']} is faster than every memory level; give bytes/s of one direction"


def breaks(record: Mapping[str, Any]) -> list[str]:
    """Every law that a hardware record (shape of the YAML file) breaks; empty when it is plausible."""
    found = [*_peak_breaks(record), *_memory_breaks(record), *_link_breaks(record)]
    if record["clock_hz"] > MAX_CLOCK_HZ:
        found.append(f"clock_hz: {record['clock_hz']:.4g} Hz is beyond any chip; hertz, not kilohertz")
    power = record.get("power") or {}
    if power.get("idle_w") and power.get("tdp_w") and power["idle_w"] > power["tdp_w"]:
        found.append(f"power: idle_w ({power['idle_w']:.4g}) is above tdp_w ({power['tdp_w']:.4g})")
    return found
