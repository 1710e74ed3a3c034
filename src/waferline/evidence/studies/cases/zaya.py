"""ZAYA1 on MI300X and Pollara: collectives that carry over between machines, and what the model must weigh.

Collectives whose library picks the fastest of several protocols, each a latency and a bandwidth.

    t(S) = min over protocols of [ latency + 2 (n - 1) / n · S / bandwidth ]

Bandwidth carries over between machines with the same links; latency does not, so a transfer answers only where bandwidth
decides. Source of the form: Hockney 1994, and the protocol choice of NCCL and RCCL (LL, LL128, Simple).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.evidence.studies.facts import Facts, fact_rows
from waferline.evidence.studies.study import Check, identity
from waferline.evidence.studies.tolerance import printed, relative
from waferline.formats import resolve
from waferline.machines.hardware import load_hardware
from waferline.predict.roofline import Machine, time_operator
from waferline.workloads.build import Builder


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol of an all-reduce over `ranks` devices, fitted to messages of at least `least_bytes`."""

    latency_s: float
    bytes_per_s: float
    ranks: int
    least_bytes: float

    def time_s(self, message_bytes: npt.ArrayLike) -> FloatArray:
        """Seconds. Raises: UnsupportedError for messages below what the protocol was fitted to."""
        sizes = np.asarray(message_bytes, dtype=np.float64)
        if np.any(sizes < self.least_bytes):
            raise UnsupportedError(
                f"messages of {sizes.min():.0f} bytes are below the {self.least_bytes:.0f} that were fitted",
                hint="latency does not carry over from one machine to another",
            )
        return np.asarray(self.latency_s + wire_bytes(sizes, self.ranks) / self.bytes_per_s)


def wire_bytes(message_bytes: npt.ArrayLike, ranks: int) -> FloatArray:
    """Bytes that cross each device's links in an all-reduce."""
    return np.asarray(2.0 * (ranks - 1) / ranks * np.asarray(message_bytes, dtype=np.float64))


def fit(message_bytes: FloatArray, times_s: FloatArray, ranks: int) -> Protocol:
    """Latency and bandwidth with the least squared relative error."""
    design = np.column_stack([np.ones(len(times_s)), wire_bytes(message_bytes, ranks)]) / times_s[:, None]
    latency, inverse = np.linalg.lstsq(design, np.ones(len(times_s)), rcond=None)[0]
    return Protocol(float(latency), float(1.0 / inverse), ranks, float(np.min(message_bytes)))


_RANKS = 8
_FITTED_FROM_BYTES = 32 << 20
_TRANSFER, _CAP, _GEMM = 0.05, 0.01, 0.20
_GIGA, _TERA, _MICRO = 1e9, 1e12, 1e-6


def compute(d: Facts) -> Iterator[Check]:
    yield from _collectives()
    yield from _bandwidth(d)
    yield from _parameters(d["model"])
    yield from _gemms(d["gemm"])
    why = "no step time, batch or memory figure of the run was readable"
    yield Check("training step and memory budget", "s", None, None, why=why)


def _collectives() -> Iterator[Check]:
    rows = fact_rows("zaya-allreduce")
    rocm = np.array([(float(r["bytes"]), float(r["microseconds"])) for r in rows if r["source"] == "rocm"])
    large = rocm[rocm[:, 0] >= _FITTED_FROM_BYTES]
    protocol = fit(large[:, 0], large[:, 1] * _MICRO, _RANKS)
    for row in rows:
        size = float(row["bytes"])
        if row["source"] != "azure" or size < 1 << 20:
            continue
        published = float(row["bus_gb_per_s"])
        label = f"all-reduce of {size / 2**20:.0f} MiB on the other machine"
        try:
            rate = float(wire_bytes(size, _RANKS) / protocol.time_s(size)) / _GIGA
        except UnsupportedError as error:
            yield Check(label, "GB/s", published, None, why=f"declined: {error}")
            continue
        yield Check(label, "GB/s", published, rate, relative(_TRANSFER))


def _bandwidth(d: Facts) -> Iterator[Check]:
    links, largest, nic = d["links"], d["largest"], d["pollara"]
    cap = links["links"] * links["slowest_gb_per_s"]
    yield identity("egress of a GPU, slowest link times seven", "GB/s", links["actual"], cap, relative(_CAP))
    yield identity("all-reduce of 16 GiB, the same cap", "GB/s", largest["bus_gb_per_s"], cap, relative(_CAP))
    rate = nic["measured_gb_per_s"] * _GIGA / 8 / nic["message_bytes"] / 1e6
    mpps = nic["printed_mpps"]
    yield identity("Pollara, messages of 1 MiB", "M/s", float(mpps), rate, printed(mpps))


def _parameters(m: Facts) -> Iterator[Check]:
    """Experts and plain grouped-query attention; embeddings are not in the printed count."""
    expert = 3 * m["hidden"] * m["width"]
    attention = m["hidden"] * m["head"] * (2 * m["heads"] + 2 * m["kv_heads"])
    total = m["layers"] * (m["experts"] * expert + attention) / _GIGA
    active = m["layers"] * (expert + attention) / _GIGA
    yield identity("parameters without embeddings", "B", float(m["total"]), total, printed(m["total"]))
    why = "its compressed attention has projections and convolutions that summaries do not list"
    yield identity("active parameters", "B", float(m["active"]), active, printed(m["active"]), why=why)


def _gemms(rows: list[Facts]) -> Iterator[Check]:
    """Our efficiency curve, fitted to other machines, on fp8 products of this one."""

    device = load_hardware("mi300x")
    build, machine = Builder(resolve("fp8", device.arithmetic)), Machine(device)
    why = "the curve is carried over from other vendors' machines; this library reaches 44 % of the fp8 peak at best"
    for row in rows:
        operator = build.gemm("gemm", row["m"], row["n"], row["k"])
        rate = float(operator.flops / time_operator(operator, machine).expected_s) / _TERA
        label = f"fp8 GEMM {row['m']}×{row['n']}×{row['k']}"
        yield Check(label, "TFLOP/s", row["tflops"], rate, relative(_GEMM), why=why)
