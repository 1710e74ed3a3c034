"""Decode a matrix of packed weights where it lies: each core turns its own tile into the numbers that it computes in."""

from __future__ import annotations

import numpy as np

from waferline.errors import InvalidInputError, unknown
from waferline.formats.codec import decode, encode
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters, check_grid
from waferline.simulate.mesh import compliance as plmr
from waferline.simulate.mesh.memory import check_formats, core_memory
from waferline.simulate.mesh.operators import product_sizes
from waferline.simulate.mesh.result import FIDELITIES, MeshResult, compare, rounding_tolerance
from waferline.simulate.mesh.weights import weight_format
from waferline.workloads.operator import Operator


def simulate_dequantise(
    op: Operator, p: MeshParameters, width: int, height: int, *, fidelity: str = "auto", seed: int = 0
) -> MeshResult:
    """The weights (k, n) of `op` decoded in place, k over rows and n over columns; nothing crosses a link.

    Raises:
        InvalidInputError: weights that are no packed format, or events asked for, of which there are none.
        DoesNotFitError: the tile and its decoded numbers overflow a core's SRAM.
    """
    (_, k, n), form = product_sizes(op), weight_format(op.weights)
    check_grid(p, width, height)
    check_formats(p, op.activations)
    if fidelity not in FIDELITIES:
        raise unknown("fidelity", fidelity, FIDELITIES)
    if not form.quantised or fidelity == "event":
        what = "no word crosses a link" if form.quantised else f"{form.name} weights are numbers already"
        raise InvalidInputError(f"dequantise: {what}", hint="--weights q4_k, --fidelity closed")

    def memory(width: int, height: int) -> dict[str, int]:
        rows, columns = form.rows_per_core(k, height), -(-n // width)
        return {
            "weight tile": form.tile_bytes(rows, columns),
            "decoded": rows * columns * ELEMENT_BYTES[op.activations],
        }

    rows, columns = form.rows_per_core(k, height), -(-n // width)
    ledger = core_memory(p, width, height, memory)
    weights = np.random.default_rng(seed).standard_normal((k, n)).astype(np.float32)
    whole = np.zeros((n, form.rows_per_core(k, 1)), np.float32)
    whole[:, :k] = weights.T
    exact = decode(encode(whole, form.name), form.name, whole.shape).T[:k].astype(np.float64)
    kind = np.float16 if op.activations == "fp16" else np.float32
    tiles = [form.stored(weights[low : low + rows]) for low in range(0, k, rows)]
    tolerance = rounding_tolerance(1, float(np.abs(exact).max()), op.activations)
    accuracy = compare(
        np.concatenate(tiles).astype(kind).astype(np.float32), exact, tolerance, f"{form.name} decoded whole"
    )
    cycles = float(p.start_cycles + rows * columns * form.decode_cycles(p, op.activations))
    idle = width * height - min(-(-k // rows), height) * min(-(-n // columns), width)
    return MeshResult(
        operation=f"dequantise {k}x{n}", algorithm="in place", width=width, height=height, parameters=p, fidelity="closed",
        cycles=cycles, compute_cycles=cycles, communication_cycles=0.0, overlap_cycles=0.0, steps=1, hop_words=0, colours=0,
        memory_bytes=ledger.items, accuracy=accuracy, closed_form_cycles=cycles,
        compliance=plmr.Compliance(
            plmr.parallelism(idle, width * height, "rows beyond K or columns beyond N"),
            plmr.latency("hops", 0, 0, "nothing moves"), plmr.memory(ledger.used_bytes, p.sram_bytes), plmr.routing(0, p.colours),
        ),
        details={"weights": form.name, "number_format": op.activations},
    )  # fmt: skip
