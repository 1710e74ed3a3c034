"""TFLite (LiteRT) files: shapes and formats stand in the file, operators run in its order.

Needs the `tflite` package (extra `onnx`): the schema's readers and no runtime. Schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from waferline.catalog.names import slug
from waferline.catalog.text_file import check_regular
from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.workloads.networks import arithmetic
from waferline.workloads.networks.graph import BITS, Graph, Product, Step, StepKind, Tensor, network
from waferline.workloads.networks.input_shape import input_shapes
from waferline.workloads.networks.needs import needs
from waferline.workloads.spec import ConvNet

_MOST_BYTES = 1 << 31  # neither format can hold more in one file
_IDENTIFIER = b"TFL3"
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError, UnicodeDecodeError, AttributeError)
_CONTROL = ("IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE")
# Operators that multiply matrices in ways that no reader here counts.
_UNCOUNTED = (
    "RNN",
    "SEQUENCE_RNN",
    "CONV_3D_TRANSPOSE",
    "CONVOLUTION",
    "DOT_GENERAL",
    "BIDIRECTIONAL",
    "DELEGATE",
    "PLACEHOLDER",
)


@dataclass(frozen=True, slots=True)
class _Operator:
    """One operator with the tensors around it."""

    op: str
    label: str
    inputs: tuple[str, ...]  # empty where one is left out
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]

    def shape(self, index: int) -> tuple[int, ...]:
        name = self.inputs[index]
        return (self.constants.get(name) or self.tensors[name]).shape

    def out(self) -> tuple[int, ...]:
        return self.tensors[self.outputs[0]].shape

    def step(self, kind: StepKind, *products: Product, view: bool = False, without: tuple[int, ...] = ()) -> Step:
        names = [n for i, n in enumerate(self.inputs) if n and i not in without]
        reads = tuple(dict.fromkeys(n for n in names if n not in self.constants))
        constants = tuple(dict.fromkeys(n for n in names if n in self.constants))
        return Step(self.label, kind, reads, self.outputs, constants, products, view and bool(reads))


def from_tflite(path: Path, input_shape: str | None = None) -> ConvNet:
    """The network of a TFLite file: its first subgraph.

    Raises: UnsupportedError without the `tflite` package and for control flow, FileFormatError for what is no TFLite file
    or does not fit together, InvalidInputError for shapes that are not the file's.
    """
    tflite, where = needs("tflite", "onnx"), str(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            data = file.read(8)
            if data[4:] != _IDENTIFIER:
                raise FileFormatError("not a TFLite file: it does not say 'TFL3'", where=where)
            data += file.read(_MOST_BYTES)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=where) from None
    try:
        graph = _graph(tflite, data, where, input_shape)
    except WaferlineError:
        raise
    except _DAMAGE:
        raise FileFormatError("damaged: its tables point outside of it or do not fit together", where=where) from None
    spec = network(graph, path.stem, where)
    return replace(spec, name=slug(path.stem) or "network", metadata={"container": "tflite"})


def _graph(tflite: Any, data: bytes, where: str, asked: str | None) -> Graph:
    model = tflite.Model.GetRootAsModel(data, 0)
    subgraph = model.Subgraphs(0) if model.SubgraphsLength() else None
    if subgraph is None or not 0 < subgraph.OperatorsLength() <= len(data) or subgraph.TensorsLength() > len(data):
        raise FileFormatError("no operators", where=where)
    names, tensors, constants, states = _tensors(tflite, model, subgraph, where)
    inputs = tuple(names[i] for i in _vector(subgraph.InputsAsNumpy()))
    shapes, notes = input_shapes(asked, {n: tensors[n].shape for n in inputs if n in tensors}, where)
    codes = _names_of(tflite.BuiltinOperator)
    steps = []
    for index in range(subgraph.OperatorsLength()):
        steps.append(_step(subgraph.Operators(index), index, codes, model, names, tensors, constants, where))
    outputs = tuple(names[i] for i in _vector(subgraph.OutputsAsNumpy()))
    return Graph(tuple(steps), tensors, constants, tuple(shapes), outputs, states=frozenset(states), notes=notes)


def _vector(values: Any) -> list[int]:
    """A vector of indices; the reader gives 0 for one that is left out."""
    return [] if isinstance(values, int) else [int(v) for v in values]


def _names_of(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_") and isinstance(v, int)}


def _tensors(
    tflite: Any, model: Any, subgraph: Any, where: str
) -> tuple[list[str], dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Names by number, activations, constants (what has bytes in the file), and variables that live all the time."""
    kinds = _names_of(tflite.TensorType)
    names: list[str] = []
    tensors: dict[str, Tensor] = {}
    constants: dict[str, Tensor] = {}
    states: list[str] = []
    for index in range(subgraph.TensorsLength()):
        raw = subgraph.Tensors(index)
        name = (raw.Name() or b"").decode("utf-8", "replace") or f"tensor {index}"
        name = f"{name} ({index})" if name in tensors or name in constants else name
        kind = kinds.get(raw.Type(), "?")
        if _FORMATS.get(kind, kind.lower()) not in BITS:
            raise UnsupportedError(f"element type {kind} is not read", where=where)
        tensor = Tensor(tuple(_vector(raw.ShapeAsNumpy())), _FORMATS.get(kind, kind.lower()))
        stored = model.Buffers(raw.Buffer()).DataLength() > 0 or model.Buffers(raw.Buffer()).Size() > 0
        (constants if stored else tensors)[name] = tensor
        names.append(name)
        if raw.IsVariable():
            states.append(name)
    return names, tensors, constants, states


