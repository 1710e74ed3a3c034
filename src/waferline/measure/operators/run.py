"""From a request to a measurement and to the operator that predict can be asked about."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from waferline.errors import InvalidInputError, unknown
from waferline.formats import Precision
from waferline.measure.contract import Outcome
from waferline.measure.engine import Plan
from waferline.measure.operators import attend, matrix, vector
from waferline.measure.operators.request import OperatorRequest
from waferline.workloads.build import Builder, causal_pairs
from waferline.workloads.operator import Operator, OpKind

Runner = Callable[[OperatorRequest, Plan], Outcome]
Lowering = Callable[[OperatorRequest, Builder], Operator]


def _gemm(request: OperatorRequest, builder: Builder) -> Operator:
    rows, cols = request.shape
    return builder.gemm(request.operator, request.batch, rows, cols)


def _attention(request: OperatorRequest, builder: Builder) -> Operator:
    heads, kv_heads, d, context = request.shape
    prefill = request.operator == "prefill_attention"
    q_len = context if prefill else 1
    kv_elements = 2.0 * kv_heads * d
    return builder.attention(
        request.operator,
        "prefill_attention" if prefill else "decode_attention",
        batch=request.batch,
        q_len=q_len,
        kv_len=context,
        pairs=causal_pairs(q_len, context, None),
        kv_read=context,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=d,
        v_head_dim=d,
        kv_elements=kv_elements,
    )


def _vector(request: OperatorRequest, builder: Builder) -> Operator:
    """The kernels keep activations in f32, two residual widths of 16 bits: the traffic is stated in those."""
    passes = vector.VECTORS[request.operator].passes * _F32_BYTES / builder.residual_bytes
    elements = float(request.batch * math.prod(request.shape))
    return builder.streaming(request.operator, _VECTOR_KINDS[request.operator], elements, passes=passes, flops_each=5)


_F32_BYTES = 4.0
_VECTOR_KINDS: Mapping[str, OpKind] = {"norm": "norm", "swiglu": "elementwise", "softmax": "softmax"}


@dataclass(frozen=True, slots=True)
class Entry:
    """sizes: what its shape lists. format: the usual one. run: times it. lower: what it is to predict. kernels: beside the
    usual one."""

    sizes: str
    format: str
    run: Runner
    lower: Lowering
    threaded: bool = True
    kernels: Mapping[str, Runner] = field(default_factory=dict)


OPERATORS: Mapping[str, Entry] = {
    "gemv": Entry("rows x columns", "q4_k", matrix.measure_matrix, _gemm, kernels={"lut": matrix.measure_look_up}),
    "gemm": Entry("rows x columns", "q4_k", matrix.measure_matrix, _gemm),
    "attention": Entry("heads x kv_heads x head_dim x context", "fp16", attend.measure_attention, _attention),
    "prefill_attention": Entry("heads x kv_heads x head_dim x context", "fp16", attend.measure_attention, _attention),
    "norm": Entry("elements", "fp32", vector.measure_vector, _vector, threaded=False),
    "swiglu": Entry("elements", "fp32", vector.measure_vector, _vector, threaded=False),
    "softmax": Entry(
        "elements",
        "fp32",
        vector.measure_vector,
        _vector,
        False,
        dict.fromkeys(vector.SOFTMAXES, vector.measure_vector),
    ),
}


def entry_of(operator: str) -> Entry:
    """The table's entry. Raises: UnknownNameError with the nearest names."""
    if operator not in OPERATORS:
        raise unknown("operator", operator, OPERATORS)
    return OPERATORS[operator]


def _entry(request: OperatorRequest) -> Entry:
    entry = entry_of(request.operator)
    if len(request.shape) != entry.sizes.count(" x ") + 1:
        shape = "x".join(map(str, request.shape))
        raise InvalidInputError(f"{shape} for {request.operator}", where="shape", hint=f"it is {entry.sizes}")
    return entry


def measure_operator(request: OperatorRequest, plan: Plan | None = None) -> Outcome:
    """Run the operator on this machine.

    Raises: UnknownNameError for an operator or a kernel that cannot be run here, InvalidInputError for a wrong shape,
    UnsupportedError for a format without a kernel, DoesNotFitError when it would not fit.
    """
    entry = _entry(request)
    if request.kernel and not entry.kernels:
        raise InvalidInputError(f"{request.operator} has one kernel", where="kernel")
    if request.kernel and request.kernel not in entry.kernels:
        raise unknown(f"kernel of {request.operator}", request.kernel, entry.kernels)
    return (entry.kernels[request.kernel] if request.kernel else entry.run)(request, plan or Plan())


def operator_of(request: OperatorRequest, precision: Precision) -> Operator:
    """The same request as the `Operator` that predict times."""
    return _entry(request).lower(request, Builder(precision))
