"""Networks lowered to operators: convolutions as the catalogue has them, operators as files have them."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.arrays import Floats
from waferline.elementwise import minimum
from waferline.formats import Precision, get_format
from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Conv, ConvNet, Work

_NORM_PASSES = 4.0  # training: read for the statistics, read and write to normalise, read again by the activation
_FLOPS_EACH = {"norm": 6.0, "softmax": 3.0, "elementwise": 1.0, "gather": 0.0}  # of an output element


def lower_convnet(model: ConvNet, b: Builder, batch: Floats, *, training: bool = False) -> Iterator[Operator]:
    """One operator per layer. Inference folds batch norm into the weights; training runs it on its own."""
    stored = as_stored(model, b.precision)
    for layer in model.layers:
        if isinstance(layer, Work):
            yield _work(layer, b, batch, stored)
            continue
        yield _conv(layer, b, batch)
        if training and layer.batch_norm:
            elements = batch * layer.output_elements / layer.count
            yield b.streaming(f"{layer.name}.norm", "norm", elements, passes=_NORM_PASSES, count=layer.count)


def as_stored(model: ConvNet, precision: Precision) -> bool:
    """Whether the weights are run in the format that the file has them in."""
    return model.precision is not None and precision.weights == stored_format(model.precision)


def live_bytes(model: ConvNet, precision: Precision, *, training: bool) -> float:
    """Activations of one input that are alive at once: in training all, else the most that any moment needs."""
    element = get_format(precision.activations).bytes_per_element
    if training:
        return float(sum(layer.output_elements for layer in model.layers)) * element
    if model.precision is None:
        return max((c.input_elements + c.output_elements) / c.count for c in model.layers) * element
    return model.peak_bytes * element / get_format(_activations(model.precision)).bytes_per_element


def _activations(precision: str) -> str:
    """The activation format that a file's precision names."""
    named = dict(part.split("=") for part in precision.split(",")) if "=" in precision else {}
    return {"w8a8": "int8"}.get(precision) or named.get("a") or precision


def stored_format(precision: str) -> str:
    """The weight format that a file's precision names."""
    named = dict(part.split("=") for part in precision.split(",")) if "=" in precision else {}
    return get_format({"w8a8": "int8"}.get(precision) or named.get("w") or precision).name


def _work(w: Work, b: Builder, batch: Floats, stored: bool) -> Operator:
    """`batch` times what the file states, as more rows of activations."""
    count = float(w.count)
    weight_bytes: Floats = float(w.weight_bytes) if stored else _weights(w) * b.weight_bytes
    if w.kind == "gather":  # rows of a table, not the table
        weight_bytes = minimum(weight_bytes, batch * w.output_elements * (weight_bytes / max(1.0, _weights(w))))
    moved = batch * (w.input_elements + w.output_elements) * b.activation_bytes
    if not w.macs:
        return b.operator(
            w.name,
            w.kind,
            count=count,
            flops=batch * w.output_elements * max(_FLOPS_EACH.get(w.kind, 1.0), float(w.kernel)) / count,
            weight_bytes=weight_bytes / count,
            activation_bytes=moved / count,
            shape={"elements": batch * w.output_elements / count},
        )
    has_weights = w.weight_bytes > 0
    # Products of activations alone are batched kernels; those with weights that follow one another are as many.
    rows, times = (batch * w.m, count) if has_weights else (batch * (w.m * count / w.kernels), float(w.kernels))
    return b.operator(
        w.name,
        w.kind,
        count=times,
        flops=2.0 * rows * w.n * w.k * w.groups,
        weight_bytes=weight_bytes / times,
        activation_bytes=moved / times,
        shape={"m": rows, "n": w.n, "k": w.k} | ({"groups": float(w.groups)} if w.kind == "conv" else {}),
        weights=None if has_weights else b.precision.activations,
    )


def _weights(w: Work) -> float:
    """Weights that an operator reads, also where another one had them first."""
    return float(max(w.params, w.n * w.k * w.groups if w.macs and w.weight_bytes else 0))


def _conv(c: Conv, b: Builder, batch: Floats) -> Operator:
    element = b.activation_bytes
    weights = c.c_in // c.groups * c.c_out * c.kernel_h * c.kernel_w
    return b.operator(
        c.name,
        "conv",
        count=float(c.count),
        flops=2.0 * c.macs / c.count * batch,
        weight_bytes=weights * b.weight_bytes,
        activation_bytes=batch * (c.input_elements + c.output_elements) / c.count * element,
        shape={
            "m": batch * c.h_out * c.w_out,
            "n": c.c_out / c.groups,
            "k": c.c_in / c.groups * c.kernel_h * c.kernel_w,
            "groups": float(c.groups),
        },
    )
