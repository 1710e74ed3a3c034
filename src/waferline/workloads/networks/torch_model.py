"""PyTorch modules and `.pt2` files, through `torch.export`: every ATen operator of the exported graph becomes a step.

Needs PyTorch (extra `torch`) to trace a module or to open a file; nothing is run. Exported programs:
https://docs.pytorch.org/docs/stable/export.html, operators: https://docs.pytorch.org/docs/stable/torch.compiler_ir.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from waferline.catalog.names import slug
from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.workloads.networks import arithmetic
from waferline.workloads.networks.graph import BITS, Graph, Product, Step, StepKind, Tensor, network
from waferline.workloads.networks.input_shape import input_shapes, shapes_of
from waferline.workloads.networks.needs import needs
from waferline.workloads.spec import ConvNet

_FORMATS: Mapping[str, str] = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8_e5m2",
}


def from_torch(source: Any, input_shape: str | None = None) -> ConvNet:
    """The network of a module (traced on inputs of `input_shape`), an exported program, or a `.pt2` file's path.

    Raises: UnsupportedError without PyTorch, for modules that cannot be traced, and for what depends on the input's values;
    FileFormatError for a damaged file; InvalidInputError for a module without `input_shape`.
    """
    torch = needs("torch", "torch")
    title = source.stem if isinstance(source, Path) else type(source).__name__
    where = str(source) if isinstance(source, Path) else title
    program = _opened(torch, source, where) if isinstance(source, Path) else source
    if not hasattr(program, "graph_signature"):
        program = _traced(torch, program, input_shape, where)
        input_shape = None
    graph = _graph(program, input_shape, where)
    return replace(network(graph, title, where), name=slug(title) or "network", metadata={"container": "pt2"})


def _opened(torch: Any, path: Path, where: str) -> Any:
    try:
        return torch.export.load(path)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror or error}", where=where) from None
    except Exception:
        raise FileFormatError("not a file of torch.export.save", where=where) from None


def _traced(torch: Any, module: Any, input_shape: str | None, where: str) -> Any:
    if input_shape is None:
        raise InvalidInputError("a module does not say its input", where=where, hint="give input_shape='1x3x224x224'")
    parameter = next(iter(module.parameters()), None)
    kind = parameter.dtype if parameter is not None else None
    inputs = tuple(torch.zeros(shape, dtype=kind) for shape in shapes_of(input_shape))
    try:
        return torch.export.export(module.eval(), inputs)
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UnsupportedError(f"torch.export cannot trace it: {line}", where=where) from None


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of an operator: what it is given, by position, and the tensors of what is a tensor."""

    op: str
    label: str
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]
    writes: tuple[str, ...]

    def given(self, index: int, name: str, default: Any = None) -> Any:
        return self.args[index] if index < len(self.args) else self.keywords.get(name, default)

    def tensor(self, index: int) -> Tensor:
        name = self.args[index].name
        return self.constants.get(name) or self.tensors[name]

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensor(index).shape

    def out(self) -> tuple[int, ...]:
        return self.tensors[self.writes[0]].shape

    def fixed(self, index: int) -> bool:
        return self.args[index].name in self.constants


def _graph(program: Any, input_shape: str | None, where: str) -> Graph:
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    stored |= dict(getattr(signature, "inputs_to_lifted_tensor_constants", {}))
    tensors: dict[str, Tensor] = {}
    constants: dict[str, Tensor] = {}
    inputs: dict[str, tuple[int | str, ...]] = {}
    steps: list[Step] = []
    outputs: tuple[str, ...] = ()
    for node in program.graph_module.graph.nodes:
        if node.op == "output":
            outputs = tuple(n.name for n in _nodes(node.args) if n.name in tensors)
            continue
        if node.op == "get_attr":
            raise UnsupportedError("control flow is not read", where=where)
        found = _values(node, where)
        if node.op == "placeholder":
            (constants if node.name in stored else tensors).update(found)
            if node.name not in stored:
                inputs |= {name: tensor.shape for name, tensor in found.items()}
        else:
            tensors.update(found)
            steps += _steps(node, found, tensors, constants, where)
    _, notes = input_shapes(input_shape, inputs, where)
    buffers = frozenset(signature.inputs_to_buffers)
    return Graph(tuple(steps), tensors, constants, tuple(inputs), outputs, buffers, notes=notes)


