"""A network as its file states it: steps in execution order over tensors; and the model that they make.

Formats of readers end here: each turns its operators into steps, and everything that follows is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

from waferline.errors import FileFormatError, InvalidInputError
from waferline.workloads.spec import ConvNet, Work

# Bits of one element as stored.
BITS: Mapping[str, int] = {
    **dict.fromkeys(("fp64", "int64", "uint64", "complex64"), 64),
    **dict.fromkeys(("fp32", "int32", "uint32"), 32),
    **dict.fromkeys(("fp16", "bf16", "int16", "uint16"), 16),
    **dict.fromkeys(("int8", "uint8", "fp8", "fp8_e5m2", "bool"), 8),
    **dict.fromkeys(("int4", "uint4", "fp4"), 4),
    **dict.fromkeys(("int2", "uint2"), 2),
    "complex128": 128,
    "string": 0,
}
_MOST_ELEMENTS = 10**13  # of one tensor: no network comes near, and a damaged file would
_MOST_STEPS = 200_000
StepKind = Literal["conv", "gemm", "norm", "softmax", "elementwise", "gather"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Sizes and format of one tensor."""

    shape: tuple[int, ...]
    format: str

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return -(-self.elements * BITS[self.format] // 8)


@dataclass(frozen=True, slots=True)
class Product:
    """`count` matrix products of m × n × k, each in `groups` parts: y[m, n] = x[m, k] · W[k, n] in every group."""

    m: int
    n: int
    k: int
    groups: int = 1
    count: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One operator: the matrix products it makes, or a stream over its output; `constants` are weights by name.

    `view`: the output is the input under another shape. `kernel`: input elements that each output element takes.
    `fuses`: runtimes make it part of the step in front of it, if nothing else reads that one. `folds`: another order or part
    of its input, which runtimes let the next step read as it is; it has memory of its own and takes no time.
    """

    name: str
    kind: StepKind
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    constants: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()
    view: bool = False
    kernel: int = 1
    fuses: bool = False
    folds: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps in order. `buffers` are stored but not learned (running statistics, scales); `states` live all the time."""

    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    buffers: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    notes: tuple[str, ...] = field(default=())


def network(graph: Graph, title: str, where: str) -> ConvNet:
    """The model of a graph.

    Raises: FileFormatError for a graph without steps, InvalidInputError for sizes that no network has.
    """
    if not graph.steps:
        raise FileFormatError("no operators", where=where)
    if len(graph.steps) > _MOST_STEPS:
        raise InvalidInputError(f"{len(graph.steps)} operators, more than {_MOST_STEPS}", where=where)
    for name, tensor in (*graph.tensors.items(), *graph.constants.items()):
        if any(size < 0 for size in tensor.shape) or tensor.elements > _MOST_ELEMENTS:
            raise InvalidInputError(f"tensor {name[:60]!r} of shape {tensor.shape}", where=where)
    graph = replace(graph, steps=_fused(graph))
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return ConvNet(
        name="",
        title=title,
        family="network",
        layers=tuple(_works(graph)),
        input_shape=shape,
        precision=_precision(graph),
        stored_bytes=sum(constant.nbytes for constant in graph.constants.values()),
        peak_bytes=peak_bytes(graph),
        notes=graph.notes,
    )


def _fused(graph: Graph) -> tuple[Step, ...]:
    """The steps with norms, activation functions, sums and other views made part of the step before whose only reader they are.

    A sum of two goes to the later of them, which then reads the earlier one, too. What has more or fewer elements stays apart.
    """
    readers: dict[str, int] = {}
    for name in (*graph.outputs, *(name for step in graph.steps for name in step.reads)):
        readers[name] = readers.get(name, 0) + 1
    steps: list[Step] = []
    made: dict[str, int] = {}  # what can be fused to → its place
    place: dict[str, int] = {}  # of the step that writes a tensor
    for step in graph.steps:
        alone = [name for name in step.reads if _joins(graph, step, name) and name in made and readers[name] == 1]
        at = max((made[name] for name in alone), default=-1)
        onto = next((name for name in alone if made[name] == at), "")
        others = tuple(name for name in step.reads if name != onto)
        if at >= 0 and all(place.get(name, -1) < at for name in others):
            before = steps[at]
            steps[at] = replace(
                before,
                reads=tuple(dict.fromkeys((*before.reads, *others))),
                writes=step.writes,
                constants=tuple(dict.fromkeys((*before.constants, *(step.constants if step.fuses else ())))),
            )
        else:
            at = len(steps)
            steps.append(step)
        place.update(dict.fromkeys(step.writes, at))
        if (steps[at].products or steps[at].fuses) and len(steps[at].writes) == 1:
            made[steps[at].writes[0]] = at
    return tuple(steps)


def _joins(graph: Graph, step: Step, name: str) -> bool:
    """Whether a step may be made part of the one that writes `name`."""
    alike = len(step.writes) == 1 and graph.tensors[step.writes[0]].elements == graph.tensors[name].elements
    return alike and (step.fuses or step.view or step.folds)


def _works(graph: Graph) -> list[Work]:
    """One record for each matrix product, one for each other step; a constant belongs to the first that reads it."""
    works: list[Work] = []
    seen: set[str] = set()
    for step in graph.steps:
        if step.view or step.folds:
            continue
        own = [name for name in step.constants if name not in seen]
        seen.update(own)
        learned = [graph.constants[name].elements for name in own if _is_learned(graph, step, name)]
        base = Work(
            name=step.name,
            kind=step.kind,
            params=sum(learned),
            weight_bytes=sum(graph.constants[name].nbytes for name in step.constants),
            input_elements=sum(graph.tensors[name].elements for name in step.reads),
            output_elements=sum(graph.tensors[name].elements for name in step.writes),
            kernel=step.kernel,
        )
        first = True
        for p in step.products:
            rest = base if first else replace(base, params=0, weight_bytes=0, input_elements=0, output_elements=0)
            works.append(replace(rest, m=p.m, n=p.n, k=p.k, groups=p.groups, count=p.count))
            first = False
        if not step.products:
            works.append(base)
    return works


def _is_learned(graph: Graph, step: Step, name: str) -> bool:
    """Whether a constant is a parameter: no statistic or scale, no index, no number that a formula is written with."""
    constant = graph.constants[name]
    if name in graph.buffers or constant.format in ("int64", "bool", "string"):
        return False
    return bool(constant.shape) if step.products else constant.elements > 1 and constant.format != "int32"


def _precision(graph: Graph) -> str:
    """Formats that most of the arithmetic is in, as `--precision` takes them: w8a8, fp16, w=int8,a=fp32."""
    weights: dict[str, int] = {}
    activations: dict[str, int] = {}
    root, held = _storage(graph)
    for step in graph.steps:
        macs = sum(p.m * p.n * p.k * p.groups * p.count for p in step.products)
        matrices = [graph.constants[name] for name in step.constants if len(graph.constants[name].shape) > 1]
        read = [held[root.get(name, name)] for name in step.reads]
        for table, found in ((weights, matrices), (activations, read)):
            for tensor in found[:1]:
                name = _CALLED.get(tensor.format, "")
                table[name] = table.get(name, 0) + macs
    weight = max(weights, key=lambda f: weights[f], default="fp32") or "fp32"
    activation = max(activations, key=lambda f: activations[f], default="fp32") or "fp32"
    if weight == activation:
        return "w8a8" if weight == "int8" else weight
    return f"w={weight},a={activation}"


# Format of a tensor → what `--precision` calls it.
_CALLED: Mapping[str, str] = {
    **{name: name for name in ("fp64", "fp32", "fp16", "bf16", "fp8", "fp8_e5m2", "int8", "int4", "int2")},
    "uint8": "int8",
    "uint4": "int4",
    "uint2": "int2",
    "int16": "fp16",
}


def _storage(graph: Graph) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The tensor whose memory each view shares, and how each memory is held: in the narrowest format that it is seen in.

    What a quantiser reads is held quantised: runtimes make it part of the operator before.
    """
    root: dict[str, str] = {}
    held = dict(graph.tensors)
    for step in graph.steps:
        if not step.view:
            continue
        for name in step.writes:
            at = root.get(step.reads[0], step.reads[0])
            if at in graph.inputs and held[name].nbytes != held[at].nbytes:
                continue  # the caller's numbers stay as they are
            root[name] = at
            if held[name].nbytes < held[at].nbytes:
                held[at] = held[name]
    return root, held


def peak_bytes(graph: Graph) -> int:
    """Most bytes of activations alive at once when the steps run in order, inputs and outputs of the network included.

    A view shares its input's memory; nothing else does.
    """
    root, held_in = _storage(graph)
    size = {name: tensor.nbytes for name, tensor in held_in.items()}
    last: dict[str, int] = {}
    for index, step in enumerate(graph.steps):
        for name in (*step.reads, *step.writes):
            last[root.get(name, name)] = index
    for name in graph.outputs:
        last[root.get(name, name)] = len(graph.steps)
    alive = {root.get(name, name) for name in (*graph.inputs, *graph.states)}
    peak = held = sum(size.get(name, 0) for name in alive)
    ending: dict[int, list[str]] = {}
    for name, index in last.items():
        ending.setdefault(index, []).append(name)
    for index, step in enumerate(graph.steps):
        for name in step.writes:
            at = root.get(name, name)
            if at not in alive:
                alive.add(at)
                held += size.get(at, 0)
        peak = max(peak, held)
        for name in ending.get(index, ()):
            if name in alive and name not in graph.states:
                alive.discard(name)
                held -= size.get(name, 0)
    return peak
