"""ZAYA1 on MI300X and Pollara: collectives that carry over between machines, and what the model must weigh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.errors import UnsupportedError
from waferline.evidence.studies.study import Check, Source, Study
from waferline.evidence.studies.tolerance import printed, relative

_RANKS = 8
_FITTED_FROM_BYTES = 32 << 20
_TRANSFER, _CAP, _GEMM = 0.05, 0.01, 0.20
_GIGA, _TERA, _MICRO = 1e9, 1e12, 1e-6


def compute() -> Iterator[Check]:
    from waferline.evidence.studies.facts import facts

    d = facts("zaya")
    yield from _collectives()
    yield from _bandwidth(d)
    yield from _parameters(d["model"])
    yield from _gemms(d["gemm"])
    why = "no step time, batch or memory figure of the run was readable"
    yield Check("training step and memory budget", "s", None, None, why=why)


def _collectives() -> Iterator[Check]:
    import numpy as np

    from waferline.evidence.studies.facts import fact_rows
    from waferline.techniques.protocols import fit, wire_bytes

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


def _bandwidth(d: Mapping[str, Any]) -> Iterator[Check]:
    links, largest, nic = d["links"], d["largest"], d["pollara"]
    cap = links["links"] * links["slowest_gb_per_s"]
    yield Check("egress of a GPU, slowest link times seven", "GB/s", links["actual"], cap, relative(_CAP))
    yield Check("all-reduce of 16 GiB, the same cap", "GB/s", largest["bus_gb_per_s"], cap, relative(_CAP))
    rate = nic["measured_gb_per_s"] * _GIGA / 8 / nic["message_bytes"] / 1e6
    mpps = nic["printed_mpps"]
    yield Check("Pollara, messages of 1 MiB", "M/s", float(mpps), rate, printed(mpps))


def _parameters(m: Mapping[str, Any]) -> Iterator[Check]:
    """Experts and plain grouped-query attention; embeddings are not in the printed count."""
    expert = 3 * m["hidden"] * m["width"]
    attention = m["hidden"] * m["head"] * (2 * m["heads"] + 2 * m["kv_heads"])
    total = m["layers"] * (m["experts"] * expert + attention) / _GIGA
    active = m["layers"] * (expert + attention) / _GIGA
    yield Check("parameters without embeddings", "B", float(m["total"]), total, printed(m["total"]))
    why = "its compressed attention has projections and convolutions that summaries do not list"
    yield Check("active parameters", "B", float(m["active"]), active, printed(m["active"]), why=why)


def _gemms(rows: list[Mapping[str, Any]]) -> Iterator[Check]:
    """Our efficiency curve, fitted to other machines, on fp8 products of this one."""
    from waferline.formats import resolve
    from waferline.machines.hardware import load_hardware
    from waferline.predict.roofline import Machine, time_operator
    from waferline.workloads.build import Builder

    device = load_hardware("mi300x")
    build, machine = Builder(resolve("fp8", device.arithmetic)), Machine(device)
    why = "the curve is carried over from other vendors' machines; this library reaches 44 % of the fp8 peak at best"
    for row in rows:
        operator = build.gemm("gemm", row["m"], row["n"], row["k"])
        rate = float(operator.flops / time_operator(operator, machine).expected_s) / _TERA
        label = f"fp8 GEMM {row['m']}×{row['n']}×{row['k']}"
        yield Check(label, "TFLOP/s", row["tflops"], rate, relative(_GEMM), why=why)


STUDY = Study(
    name="zaya",
    title="ZAYA1: training on a full AMD stack, MI300X and Pollara",
    source=Source("https://arxiv.org/abs/2511.17127", "2025-11-21"),
    claim="an 8.3B mixture with 0.76B active parameters trained on 1,024 MI300X",
    configuration={"collectives": "fitted on one machine from 32 MiB, asked on another", "links": "xGMI mesh of 8"},
    compute=compute,
    note="the paper was read through summaries; measured figures are AMD's and Azure's",
)