def _nodes(value: Any) -> list[Any]:
    """Every node in nested arguments."""
    if hasattr(value, "op") and hasattr(value, "meta"):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [node for item in items for node in _nodes(item)]


def _values(node: Any, where: str) -> dict[str, Tensor]:
    """The tensors that a node stands for, one or several, by name."""
    value = node.meta.get("val")
    items = value if isinstance(value, list | tuple) else [value]
    found = {}
    for index, item in enumerate(items):
        if not hasattr(item, "shape"):
            continue
        if not all(type(d) is int for d in item.shape):
            raise UnsupportedError(
                f"the shape of '{node.name}' is dynamic", where=where, hint="export it with fixed shapes"
            )
        kind = str(item.dtype).removeprefix("torch.")
        if _FORMATS.get(kind, kind) not in BITS:
            raise UnsupportedError(f"element type {kind} is not read", where=where)
        name = node.name if not isinstance(value, list | tuple) else f"{node.name}.{index}"
        found[name] = Tensor(tuple(item.shape), _FORMATS.get(kind, kind))
    return found


def _steps(
    node: Any, found: Mapping[str, Tensor], tensors: Mapping[str, Tensor], constants: Mapping[str, Tensor], where: str
) -> list[Step]:
    target = str(node.target)
    if "getitem" in target:  # one of several outputs
        source, index = node.args
        name = f"{source.name}.{index}"
        return [Step(node.name, "gather", (name,), (node.name,), view=True)] if name in tensors else []
    if not target.startswith("aten."):
        if not found or "assert" in target or "sym_" in target:
            return []
        raise UnsupportedError(f"operator '{target[:60]}' is not read", where=where)
    op = target.split(".")[1]
    if not found:
        return []
    call = _Call(op, node.name, tuple(node.args), node.kwargs, tensors, constants, tuple(found))
    names = list(dict.fromkeys(n.name for n in _nodes((node.args, node.kwargs))))
    base = Step(
        name=node.name,
        kind="elementwise",
        reads=tuple(n for n in names if n in tensors),
        writes=tuple(found),
        constants=tuple(n for n in names if n in constants),
    )
    if op in _PRODUCTS:
        try:
            return _PRODUCTS[op](call, base)
        except InvalidInputError as error:
            raise UnsupportedError(f"{node.name}: {error}", where=where) from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, WaferlineError):
                raise
            raise UnsupportedError(f"{node.name}: '{op}' is not called as documented", where=where) from None
    kind: StepKind = next((kind for kind, part in _STREAMS if any(p in op for p in part)), "elementwise")
    kernel = 1
    if "pool" in op and base.reads:
        kernel = _kernel(call)
    return [replace(base, kind=kind, view=op in _VIEWS and bool(base.reads), fuses=op in _FUSES, kernel=kernel)]


