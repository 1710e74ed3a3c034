"""Where layers live: square regions of a wafer, layers per region under the SRAM limit, wafers per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision, get_format
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.fitted import tile
from waferline.predict.wafer.layers import Layer
from waferline.predict.wafer.price import PREFILL_CHUNK, products
from waferline.workloads.spec import Attention

COMPUTE_FORMAT = "fp16"  # what the measured kernels multiply in; narrower weights are widened on the core


@dataclass(frozen=True, slots=True)
class CoreBytes:
    """SRAM of one core of a region: what one layer of the largest kind takes, and what every region needs besides."""

    weights: FloatArray  # per layer
    kv: FloatArray  # per layer, all sequences of the batch
    buffers: FloatArray
    head: FloatArray  # in the region that holds the head
    room: float  # bytes that code leaves

    @property
    def layers(self) -> FloatArray:
        """Layers that one core's SRAM holds."""
        return np.floor(np.maximum(self.room - self.buffers, 0.0) / (self.weights + self.kv))


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model sits on wafers in regions of one grid. `systems` is infinite where a layer does not fit a region."""

    core: CoreBytes
    layers_per_region: FloatArray
    regions: FloatArray  # that hold layers
    systems: FloatArray
    sram_utilization: FloatArray  # of the fullest core, code left out

    @property
    def free_bytes(self) -> FloatArray:
        """Bytes per core left for KV cache beside weights and buffers."""
        return self.core.room - self.core.buffers - self.layers_per_region * self.core.weights

    @property
    def in_flight(self) -> FloatArray:
        """Batches whose KV cache fits at once, at most one per region."""
        held = np.floor(self.free_bytes / (self.layers_per_region * self.core.kv))
        return np.clip(held, 1.0, self.regions)


def attention_of(layer: Layer) -> Attention:
    """The softmax attention of a layer."""
    assert layer.block is not None and isinstance(layer.block.mixer, Attention)
    return layer.block.mixer


def kept_tokens(layer: Layer, tokens: FloatArray) -> FloatArray:
    """Cached tokens of one sequence after `tokens`: all, or a window of them."""
    window = attention_of(layer).window
    return tokens if window is None else np.minimum(tokens, window)


def stored_bytes(layer: Layer, grid: Any) -> FloatArray:
    """Bytes of one layer's matrices on one core, cut over both axes and padded up; all experts. A grid of 1: all bytes."""
    total: FloatArray = np.zeros(())
    for op in layer.operators:
        each = get_format(op.weights).bytes_per_element
        for x in products(op, layer.block, decode=True):
            total = total + x.stored * tile(x.k, grid) * tile(x.n, grid) * each
    return total


def kv_bytes(layer: Layer, tokens: FloatArray, precision: Precision, grid: Any) -> FloatArray:
    """KV cache of one sequence and layer on one core: tokens over the rows by the shift policy, widths over the columns."""
    a = attention_of(layer)
    kept, width = kept_tokens(layer, tokens), tile(a.kv_heads * a.head_dim, grid)
    return 2 * tile(kept, grid) * width * get_format(precision.kv).bytes_per_element


def core_bytes(
    stack: Sequence[Layer],
    parameters: MeshParameters,
    precision: Precision,
    *,
    grid: Any,
    tokens: FloatArray,
    batch: FloatArray,
    prefill: bool,
) -> CoreBytes:
    """Bytes on a core of a `grid` × `grid` region for `batch` sequences of `tokens` tokens: the largest kind of layer, and
    the head that ends `stack`.
    """
    weights: FloatArray = np.zeros(())
    kv: FloatArray = np.zeros(())
    elements: FloatArray = np.zeros(())
    for layer in stack[:-1]:
        weights = np.maximum(weights, stored_bytes(layer, grid))
        kv = np.maximum(kv, batch * kv_bytes(layer, tokens, precision, grid))
        needed = _prefill_elements(layer, grid) if prefill else _decode_elements(layer, grid, batch)
        elements = np.maximum(elements, needed)
    buffers = elements * ELEMENT_BYTES[COMPUTE_FORMAT]
    return CoreBytes(weights, kv, buffers, stored_bytes(stack[-1], grid), float(parameters.data_bytes))


def _prefill_elements(layer: Layer, grid: Any) -> FloatArray:
    """Double buffers and result of the largest product, and the activations of residual stream and attention.

    Of the two buffers of W, one is the resident tile itself (weights, or keys and values).
    """
    largest: FloatArray = np.zeros(())
    for op in layer.operators:
        for x in products(op, layer.block, decode=False):
            mt = tile(np.minimum(x.m, PREFILL_CHUNK) * x.share, grid)
            kt, nt = tile(x.k, grid), tile(x.n, grid)
            largest = np.maximum(largest, 2 * mt * kt + kt * nt + mt * nt)
    out = layer.operator("attention.out").shape
    rows = tile(np.minimum(out["m"], PREFILL_CHUNK), grid)
    return largest + rows * (tile(out["n"], grid) + tile(out["k"], grid))


def _decode_elements(layer: Layer, grid: Any, batch: FloatArray) -> FloatArray:
    """The activations of one decode step: the residual stream and the widest results, each held twice (sum and received)."""
    wide: FloatArray = tile(layer.operator("attention.core").shape["kv_len"], grid)
    for x in products(layer.operator("attention.qkv"), layer.block, decode=True):
        wide = wide + x.results * tile(x.n, grid)
    for op in layer.operators:
        for x in products(op, layer.block, decode=True):
            wide = np.maximum(wide, x.results * tile(x.n, grid))
    return 2 * batch * (2 * tile(layer.operator("attention.out").shape["n"], grid) + wide)


def place(core: CoreBytes, layer_count: int, parameters: MeshParameters, grid: Any) -> Placement:
    """Pack `layer_count` layers, then the head, into regions of `grid` × `grid`, and regions into wafers."""
    side = np.asarray(grid, dtype=np.float64)
    per_wafer = np.floor(parameters.grid_width / side) * np.floor(parameters.grid_height / side)
    fits = core.layers
    each = np.maximum(np.minimum(fits, layer_count), 1.0)
    full = np.ceil(layer_count / each)
    each = np.ceil(layer_count / full)  # spread evenly: the same regions, more room left on every core
    last = np.maximum(layer_count - (full - 1) * each, 0.0)
    spare = core.room - core.buffers - last * (core.weights + core.kv)
    regions = full + (core.head > spare)
    possible = (fits >= 1) & (core.head <= core.room - core.buffers) & (per_wafer >= 1)
    systems = np.where(possible, np.ceil(regions / np.maximum(per_wafer, 1.0)), np.inf)
    used = core.buffers + np.maximum(each * (core.weights + core.kv), core.head)
    return Placement(core, each, regions, systems, used / core.room)
