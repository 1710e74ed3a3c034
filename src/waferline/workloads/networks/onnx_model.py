"""ONNX files: shapes are inferred node by node, small numbers computed, and every node becomes a step.

Needs the `onnx` package (extra `onnx`): its reader, its inference of shapes and its reference of small operators; no
runtime. Weights in files beside the model are not opened: their sizes stand in the model. Operators:
https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np

from waferline.catalog.names import slug
from waferline.catalog.text_file import check_regular
from waferline.errors import FileFormatError, UnsupportedError, WaferlineError
from waferline.workloads.networks.graph import BITS, Graph, Step, Tensor, network
from waferline.workloads.networks.input_shape import input_shapes
from waferline.workloads.networks.needs import needs
from waferline.workloads.networks.onnx_ops import BUFFER_INPUTS, CUSTOM, FUSED, Node, steps_of
from waferline.workloads.spec import ConvNet

_WRONG = (RuntimeError, ValueError, TypeError, KeyError)  # what inference raises of damaged nodes
_MOST_BYTES = 1 << 31  # neither format can hold more in one file
_SMALL = 4096  # elements of a tensor whose numbers are followed: shapes, axes, indices
_STANDARD = ("", "ai.onnx")
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")


def from_onnx(path: Path, input_shape: str | None = None) -> ConvNet:
    """The network of an ONNX file.

    Raises: UnsupportedError without the `onnx` package and for operators or control flow that are not read,
    FileFormatError for what is no ONNX file or does not fit together, InvalidInputError for sizes left open.
    """
    onnx = needs("onnx", "onnx")
    where = str(path)
    model = _loaded(onnx, path)
    graph = _Reader(onnx, model, where).read(input_shape)
    title = model.graph.name if path.stem == "model" and model.graph.name else path.stem
    spec = network(graph, title, where)
    return _named(spec, path)


def _named(spec: ConvNet, path: Path) -> ConvNet:
    from dataclasses import replace

    return replace(spec, name=slug(path.stem) or "network", metadata={"container": path.suffix[1:].lower()})


def _loaded(onnx: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(1)
            if not head or head[0] & 7 not in (0, 1, 2, 5) or head[0] < 8:  # a field of a protocol buffer begins it
                raise FileFormatError("not an ONNX file", where=str(path))
            data = head + file.read(_MOST_BYTES)
        model = onnx.load_model_from_string(data)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (DecodeError, ValueError, RecursionError):
        raise FileFormatError("not an ONNX file", where=str(path)) from None
    if not model.graph.node:
        raise FileFormatError("not an ONNX file: it has no operators", where=str(path))
    if len(model.functions):
        from onnx.inliner import inline_local_functions

        try:
            model = inline_local_functions(model)
        except (RuntimeError, ValueError, TypeError) as error:
            raise FileFormatError(f"its functions cannot be read: {_line(error)}", where=str(path)) from None
    return model


def _line(error: Exception) -> str:
    """The first line of a message of others."""
    return (str(error).strip().splitlines() or [""])[0][:120]


class _Reader:
    """Types and small numbers of one graph as they become known, node by node."""

    def __init__(self, onnx: Any, model: Any, where: str) -> None:
        self.onnx, self.model, self.where = onnx, model, where
        self.types: dict[str, Any] = {}  # TypeProto of what is known
        self.numbers: dict[str, Any] = {}  # small arrays that are known
        self.stored: dict[str, tuple[str, ...]] = {}  # name → the initializer that it is, or those it is made of
        self.constants: dict[str, Tensor] = {}
        self.tensors: dict[str, Tensor] = {}
        self.opsets = {o.domain: o.version for o in model.opset_import}

    def read(self, asked: str | None) -> Graph:
        graph = self.model.graph
        self._initializers(graph.initializer)
        inputs = [i for i in graph.input if i.name not in self.stored]
        declared = {i.name: _dimensions(i) for i in inputs}
        shapes, notes = input_shapes(asked, declared, self.where)
        for value in inputs:
            element = value.type.tensor_type.elem_type
            self.types[value.name] = self._type(element, shapes[value.name])
            self.tensors[value.name] = Tensor(shapes[value.name], self._format(element))
        steps: list[Step] = []
        buffers: set[str] = set()
        for index, node in enumerate(graph.node):
            steps += self._node(node, index, buffers)
        outputs = tuple(o.name for o in graph.output if o.name in self.tensors)
        return Graph(
            tuple(steps), self.tensors, self.constants, tuple(shapes), outputs, frozenset(buffers), notes=notes
        )

    def _type(self, element: int, shape: Iterable[int] | None) -> Any:
        return self.onnx.helper.make_tensor_type_proto(element, None if shape is None else list(shape))

    def _format(self, element: int) -> str:
        """The format of an ONNX element type."""
        name = self.onnx.TensorProto.DataType.Name(element) if element in _ELEMENTS(self.onnx) else ""
        found = _FORMATS.get(name, name.lower())
        if found not in BITS:
            raise UnsupportedError(f"element type {name or element} is not read", where=self.where)
        return found

    def _initializers(self, initializers: Any) -> None:
        for tensor in initializers:
            shape = tuple(tensor.dims)
            if any(d < 0 for d in shape):
                raise FileFormatError(f"initializer {shown(tensor.name)} of shape {shape}", where=self.where)
            self.stored[tensor.name] = (tensor.name,)
            self.constants[tensor.name] = Tensor(shape, self._format(tensor.data_type))
            self.types[tensor.name] = self._type(tensor.data_type, shape)
            if math.prod(shape) <= _SMALL and not tensor.external_data:
                try:
                    self.numbers[tensor.name] = self.onnx.numpy_helper.to_array(tensor)
                except (ValueError, TypeError, KeyError):
                    raise FileFormatError(
                        f"initializer {shown(tensor.name)} has not the numbers of its shape", where=self.where
                    ) from None

    def _node(self, node: Any, index: int, buffers: set[str]) -> list[Step]:
        """The steps of a node; none where its result is a constant."""
        if node.op_type == "If" and node.input[0] in self.numbers:
            return self._branch(node, index, buffers)
        if node.op_type in _CONTROL:
            raise UnsupportedError(f"control flow ('{node.op_type}') is not read", where=self.where)
        if node.domain not in _STANDARD and node.op_type not in CUSTOM and node.op_type not in FUSED:
            name = f"{node.domain}.{node.op_type}"
            raise UnsupportedError(f"operator {shown(name)} is not read", where=self.where)
        given = [name for name in node.input if name]
        missing = next((name for name in given if name not in self.types), None)
        if missing is not None:
            raise FileFormatError(f"{shown(missing)} is read before it is written", where=self.where)
        label = node.name or f"{node.op_type.lower()}{index}"
        self._infer(node, label)
        if all(name in self.stored for name in given) and self._constant(node, given):
            return []
        for name in node.output:
            if name:
                self._activation(name, label)
        read = Node(node.op_type, label, node, self._tensor, self.stored, _attributes(self.onnx, node))
        try:
            steps = steps_of(read)
        except WaferlineError as error:
            raise type(error)(f"{shown(label)}: {error}", where=self.where) from None
        except (IndexError, KeyError, TypeError, ZeroDivisionError, ValueError):
            raise FileFormatError(
                f"{node.op_type} {shown(label)} has not the inputs it needs", where=self.where
            ) from None
        for position in BUFFER_INPUTS.get(node.op_type, ()):
            buffers.update(origin for n in node.input[position : position + 1] for origin in self.stored.get(n, ()))
        return steps

    def _branch(self, node: Any, index: int, buffers: set[str]) -> list[Step]:
        """The steps of the branch that is taken, where the condition follows from sizes alone."""
        taken = "then_branch" if bool(np.all(self.numbers[node.input[0]])) else "else_branch"
        branch = _attributes(self.onnx, node).get(taken)
        if branch is None or len(branch.output) != len(node.output):
            raise FileFormatError(f"'If' {shown(node.name)} has no such branch", where=self.where)
        self._initializers(branch.initializer)
        rename = self.onnx.helper.make_node
        named = [rename("Identity", [a.name], [b]) for a, b in zip(branch.output, node.output, strict=True)]
        return [step for inner in (*branch.node, *named) for step in self._node(inner, index, buffers)]

    def _tensor(self, name: str) -> Tensor:
        """The tensor of any name: an activation, or a constant under the shape it has there."""
        return self.tensors[name] if name in self.tensors else _tensor(self.types[name], self._format)

    def _activation(self, name: str, label: str) -> None:
        kind = self.types.get(name)
        if kind is None or not kind.HasField("tensor_type") or not _is_known(kind):
            raise UnsupportedError(
                f"the size of what {shown(label)} gives depends on the input's values, or cannot be inferred",
                where=self.where,
            )
        self.tensors[name] = _tensor(kind, self._format)

    def _infer(self, node: Any, label: str) -> None:
        """Types of a node's outputs, and their numbers where they are small and follow from known ones."""
        if node.domain not in _STANDARD and node.op_type in FUSED:
            node = _plain(self.onnx, node)
        elif node.domain not in _STANDARD:
            CUSTOM[node.op_type](node, self.types)
            return
        onnx = self.onnx
        version = self.opsets.get("", self.opsets.get("ai.onnx", onnx.defs.onnx_opset_version()))
        try:
            schema = onnx.defs.get_schema(node.op_type, version, "")
        except (onnx.defs.SchemaError, TypeError):  # a name that is no UTF-8 is bytes
            raise UnsupportedError(
                f"operator '{node.op_type}' is not one of ONNX {version}", where=self.where
            ) from None
        data = {
            n: onnx.numpy_helper.from_array(np.asarray(self.numbers[n]), n) for n in node.input if n in self.numbers
        }
        types = {n: self.types[n] for n in node.input if n}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version
            )
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *_WRONG) as error:
            raise FileFormatError(f"{node.op_type} {shown(label)}: {_line(error)}", where=self.where) from None
        self.types.update(found)
        self._compute(node)

    def _compute(self, node: Any) -> None:
        """Numbers that shapes depend on: of Shape itself, and of everything small made of known numbers."""
        name = node.output[0] if node.output else ""
        if node.op_type in ("Shape", "Size") and node.input[0] not in self.numbers:
            kind = self.types[node.input[0]]
            if _is_known(kind):
                sizes = [d.dim_value for d in kind.tensor_type.shape.dim]
                attributes = _attributes(self.onnx, node)
                part = sizes[attributes.get("start", 0) : attributes.get("end", len(sizes))]
                self.numbers[name] = np.asarray(part if node.op_type == "Shape" else math.prod(sizes), np.int64)
                self.stored[name] = ()
            return
        given = [n for n in node.input if n]
        if not all(n in self.numbers for n in given) or node.op_type.startswith("Random") or len(node.output) != 1:
            return
        kind = self.types.get(name)
        if kind is None or (_is_known(kind) and math.prod(d.dim_value for d in kind.tensor_type.shape.dim) > _SMALL):
            return
        try:
            from onnx.reference import ReferenceEvaluator

            run = ReferenceEvaluator(_alone(self.onnx, node, self.types, self.model))
            with np.errstate(all="ignore"):
                (value,) = run.run(None, {n: self.numbers[n] for n in given})
        except Exception:
            return
        if isinstance(value, np.ndarray | np.generic) and np.size(value) <= _SMALL:
            self.numbers[name] = np.asarray(value)
            self.types[name] = self._type(kind.tensor_type.elem_type, np.shape(value))

    def _constant(self, node: Any, given: list[str]) -> bool:
        """Marks what is made of constants alone: a weight under another shape or in another format, or a shape."""
        origins = tuple(dict.fromkeys(origin for n in given for origin in self.stored[n]))
        for name in node.output:
            self.stored[name] = origins
            if node.op_type == "Constant" and _is_known(self.types[name]):
                self.constants[name] = _tensor(self.types[name], self._format)
                self.stored[name] = (name,)
        return True


