"""Convolutional networks lowered to operators."""

from __future__ import annotations

from collections.abc import Iterator

from waferline.arrays import Floats
from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Conv, ConvNet

_NORM_PASSES = 4.0  # training: read for the statistics, read and write to normalise, read again by the activation


def lower_convnet(model: ConvNet, b: Builder, batch: Floats, *, training: bool = False) -> Iterator[Operator]:
    """One operator per layer. Inference folds batch norm into the weights; training runs it on its own."""
    for layer in model.layers:
        yield _conv(layer, b, batch)
        if training and layer.batch_norm:
            elements = batch * layer.output_elements / layer.count
            yield b.streaming(f"{layer.name}.norm", "norm", elements, passes=_NORM_PASSES, count=layer.count)


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