def _step(
    raw: Any,
    index: int,
    codes: Mapping[int, str],
    model: Any,
    names: list[str],
    tensors: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
    where: str,
) -> Step:
    code = model.OperatorCodes(raw.OpcodeIndex())
    op = codes.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "?")
    if op == "CUSTOM":
        raise UnsupportedError(
            f"the custom operator {(code.CustomCode() or b'').decode()[:40]!r} is not read", where=where
        )
    if op in _CONTROL:
        raise UnsupportedError(f"control flow ('{op}') is not read", where=where)
    if op == "?" or any(word in op for word in _UNCOUNTED):
        raise UnsupportedError(f"operator '{op}' is not read", where=where)
    inputs = tuple(names[i] if i >= 0 else "" for i in _vector(raw.InputsAsNumpy()))
    outputs = tuple(names[i] for i in _vector(raw.OutputsAsNumpy()))
    label = f"{op.lower()}{index}"
    operator = _Operator(op, label, inputs, tuple(n for n in outputs if n in tensors), tensors, constants)
    if op in _PRODUCTS:
        try:
            return _PRODUCTS[op](operator)
        except InvalidInputError as error:
            raise FileFormatError(f"{label}: {error}", where=where) from None
    if op in _VIEWS:
        return operator.step("gather", view=True)
    kind: StepKind = next((kind for kind, members in _STREAMS.items() if op in members), "elementwise")
    step = operator.step(kind)
    if op in _POOLS:  # every input element is taken about once
        read = sum(tensors[n].elements for n in step.reads[:1])
        step = replace(step, kernel=max(1, read // max(1, prod(operator.out()))))
    return step


def _conv(o: _Operator) -> Step:
    """Kernels are (out, positions…, in of one group); channels are last."""
    given, kernel, out = o.shape(0), o.shape(1), o.out()
    groups, rest = divmod(given[-1], kernel[-1]) if kernel[-1] else (0, 1)
    if rest or len(kernel) != len(out):
        raise InvalidInputError(f"a kernel of {kernel} does not fit {given}")
    return o.step("conv", arithmetic.convolution(prod(out[:-1]), given[-1], kernel[0], kernel[1:-1], groups))


def _conv_3d(o: _Operator) -> Step:
    """Kernels are (positions…, in, out)."""
    kernel = o.shape(1)
    return o.step("conv", arithmetic.convolution(prod(o.out()[:-1]), kernel[-2], kernel[-1], kernel[:-2], 1))


def _depthwise(o: _Operator) -> Step:
    """Kernels are (1, height, width, out): every input channel makes out / in of them."""
    channels, kernel = o.shape(0)[-1], o.shape(1)
    return o.step("conv", arithmetic.convolution(prod(o.out()[:-1]), channels, kernel[-1], kernel[1:-1], channels))


def _transposed(o: _Operator) -> Step:
    """The first input is the output's shape, the second the kernel (out, positions…, in), the third what is read."""
    given, kernel = o.shape(2), o.shape(1)
    product = arithmetic.transposed_convolution(prod(given[:-1]), kernel[-1], kernel[0], kernel[1:-1], 1)
    return o.step("conv", product, without=(0,))


def _dense(o: _Operator) -> Step:
    """Weights are (out, in); whatever shape the input has, it is rows of `in`."""
    n, k = o.shape(1)
    elements = prod(o.shape(0))
    if not k or elements % k:
        raise InvalidInputError(f"{elements} inputs are not rows of {k}")
    return o.step("gemm", Product(elements // k, n, k))


def _batched(o: _Operator) -> Step:
    """Which of the two is transposed follows from the output."""
    a, b, out = o.shape(0), o.shape(1), o.out()
    inner = a[-1] if out[-2] == a[-2] else a[-2]
    right = (*b[:-2], inner, out[-1])
    return o.step("gemm", arithmetic.matrix_product((*a[:-2], out[-2], inner), right, o.inputs[1] in o.constants))


def _lstm(o: _Operator) -> Step:
    """Inputs of all steps meet four matrices, states of each step four more; all of them are inputs by themselves."""
    given = o.shape(0)
    matrices = [o.constants[n].shape for n in o.inputs[1:9] if n in o.constants]
    steps = prod(given[:-1])
    weights = sum(prod(m) for m in matrices)
    return o.step("gemm", Product(steps, weights, 1))


def _svdf(o: _Operator) -> Step:
    """A filter over features and one over time, of each unit and rank."""
    features, times = o.shape(1), o.shape(2)
    return o.step("gemm", Product(o.shape(0)[0], features[0], features[1] + times[1]))


_PRODUCTS: Mapping[str, Callable[[_Operator], Step]] = {
    "CONV_2D": _conv,
    "CONV_3D": _conv_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _batched,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "LSTM": _lstm,
    "SVDF": _svdf,
}
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "SUM", "REDUCE_MAX")
_STREAMS: Mapping[StepKind, tuple[str, ...]] = {
    "norm": ("L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION"),
    "softmax": ("SOFTMAX", "LOG_SOFTMAX"),
    "gather": (
        *("GATHER", "GATHER_ND", "EMBEDDING_LOOKUP", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "CONCATENATION"),
        *("PACK", "UNPACK", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "TILE", "BROADCAST_TO", "RESIZE_BILINEAR"),
        *("RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"),
        *("ONE_HOT", "REVERSE_V2", "SHAPE"),
    ),
}
# TFLite's name of an element type → the format, where they differ by more than case.
_FORMATS: Mapping[str, str] = {
    "FLOAT32": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "FLOAT64": "fp64",
}
