"""Device-resident normal equations, (XᵀWX + λI) β = r, thousands a second: the protocol that cannot pass by accident.

X is staged on the device once. Of every solve only the weights w and the right side r go in and β comes out; the Gram
matrix and its Cholesky factor never leave the device. The protocol and its constants follow gam's `encode_throughput`
(SauersML/gam, crates/gam-gpu); the code is our own.
"""

from waferline.measure.resident.oracle import cpu_oracle_normal_equations_solve
from waferline.measure.resident.run import ResidentResult, ResidentSolveThroughput, measure_resident_solve_throughput
from waferline.measure.resident.shapes import CANONICAL_ENCODE_SHAPES, EncodeShape, encode_shape
from waferline.measure.resident.verdict import (
    DEPLOYMENT,
    Gate,
    GpuThroughputVerdict,
    Met,
    Undetermined,
    Unmet,
    Verdict,
    judge,
)

__all__ = [
    "CANONICAL_ENCODE_SHAPES",
    "DEPLOYMENT",
    "EncodeShape",
    "Gate",
    "GpuThroughputVerdict",
    "Met",
    "ResidentResult",
    "ResidentSolveThroughput",
    "Undetermined",
    "Unmet",
    "Verdict",
    "cpu_oracle_normal_equations_solve",
    "encode_shape",
    "judge",
    "measure_resident_solve_throughput",
]
