"""PerfCastDB: Sapphire Rapids memory benchmarks against a roofline, and a learned predictor tested by machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import AIM, at_least, at_most, relative

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


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import fact_rows, facts
    from waferline.machines.hardware import load_hardware
    from waferline.techniques.edge.memory_benchmarks import streaming_share

    data, rows = facts("perfcast"), fact_rows("perfcast")
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


def _peak(row: Mapping[str, str], data: Mapping[str, Any]) -> float:
    """DDR bytes/s of both sockets, or HBM's in HBM-only mode."""
    if row["pod"] == data["hbm"]["only"]:
        return float(data["hbm"]["stacks"] * data["hbm"]["stack_bytes"] * float(row["mt_per_s"]) * _MEGA)
    channels = data["sockets"] * data["channels_per_socket"]
    return float(channels * data["channel_bytes"] * float(row["mt_per_s"]) * _MEGA)


def _predicted(row: Mapping[str, str], data: Mapping[str, Any], share: float) -> float | None:
    """What the roofline expects, in the row's unit; None where it has nothing to say."""
    from waferline.techniques.edge.memory_benchmarks import Hpcg

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


def _hbm(data: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    for row in rows:
        if row["hardware"] in data["hbm"]["machines"] and row["metric"].endswith("All Sockets 100R"):
            over = float(row["mean"]) * _MEGA / _peak(row, data)
            name = "max-9460 with DDR and HBM: measured over the DDR peak, so HBM must count"
            yield Check(name, "×", None, over, at_least(1.0, "the DDR peak"))


def _hpcg_from_reads(data: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    """HPCG, nine tenths of it reads, from a read bandwidth that another run measured, times its intensity."""
    from waferline.techniques.edge.memory_benchmarks import Hpcg

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
    import numpy as np

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
    from waferline.techniques.edge.cpu_predictor import Scores, error_by_machine, error_by_row

    table = Scores.of_iterations(rows)
    machine, row = error_by_machine(table), error_by_row(table)
    yield Check("learned predictor, error by machine", "share", None, machine, None, why=_WHY_PAPER)
    yield Check("learned predictor, error by row (leaks)", "share", None, row, None, why="not a test of anything")
    name = "learned predictor, error by machine over error by row"
    yield Check(name, "×", None, machine / row, at_least(1.0, AIM))


STUDY = Study(
    name="perfcast",
    title="PerfCastDB: learned performance prediction of Sapphire Rapids servers",
    source=Source("https://arxiv.org/abs/2407.03385", "2024-07-03"),
    sources=(Source("https://github.com/xiaoman-liu/NCPP", "2024", "public sample"),),
    claim="a network with attention over feature groups predicts CPU benchmarks",
    configuration={"machines": "Xeon 8472C, 8476C, 8487C, Max 9460", "suites": "STREAM, MLC, HPCG"},
    compute=compute,
    note="Noise: half the spread of a row's iterations over their mean.",
)
