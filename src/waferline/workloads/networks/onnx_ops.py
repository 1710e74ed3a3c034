"""Nodes of ONNX as steps: which operators multiply matrices, which are views, and what the others stream.

Sources: https://onnx.ai/onnx/operators/ and, for `com.microsoft`, onnxruntime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.workloads.networks import arithmetic
from waferline.workloads.networks.graph import Product, Step, StepKind, Tensor


@dataclass(frozen=True, slots=True)
class Node:
    """One node with the tensors around it."""

    op: str
    label: str
    proto: Any
    tensor: Callable[[str], Tensor]
    stored: Mapping[str, tuple[str, ...]]  # constant → the initializers that it is made of
    attributes: Mapping[str, Any]

    def name(self, index: int) -> str:
        """The name of an input, empty when it is left out."""
        return self.proto.input[index] if index < len(self.proto.input) else ""

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensor(self.name(index)).shape

    def out(self, index: int = 0) -> tuple[int, ...]:
        return self.tensor(self.proto.output[index]).shape

    def constant(self, index: int) -> bool:
        return self.name(index) in self.stored

    def step(self, kind: StepKind, *products: Product, view: bool = False, kernel: int = 1, only: Any = None) -> Step:
        """A step of this node; `only`: the inputs that it reads, where the node makes several steps."""
        names = [n for i, n in enumerate(self.proto.input) if n and (only is None or i in only)]
        constants = dict.fromkeys(origin for n in names for origin in self.stored.get(n, ()))
        return Step(
            name=self.label,
            kind=kind,
            reads=tuple(dict.fromkeys(n for n in names if n not in self.stored)),
            writes=tuple(n for n in self.proto.output if n),
            constants=tuple(constants),
            products=products,
            view=view and bool([n for n in names if n not in self.stored]),
            kernel=kernel,
        )


def steps_of(node: Node) -> list[Step]:
    """The steps that a node makes."""
    if node.op in _PRODUCTS:
        return _PRODUCTS[node.op](node)
    if node.op in _VIEWS:
        return [node.step("gather", view=True)]
    if node.op in _POOLS:
        kernel = prod(node.attributes.get("kernel_shape", ())) or prod(node.shape(0)[2:])
        return [node.step("elementwise", kernel=max(1, kernel))]
    kind: StepKind = next((kind for kind, names in _STREAMS.items() if node.op in names), "elementwise")
    one_row = node.op == "Gather" and node.constant(1) and not node.shape(1)  # a part of its input, as Slice is
    return [
        replace(node.step(kind), fuses=node.op in _FUSES, folds=(node.op in _FOLDS or one_row) and not node.constant(0))
    ]


def _conv(node: Node, x: int = 0, w: int = 1) -> list[Step]:
    weight, out, groups = node.shape(w), node.out(), node.attributes.get("group", 1)
    positions = out[0] * prod(out[2:])
    if len(weight) != len(out) or weight[1] * groups != node.shape(x)[1]:
        raise InvalidInputError(f"a kernel of {weight} does not fit {node.shape(x)} in {groups} groups")
    return [node.step("conv", arithmetic.convolution(positions, weight[1] * groups, weight[0], weight[2:], groups))]


def _transposed(node: Node) -> list[Step]:
    weight, given, groups = node.shape(1), node.shape(0), node.attributes.get("group", 1)
    positions = given[0] * prod(given[2:])
    product = arithmetic.transposed_convolution(positions, weight[0], weight[1] * groups, weight[2:], groups)
    return [node.step("conv", product)]


def _gemm(node: Node) -> list[Step]:
    a = node.shape(0)[::-1] if node.attributes.get("transA") else node.shape(0)
    b = node.shape(1)[::-1] if node.attributes.get("transB") else node.shape(1)
    return [node.step("gemm", arithmetic.matrix_product(a, b, node.constant(1)))]


def _matmul(node: Node, a: int = 0, b: int = 1) -> list[Step]:
    left, right = node.shape(a), node.shape(b)
    if node.attributes.get("transA"):
        left = (*left[:-2], left[-1], left[-2])
    if node.attributes.get("transB"):
        right = (*right[:-2], right[-1], right[-2])
    return [node.step("gemm", arithmetic.matrix_product(left, right, node.constant(b)))]


def _matmul_nbits(node: Node) -> list[Step]:
    """Weights of a few bits in blocks (com.microsoft): `K` and `N` are attributes, the tensor is packed."""
    k, n = node.attributes["K"], node.attributes["N"]
    return [node.step("gemm", Product(prod(node.shape(0)[:-1]), n, k))]


def _einsum(node: Node) -> list[Step]:
    equation = node.attributes["equation"]
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    if len(node.proto.input) == 1:
        return [node.step("gather")]
    if len(node.proto.input) != 2:
        raise UnsupportedError(f"an Einstein sum of {len(node.proto.input)} operands is not read")
    return [node.step("gemm", arithmetic.einsum(text, node.shape(0), node.shape(1)))]


def _recurrent(gates: int) -> Callable[[Node], list[Step]]:
    def read(node: Node) -> list[Step]:
        """W multiplies the inputs of all steps at once, R the state of each step; biases go with W."""
        x, w, r = node.shape(0), node.shape(1), node.shape(2)
        steps, batch = (x[1], x[0]) if node.attributes.get("layout") else (x[0], x[1])
        first, second = arithmetic.recurrent(steps, batch, w[2], r[2], gates, w[0])
        rest = set(range(3, len(node.proto.input)))
        return [node.step("gemm", first, only={0, 1} | rest), node.step("gemm", second, only={0, 2} | rest)]

    return read


def _attention(node: Node) -> list[Step]:
    """Softmax attention over queries, keys and values of (batch, heads, length, width) or (batch, length, all heads)."""
    q, k, v = node.shape(0), node.shape(1), node.shape(2)
    if len(q) == 3:
        heads, groups = node.attributes["q_num_heads"], node.attributes["kv_num_heads"]
        q = (q[0], heads, q[1], q[2] // heads)
        k, v = (k[0], groups, k[1], k[2] // groups), (v[0], groups, v[1], v[2] // groups)
    past = node.shape(4)[2] if node.name(4) else 0
    return [node.step("gemm", *arithmetic.attention(q[0], q[1], q[2], k[2] + past, q[3], v[3]))]


def _multi_head(node: Node) -> list[Step]:
    """onnxruntime's MultiHeadAttention: queries (batch, length, all heads), keys and values alike, no cache before."""
    q, k, heads = node.shape(0), node.shape(1), node.attributes["num_heads"]
    if len(q) != 3 or len(k) != 3 or q[-1] % heads:
        raise UnsupportedError("packed or four-dimensional keys of MultiHeadAttention are not read")
    width = q[-1] // heads
    return [node.step("gemm", *arithmetic.attention(q[0], heads, q[1], k[1], width, node.shape(2)[-1] // heads))]


_PRODUCTS: Mapping[str, Callable[[Node], list[Step]]] = {
    "MultiHeadAttention": _multi_head,
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda node: _conv(node, 0, 3),
    "DeformConv": _conv,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": lambda node: _matmul(node, 0, 3),
    "MatMulNBits": _matmul_nbits,
    "Einsum": _einsum,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _attention,
}
# Quantise and dequantise are part of their neighbours in every runtime: what is between them is in the narrow format.
_VIEWS = (
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"),
    *("QuantizeLinear", "DequantizeLinear"),
)
_FUSES = (
    *("BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu"),
    *("Gelu", "Mish", "Softplus", "Selu", "Add", "Mul"),
)
_FOLDS = ("Transpose", "Slice", "Split")
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
_STREAMS: Mapping[StepKind, tuple[str, ...]] = {
    "norm": (
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"),
        *("RMSNormalization", "LRN", "LpNormalization", "MeanVarianceNormalization"),
        *("SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
    ),
    "softmax": ("Softmax", "LogSoftmax", "Hardmax"),
    "gather": (
        *("Gather", "GatherElements", "GatherND", "Scatter", "ScatterElements", "ScatterND", "Slice", "Split"),
        *("Concat", "Transpose", "Pad", "Expand", "Tile", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth"),
        *("OneHot", "ReverseSequence", "Trilu", "Compress"),
    ),
}
# Operators of onnxruntime that are a standard one with an activation function fused to it → that one.
FUSED: Mapping[str, str] = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
# Inputs that are stored and not learned: running statistics, scales and zero points.
BUFFER_INPUTS: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "MatMulNBits": (2, 3, 4),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), (1, 2, 3, 4)),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (4, 5, 6)),  # lengths and initial states
    "Reshape": (1,),
    "Pad": (1, 2),
    "Resize": (1, 2, 3),
    "Clip": (1, 2),
}


def _like_first(node: Any, types: dict[str, Any]) -> None:
    types[node.output[0]] = types[node.input[0]]


def _like_matmul(node: Any, types: dict[str, Any]) -> None:
    """Packed weights say their columns as an attribute."""
    columns = next(a.i for a in node.attribute if a.name == "N")
    kind = type(types[node.input[0]])()
    kind.CopyFrom(types[node.input[0]])
    kind.tensor_type.shape.dim[-1].dim_value = columns
    types[node.output[0]] = kind


def _broadcast(node: Any, types: dict[str, Any]) -> None:
    """Of two tensors between their scales: the one with more dimensions and elements."""
    pair = [types[node.input[0]], types[node.input[3]]]
    sizes = [[d.dim_value for d in kind.tensor_type.shape.dim] for kind in pair]
    types[node.output[0]] = pair[0] if (len(sizes[0]), prod(sizes[0])) >= (len(sizes[1]), prod(sizes[1])) else pair[1]


def _pooled(node: Any, types: dict[str, Any]) -> None:
    kind = type(types[node.input[0]])()
    kind.CopyFrom(types[node.input[0]])
    for size in kind.tensor_type.shape.dim[2:]:
        size.dim_value = 1
    types[node.output[0]] = kind


# Operators outside the standard whose output's type follows from their inputs' without a schema.
CUSTOM: Mapping[str, Callable[[Any, dict[str, Any]], None]] = {
    **dict.fromkeys(("Gelu", "FastGelu", "QuickGelu", "BiasGelu", "SimplifiedLayerNormalization"), _like_first),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _like_first),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "MultiHeadAttention"), _like_first),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _broadcast),
    "QLinearGlobalAveragePool": _pooled,
    "MatMulNBits": _like_matmul,
}
