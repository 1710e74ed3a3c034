"""From a request to a measurement and to the operator that predict can be asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from waferline.errors import InvalidInputError, unknown
from waferline.formats import Precision
from waferline.measure.contract import Outcome
from waferline.measure.engine import Plan
from waferline.measure.operators import matrix
from waferline.measure.operators.request import OperatorRequest
from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator

Runner = Callable[[OperatorRequest, Plan], Outcome]
Lowering = Callable[[OperatorRequest, Builder], Operator]


def _gemm(request: OperatorRequest, builder: Builder) -> Operator:
    rows, cols = request.shape
    return builder.gemm(request.operator, request.batch, rows, cols)


# name: (number of sizes in its shape, how it runs, what it is to predict)
OPERATORS: Mapping[str, tuple[int, Runner, Lowering]] = {
    "gemv": (2, matrix.measure_matrix, _gemm),
    "gemm": (2, matrix.measure_matrix, _gemm),
}


def _entry(request: OperatorRequest) -> tuple[int, Runner, Lowering]:
    if request.operator not in OPERATORS:
        raise unknown("operator", request.operator, OPERATORS)
    entry = OPERATORS[request.operator]
    if len(request.shape) != entry[0]:
        shape = "x".join(map(str, request.shape))
        raise InvalidInputError(
            f"{request.operator} has {entry[0]} sizes, {shape} has {len(request.shape)}", where="shape"
        )
    return entry


def measure_operator(request: OperatorRequest, plan: Plan | None = None) -> Outcome:
    """Run the operator on this machine.

    Raises: UnknownNameError for an operator that cannot be run here, InvalidInputError for a wrong shape, UnsupportedError
    for a format without a kernel, DoesNotFitError when it would not fit.
    """
    return _entry(request)[1](request, plan or Plan())


def operator_of(request: OperatorRequest, precision: Precision) -> Operator:
    """The same request as the `Operator` that predict times."""
    return _entry(request)[2](request, Builder(precision))