def _kernel(call: _Call) -> int:
    """Elements that one output of a pooling takes."""
    size = call.given(1, "kernel_size", 1)
    if "adaptive" in call.op or call.op == "mean":
        return max(1, prod(call.shape(0)) // max(1, prod(call.out())))
    sizes = size if isinstance(size, list | tuple) else [size]
    spatial = len(call.shape(0)) - 2
    return prod(sizes) ** (1 if len(sizes) > 1 else max(1, spatial))


def _one(kind: StepKind, step: Step, *products: Product) -> list[Step]:
    return [replace(step, kind=kind, products=products)]


def _conv(call: _Call, step: Step) -> list[Step]:
    """conv1d, conv2d, conv3d: groups are the seventh argument."""
    weight, out, groups = call.shape(1), call.out(), call.given(6, "groups", 1)
    positions = prod(out) // max(1, weight[0])
    return _one("conv", step, arithmetic.convolution(positions, weight[1] * groups, weight[0], weight[2:], groups))


def _conv_transpose(call: _Call, step: Step) -> list[Step]:
    weight, given, groups = call.shape(1), call.shape(0), call.given(6, "groups", 1)
    positions = prod(given) // max(1, weight[0])
    product = arithmetic.transposed_convolution(positions, weight[0], weight[1] * groups, weight[2:], groups)
    return _one("conv", step, product)


def _convolution(call: _Call, step: Step) -> list[Step]:
    """The general one: transposed is the seventh argument, groups the ninth."""
    groups, transposed = call.given(8, "groups", 1), call.given(6, "transposed", False)
    changed = replace(call, args=(*call.args[:6], groups), keywords={})
    return _conv_transpose(changed, step) if transposed else _conv(changed, step)


def _linear(call: _Call, step: Step) -> list[Step]:
    """Weights are (out, in)."""
    n, k = call.shape(1)
    return _one("gemm", step, Product(prod(call.shape(0)) // max(1, k), n, k))


def _matmul(first: int) -> Callable[[_Call, Step], list[Step]]:
    def read(call: _Call, step: Step) -> list[Step]:
        product = arithmetic.matrix_product(call.shape(first), call.shape(first + 1), call.fixed(first + 1))
        return _one("gemm", step, product)

    return read


def _einsum(call: _Call, step: Step) -> list[Step]:
    operands = [(call.constants.get(n.name) or call.tensors[n.name]).shape for n in _nodes(call.args[1])]
    if len(operands) != 2:
        raise InvalidInputError(f"an Einstein sum of {len(operands)} operands is not read")
    return _one("gemm", step, arithmetic.einsum(call.args[0], *operands))


def _attention(call: _Call, step: Step) -> list[Step]:
    q, k, v = call.shape(0), call.shape(1), call.shape(2)
    batch = prod(q[:-3])
    heads = q[-3] if len(q) > 2 else 1
    return _one("gemm", step, *arithmetic.attention(batch, heads, q[-2], k[-2], q[-1], v[-1]))


def _recurrent(gates: int) -> Callable[[_Call, Step], list[Step]]:
    def read(call: _Call, step: Step) -> list[Step]:
        """input, states, weights of all layers and directions, then has_biases, layers, dropout, train, bidirectional,
        batch_first. Each direction of a layer has two matrices and, with biases, two vectors."""
        given, weights = call.shape(0), [n.name for n in _nodes(call.args[2])]
        biased, directions, first = bool(call.args[3]), 2 if call.args[7] else 1, bool(call.args[8])
        batch, length = (given[0], given[1]) if first else (given[1], given[0])
        each = 4 if biased else 2
        steps = []
        for start in range(0, len(weights), each):
            for at in (0, 1):
                rows, columns = call.constants[weights[start + at]].shape
                names = tuple(weights[start + at : start + each : 2])
                product = (
                    Product(length * batch, rows, columns) if at == 0 else Product(batch, rows, columns, count=length)
                )
                steps.append(replace(step, kind="gemm", constants=names, products=(product,)))
        if not steps or rows % gates or len(weights) % (each * directions):
            raise InvalidInputError("its weights are not those of whole layers")
        return steps

    return read


_PRODUCTS: Mapping[str, Callable[[_Call, Step], list[Step]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transpose),
    "convolution": _convolution,
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm"), _matmul(0)),
    **dict.fromkeys(("addmm", "baddbmm"), _matmul(1)),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent(4),
    "gru": _recurrent(3),
}
_VIEWS = (
    *(
        "view",
        "_unsafe_view",
        "reshape",
        "flatten",
        "squeeze",
        "unsqueeze",
        "permute",
        "transpose",
        "t",
        "expand",
        "alias",
    ),
    *(
        "slice",
        "select",
        "split",
        "chunk",
        "unbind",
        "detach",
        "dropout",
        "contiguous",
        "unflatten",
        "split_with_sizes",
    ),
    *("lift_fresh_copy", "feature_dropout", "movedim", "narrow", "dropout_", "identity"),
)
_FUSES = (
    *("batch_norm", "_native_batch_norm_legit_no_training", "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "silu"),
    *("silu_", "hardswish", "hardswish_", "hardsigmoid", "sigmoid", "tanh", "gelu", "leaky_relu", "elu", "mish"),
    *("add", "add_", "mul", "mul_"),
)
_STREAMS: tuple[tuple[StepKind, tuple[str, ...]], ...] = (
    ("norm", ("norm",)),
    ("softmax", ("softmax",)),
    (
        "gather",
        ("embedding", "index", "gather", "cat", "stack", "pad", "roll", "upsample", "pixel_", "clone", "repeat"),
    ),
    ("gather", ("copy", "permute", "transpose", "interpolate", "arange", "zeros", "ones", "full")),
)
