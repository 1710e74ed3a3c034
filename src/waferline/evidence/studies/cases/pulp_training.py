"""Cycles of an inner loop on an in-order RISC-V core, by counting instructions and load-use stalls.

The core is RV32IMCF with the Xpulp extensions: hardware loops and post-increment loads cost nothing, every instruction
issues in one cycle, and an instruction that uses the result of the load right before it waits one cycle.
Source: Gautschi et al. 2017, "Near-threshold RISC-V core with DSP extensions", IEEE TVLSI 25(10), section III.

Cycles of training on a PULP cluster: each step of a layer is a matrix product, each product an inner loop.

A layer of a network trains in three products (Nadalini et al. 2023, arXiv:2305.19167, section III): forward (FW), weight
gradient (WG) and input gradient (IG). Convolutions are unfolded by im2col first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from waferline.errors import InvalidInputError
from waferline.workloads.spec import Conv

_LOAD = "ld"
_OPERATIONS = frozenset({_LOAD, "st", "mac", "vmac", "pack", "shuffle", "add", "mul", "cmp"})
_LOAD_USE_STALL = 1


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: what it does, the register it writes ("" for a store) and those it reads."""

    operation: str
    writes: str
    reads: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Instruction:
        """`c=mac a b c` or `st c`. Raises: InvalidInputError for an operation the core does not have."""
        target, equals, rest = text.partition("=")
        words = (rest if equals else text).split()
        if not words or words[0] not in _OPERATIONS:
            raise InvalidInputError(f"instruction '{text}'", hint=f"one of {', '.join(sorted(_OPERATIONS))}")
        return cls(words[0], target.strip() if equals else "", tuple(words[1:]))


@dataclass(frozen=True, slots=True)
class Loop:
    """An inner loop. macs: of one iteration; outputs: accumulators that one whole loop finishes."""

    body: tuple[Instruction, ...]
    macs: int
    outputs: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Loop:
        """From `{body: [...], macs, outputs}` as the study's file writes it."""
        return cls(tuple(Instruction.parse(line) for line in facts["body"]), facts["macs"], facts["outputs"])

    @property
    def stalls(self) -> int:
        """Cycles lost in one iteration to results of the load right before."""
        before = (self.body[-1], *self.body[:-1])  # the loop wraps round
        return sum(
            _LOAD_USE_STALL for last, now in zip(before, self.body, strict=True)
            if last.operation == _LOAD and last.writes in now.reads
        )  # fmt: skip

    @property
    def cycles(self) -> int:
        """Of one iteration."""
        return len(self.body) + self.stalls

    @property
    def cycles_per_mac(self) -> float:
        return self.cycles / self.macs


# An accumulator beyond the first of a loop has to be cleared and stored: two instructions, counted in the source code.
_CLEAR_AND_STORE = 2


@dataclass(frozen=True, slots=True)
class Matmul:
    """C[n, m] = A[n, k] B[k, m]; `unfolded` elements are copied by im2col before it."""

    n: int
    k: int
    m: int
    unfolded: int = 0

    @property
    def macs(self) -> int:
        return self.n * self.k * self.m


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the loops cost beyond their bodies (cycles), and the share of speed that all `cores` together keep."""

    cores: int
    loop_cycles: float
    outer_product_cycles: float
    im2col_cycles: float
    contention: float

    def matmul(self, product: Matmul, loop: Loop) -> float:
        """Cycles of one core. A product with k = 1 is an outer product, with its own cycles an element."""
        copied = product.unfolded * self.im2col_cycles
        if product.k == 1:
            return product.macs * self.outer_product_cycles + copied
        loops = product.n * product.m / max(loop.outputs, 1)
        per_loop = self.loop_cycles + _CLEAR_AND_STORE * max(loop.outputs - 1, 0)
        return product.macs * loop.cycles_per_mac + loops * per_loop + copied

    def shared(self, cycles: float, rows: int) -> float:
        """The same work with its `rows` split over all cores in blocks of ceil(rows / cores)."""
        block = math.ceil(rows / self.cores)
        return cycles * block / rows / self.contention


def linear_steps(inputs: int, outputs: int) -> dict[str, Matmul]:
    """The three products of a fully connected layer for one sample."""
    return {"FW": Matmul(outputs, inputs, 1), "WG": Matmul(outputs, 1, inputs), "IG": Matmul(inputs, outputs, 1)}


def conv_steps(c: Conv) -> dict[str, Matmul]:
    """The three products of a convolution for one sample, each with its im2col; grouped ones channel by channel."""
    patch = c.c_in // c.groups * c.kernel_h * c.kernel_w
    positions, pixels = c.h_out * c.w_out, c.h_out * c.stride * c.w_out * c.stride
    back = c.c_out // c.groups * c.kernel_h * c.kernel_w
    pointwise = c.kernel_h == c.kernel_w == 1
    unfold = 0 if pointwise else patch * positions * c.groups
    return {
        "FW": Matmul(c.c_out, patch, positions, unfold),
        "WG": Matmul(c.c_out, positions, patch, unfold),
        "IG": Matmul(c.c_in, back, pixels, 0 if pointwise else back * pixels * c.groups),
    }


def training_step(layers: Iterable[Conv], loop: Loop, cluster: Cluster) -> tuple[int, float]:
    """MACs and cycles of one training step on the whole cluster; the first layer needs no input gradient.

    Useful MACs: a strided convolution's input gradient also multiplies the zeros between its rows, which only cost time.
    """
    macs, cycles = 0, 0.0
    for index, layer in enumerate(layers):
        for name, product in conv_steps(layer).items():
            if index == 0 and name == "IG":
                continue
            macs += layer.macs
            cycles += cluster.shared(cluster.matmul(product, loop), product.n)
    return macs, cycles


def matmul_fp16(a: npt.NDArray[np.float16], b: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """C = A B with every sum rounded to fp16, as the two-lane FPU does: even and odd k apart, added at the end."""
    lanes = np.zeros((2, a.shape[0], b.shape[1]), np.float16)
    for k in range(a.shape[1]):
        product = a[:, k, None].astype(np.float32) * b[None, k, :].astype(np.float32)  # exact in fp32
        lanes[k % 2] = (lanes[k % 2].astype(np.float32) + product).astype(np.float16)  # one rounding: a fused FMA
    return np.asarray(lanes[0] + lanes[1], dtype=np.float16)
