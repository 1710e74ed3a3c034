"""PerfCastDB: Sapphire Rapids memory benchmarks against a roofline, and a learned predictor tested by machine.

What memory-bound benchmarks of a CPU should reach: peak bandwidth, the share streaming keeps, FLOPs a byte of HPCG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.evidence.studies.cases.cpu_predictor import Scores, error_by_machine, error_by_row
from waferline.evidence.studies.facts import Facts, fact_rows
from waferline.evidence.studies.study import Check
from waferline.evidence.studies.tolerance import AIM, at_least, at_most, relative
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.roofline import Machine, time_operator
from waferline.workloads.operator import Operator

_ELEMENTS = 1e9  # large enough that start-up does not count
_BYTES = 8.0


def streaming_share(device: Device) -> float:
    """Share of the peak bandwidth that the roofline expects a long fp64 stream to reach on `device`."""
    nothing = np.zeros(())
    stream = Operator(
        name="stream",
        kind="elementwise",
        count=np.ones(()),
        flops=np.asarray(_ELEMENTS),
        weight_bytes=nothing,
        activation_bytes=np.asarray(2 * _BYTES * _ELEMENTS),
        kv_bytes=nothing,
        weights="fp64",
        activations="fp64",
        kv="fp64",
        shape={"elements": np.asarray(_ELEMENTS)},
    )
    seconds = float(time_operator(stream, Machine(device)).expected_s)
    return 2 * _BYTES * _ELEMENTS / seconds / device.bandwidth_bytes_per_s


@dataclass(frozen=True, slots=True)
class Hpcg:
    """Traffic and arithmetic of one CG iteration a row of the finest grid; see the specification for the counts."""

    nonzeros: int
    value_bytes: int
    index_bytes: int
    vector_bytes: int
    fine_passes: int
    coarse_passes: Sequence[int]
    vector_flops: int
    update_bytes: int

    @classmethod
    def from_facts(cls, facts: Facts) -> Hpcg:
        return cls(**facts)

    @property
    def passes(self) -> float:
        """Passes over the matrix, coarse grids weighted by their rows (an eighth a level)."""
        return self.fine_passes + sum(p / 8 ** (i + 1) for i, p in enumerate(self.coarse_passes))

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity: a multiply-add a nonzero and pass, and the vector operations."""
        bytes_per_pass = self.nonzeros * (self.value_bytes + self.index_bytes) + self.vector_bytes
        flops = 2 * self.nonzeros * self.passes + self.vector_flops
        return flops / (bytes_per_pass * self.passes + self.update_bytes)


_ROOFLINE = 0.15
_MEGA, _GIGA = 1e6, 1e9
_SUITES = ("stream", "mlc-bandwidth", "hpcg")
_WHYS = {
    "sse": "16 GB modules, most likely of one rank with few banks to hide turnarounds behind, and SSE stores: neither is seen",
    "100W": "writes alone turn the bus round for every line they first read; the roofline charges all bytes alike",
    "hbm": "the cores draw 747 GB/s of reads at most (MLC), a quarter of the HBM peak: this roofline has no limit a core",
    "ddr": "HBM serves part of the traffic: a model that ignores it must fail here",
}
_WHY_PAPER = "the public sample has one machine a suite and split, so the paper's accuracies cannot be reproduced"


def compute(data: Facts) -> Iterator[Check]:
    rows = fact_rows("perfcast")
    share = streaming_share(load_hardware(data["stand_in"]))
    predicted = [(row, _predicted(row, data, share)) for row in rows]
    for row, value in predicted:
        if value is not None:
            yield _roofline_check(row, value)
    yield from _hbm(data, rows)
    yield from _hpcg_from_reads(data, rows)
    yield from _against_means(predicted)
    yield from _learned(rows)
    yield Check("the paper's accuracy by suite", "share", None, None, None, why=_WHY_PAPER)


def _peak(row: Mapping[str, str], data: Facts) -> float:
    """DDR bytes/s of both sockets, or HBM's in HBM-only mode."""
    if row["pod"] == data["hbm"]["only"]:
        return float(data["hbm"]["stacks"] * data["hbm"]["stack_bytes"] * float(row["mt_per_s"]) * _MEGA)
    channels = data["sockets"] * data["channels_per_socket"]
    return float(channels * data["channel_bytes"] * float(row["mt_per_s"]) * _MEGA)