def _alone(onnx: Any, node: Any, types: Mapping[str, Any], model: Any) -> Any:
    """A model of one node."""
    make = onnx.helper
    inputs = [make.make_value_info(n, types[n]) for n in dict.fromkeys(node.input) if n]
    outputs = [make.make_value_info(n, types[n]) for n in node.output if n]
    graph = make.make_graph([node], "one", inputs, outputs)
    return make.make_model(graph, opset_imports=list(model.opset_import), ir_version=max(model.ir_version, 4))


def _plain(onnx: Any, node: Any) -> Any:
    """The standard operator that a fused one is, without its activation function."""
    plain = onnx.NodeProto(op_type=FUSED[node.op_type], input=node.input[:3], output=node.output, name=node.name)
    plain.attribute.extend(a for a in node.attribute if not a.name.startswith("activation"))
    return plain


def _dimensions(value: Any) -> tuple[int | str, ...]:
    """Sizes of an input; the name (or nothing) of those that are open."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return ("",)
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param for d in kind.shape.dim)


def _is_known(kind: Any) -> bool:
    t = kind.tensor_type
    return bool(t.HasField("shape")) and all(d.HasField("dim_value") and d.dim_value >= 0 for d in t.shape.dim)


def _tensor(kind: Any, format_of: Any) -> Tensor:
    return Tensor(tuple(d.dim_value for d in kind.tensor_type.shape.dim), format_of(kind.tensor_type.elem_type))


def _attributes(onnx: Any, node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _ELEMENTS(onnx: Any) -> Any:
    return onnx.TensorProto.DataType.values()


# ONNX's name of an element type → the format, where they differ by more than case.
_FORMATS: Mapping[str, str] = {
    "FLOAT": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "DOUBLE": "fp64",
    "FLOAT8E4M3FN": "fp8",
    "FLOAT8E4M3FNUZ": "fp8",
    "FLOAT8E5M2": "fp8_e5m2",
    "FLOAT8E5M2FNUZ": "fp8_e5m2",
    "FLOAT8E8M0": "fp8",
    "FLOAT4E2M1": "fp4",
}
