"""Where layers live: square regions of a wafer, layers per region under the SRAM limit, wafers per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision, get_format
from waferline.machines.mesh import ELEMENT_BYTES, MeshParameters
from waferline.machines.mesh_costs.layer_memory import (
    decode_buffer_elements,
    layer_matrices,
    prefill_buffer_elements,
    tile_bytes,
)
from waferline.machines.mesh_costs.transformer import tile
from waferline.predict.wafer.shapes import MeshLayer

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
    regions_per_wafer: FloatArray
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


def core_bytes(
    layers: Sequence[MeshLayer],
    head: tuple[int, int] | None,
    parameters: MeshParameters,
    precision: Precision,
    *,
    grid: Any,
    tokens: FloatArray,
    batch: FloatArray,
    prefill: bool,
) -> CoreBytes:
    """Bytes on a core of a `grid` × `grid` region for `batch` sequences of `tokens` tokens; tiles are padded up.

    KV is spread over rows by the shift policy, so every core keeps the same number of tokens to within one.
    """
    stored = get_format(precision.weights).bytes_per_element
    cached = get_format(precision.kv).bytes_per_element
    weights: FloatArray = np.zeros(())
    kv: FloatArray = np.zeros(())
    buffers: FloatArray = np.zeros(())
    for layer in layers:
        kept = layer.context(tokens)
        weights = np.maximum(weights, tile_bytes(layer_matrices(layer.shape), grid, stored))
        kv = np.maximum(kv, batch * 2 * tile(kept, grid) * tile(layer.shape.key_value, grid) * cached)
        elements = (
            prefill_buffer_elements(layer.shape, grid, tokens, batch)
            if prefill
            else decode_buffer_elements(layer.shape, grid, kept, batch)
        )
        buffers = np.maximum(buffers, elements * ELEMENT_BYTES[COMPUTE_FORMAT])
    width = get_format(precision.head).bytes_per_element
    head_bytes = tile_bytes([(1, *head)], grid, width) if head else np.zeros(())
    return CoreBytes(weights, kv, buffers, head_bytes, float(parameters.data_bytes))


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
    return Placement(core, each, regions, per_wafer, systems, used / core.room)
