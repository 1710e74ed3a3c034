"""Low-bit matrix products by table look-up (T-MAC): sums of four activations are tabulated, four bits of weights index one."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.techniques.technique import Given, Parameter, Setting, Step, Technique
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Transformer

_QUAD = 4.0  # weights that one index covers, a bit of each
_MOST_BITS = 4
_ARITHMETIC = "int8"  # of the tables and their sums


def code_bits(bits: float) -> int:
    """Bit planes of a weight: block formats keep scales beside their codes, and ternary weights are stored in two bits."""
    return ceil(bits) if bits < 2.0 else floor(bits)


def _looked_up(step: Step, s: Setting, given: Given) -> Step:
    """Matrix products of narrow weights take look-ups, one for every four weights, bit plane and row of activations."""
    rate = given["rate"] or read_packaged("techniques.yaml")["look_ups"]["per_multiply"]
    narrow = [op for op in step.operators if op.kind == "gemm" and code_bits(get_format(op.weights).bits) <= _MOST_BITS]
    if not narrow:
        raise UnsupportedError(
            f"lut-gemv: weights of {s.precision.label()} have more than {_MOST_BITS} bits", hint="-p q4_0 or int2"
        )

    def by_tables(op: Operator) -> Operator:
        if not any(op is one for one in narrow):
            return op
        looks = op.shape["m"] * op.shape["n"] * op.shape["k"] * code_bits(get_format(op.weights).bits) / _QUAD
        return replace(op, kind="look_up", flops=2.0 * looks / rate, activations=_ARITHMETIC)

    return replace(step, operators=[by_tables(op) for op in step.operators])


def _no_processor(model: Transformer, device: Device) -> str:
    if device.kind == "cpu":
        return ""
    return f"look-ups are a kernel of processors, and {device.name} is a {device.kind}; CPUs alone end in -cpu"


LOOK_UP = {
    "lut-gemv": Technique(
        title="Matrix products of weights of one to four bits by table look-up, on processors",
        parameters={
            "rate": Parameter(
                "look-ups for each int8 multiply-add of the peak; T-MAC's unless given", optional=True, least=1e-3
            )
        },
        source="Wei et al. 2024, T-MAC, arXiv:2407.00088; docs/profiling_data.md of its repository",
        limits="rate of its ARM kernels; with AVX-512 unpacking is faster: this package's look-ups take 1.3 to 1.8 times as long",
        checked="compared with data: tokens/s of two models, one gave the rate: Jetson, Raspberry Pi 25 %; M2 Ultra 31-39 % low",
        refuses=_no_processor,
        decode=_looked_up,
    )
}