def _predicted(row: Mapping[str, str], data: Facts, share: float) -> float | None:
    """What the roofline expects, in the row's unit; None where it has nothing to say."""

    bandwidth = _peak(row, data) * share
    if row["suite"] == "stream":
        return bandwidth / _MEGA
    if row["suite"] == "hpcg":
        return bandwidth * Hpcg.from_facts(data["hpcg"]).flops_per_byte / _GIGA
    if row["suite"] == "mlc-bandwidth" and row["metric"] in data["mlc"]:
        return bandwidth * float(data["mlc"][row["metric"]]) / _MEGA
    return None


def _roofline_check(row: Mapping[str, str], value: float) -> Check:
    mean = float(row["mean"])
    machine = row["hardware"].removeprefix("intel-xeon-")
    name = f"{machine} {row['suite']}: {row['metric']} {_noise(row)}"
    unit = "GFLOP/s" if row["suite"] == "hpcg" else "MB/s"
    key = "sse" if "sse" in row["build"] else "100W" if "100W" in row["metric"] else ""
    if "max" in machine:
        key = "hbm" if row["suite"] == "hpcg" else "ddr"
    return Check(name, unit, mean, value, relative(_ROOFLINE), why=_WHYS.get(key, ""))


def _noise(row: Mapping[str, str]) -> str:
    spread = (float(row["largest"]) - float(row["least"])) / (2 * float(row["mean"]))
    return f"(noise ±{spread:.2%})"


def _hbm(data: Facts, rows: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    for row in rows:
        if row["hardware"] in data["hbm"]["machines"] and row["metric"].endswith("All Sockets 100R"):
            over = float(row["mean"]) * _MEGA / _peak(row, data)
            name = "max-9460 with DDR and HBM: measured over the DDR peak, so HBM must count"
            yield Check(name, "×", None, over, at_least(1.0, "the DDR peak"))


def _hpcg_from_reads(data: Facts, rows: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    """HPCG, nine tenths of it reads, from a read bandwidth that another run measured, times its intensity."""

    intensity = Hpcg.from_facts(data["hpcg"]).flops_per_byte
    reads = {r["hardware"]: float(r["mean"]) for r in rows if r["metric"] == "Peak Bandwidth All Sockets 100R"}
    for row in rows:
        if row["suite"] != "hpcg":
            continue
        other = data["reads_of"][row["hardware"]]
        name = f"{row['hardware'].removeprefix('intel-xeon-')} hpcg: from MLC's reads on {other} {_noise(row)}"
        value = reads[other] * _MEGA * intensity / _GIGA
        yield Check(name, "GFLOP/s", float(row["mean"]), value, relative(_ROOFLINE))


def _against_means(predicted: Sequence[tuple[Mapping[str, str], float | None]]) -> Iterator[Check]:
    """Held-out machines (the sample's test file): roofline error over that of the training machines' mean."""

    for suite in _SUITES:
        train = {r["metric"]: float(r["mean"]) for r, _ in predicted if r["suite"] == suite and r["split"] == "train"}
        errors = [
            (abs(value / float(r["mean"]) - 1), abs(train[r["metric"]] / float(r["mean"]) - 1))
            for r, value in predicted
            if value is not None and r["suite"] == suite and r["split"] == "test" and r["metric"] in train
        ]
        ours, theirs = np.mean(errors, axis=0)
        name = f"{suite}, held-out machine: roofline error over that of the mean ({theirs:.0%})"
        yield Check(name, "×", None, float(ours / theirs), at_most(1.0), why=_WHYS["hbm"])


def _learned(rows: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    table = Scores.of_iterations(rows)
    machine, row = error_by_machine(table), error_by_row(table)
    yield Check("learned predictor, error by machine", "share", None, machine, None, why=_WHY_PAPER)
    yield Check("learned predictor, error by row (leaks)", "share", None, row, None, why="not a test of anything")
    name = "learned predictor, error by machine over error by row"
    yield Check(name, "×", None, machine / row, at_least(1.0, AIM))
