"""Convolutional networks lowered to operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from waferline.workloads.build import Builder
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Conv, ConvNet

FloatArray = npt.NDArray[np.float64]


def lower_convnet(model: ConvNet, b: Builder, batch: FloatArray) -> Iterator[Operator]:
    """One operator per layer; batch norm is folded into the weights and the activation fused, as inference engines do."""
    for layer in model.layers:
        yield _conv(layer, b, batch)


def _conv(c: Conv, b: Builder, batch: FloatArray) -> Operator:
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
            "n": np.asarray(c.c_out / c.groups),
            "k": np.asarray(c.c_in / c.groups * c.kernel_h * c.kernel_w),
            "groups": float(c.groups),
        },
    )
