"""The operators that a mesh runs, the same ones that are predicted and measured: made from sizes, and read back as sizes."""

from __future__ import annotations

import numpy as np

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import Precision, get_format
from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator

SUM_BYTES = 4  # of a value in an all-reduce: fp32


def matrix_product(m: int, k: int, n: int, number_format: str = "fp16", weights: str | None = None) -> Operator:
    """y[m, n] = x[m, k] W[k, n]: the cores compute in `number_format` and keep W in `weights` (the same by default)."""
    name = get_format(number_format).name
    return Builder(Precision(weights or name, name, name, name)).gemm("gemm", m, n, k)


def all_reduce(values: int, ranks: int) -> Operator:
    """The sum of `values` fp32 values of each of `ranks` cores, on every core."""
    builder = Builder(Precision("fp32", "fp32", "fp32", "fp32"))
    return builder.collective("all_reduce", "all_reduce", SUM_BYTES * values, ranks)


def product_sizes(op: Operator) -> tuple[int, int, int]:
    """(m, k, n) of a matrix product.

    Raises:
        UnsupportedError: another kind of operator.
        InvalidInputError: sizes that are not positive, not whole, or more than one scenario.
    """
    if op.kind != "gemm" or not {"m", "k", "n"} <= set(op.shape):
        raise UnsupportedError(f"'{op.name}' is no matrix product but {op.kind}", where="mesh", hint=RUNS)
    m, k, n = (_whole(op, key) for key in ("m", "k", "n"))
    return m, k, n


def reduced_values(op: Operator) -> int:
    """fp32 values per core of an all-reduce; errors as `product_sizes`."""
    if op.kind != "collective" or op.operation != "all_reduce":
        raise UnsupportedError(f"'{op.name}' is no all-reduce but {op.operation or op.kind}", where="mesh", hint=RUNS)
    return -(-_whole(op, "bytes") // SUM_BYTES)


RUNS = "matrix products and all-reduces run on the mesh"


def _whole(op: Operator, key: str) -> int:
    value = np.asarray(op.shape[key])
    if value.ndim or value < 1 or value != int(value):
        raise InvalidInputError(f"{key} must be one positive whole number, got {value}", where=f"operator '{op.name}'")
    return int(value)
