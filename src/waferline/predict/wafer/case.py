"""One model on one kind of wafer: what a prefill or a decode step costs on a grid, and where its layers live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.formats import Precision, get_format
from waferline.machines.device import Device
from waferline.machines.mesh import MeshParameters
from waferline.machines.mesh_costs.layer_fits import DecodeFit, decode_fit
from waferline.machines.mesh_costs.transformer import (
    LayerShape,
    balanced_groups,
    decode_layer,
    prefill_layer,
    tile,
    tree_stages,
)
from waferline.predict.wafer.placement import COMPUTE_FORMAT, Placement, core_bytes, place
from waferline.predict.wafer.shapes import MeshLayer
from waferline.workloads.spec import Transformer

_ACTIVATION_BYTES = 2.0  # the residual stream between regions and wafers
_BISECTION = 2.0  # a uniform re-layout sends half of what it moves across the middle


@dataclass(frozen=True, slots=True)
class PhaseAt:
    """One phase on one grid. `time_s` is the whole pass of one batch; the parts are inside it."""

    time_s: FloatArray
    layers_s: FloatArray
    head_s: FloatArray
    hand_off_s: FloatArray
    communication_s: FloatArray  # on the mesh, inside layers_s
    in_flight: FloatArray  # batches in the pipeline of regions that the KV cache leaves room for
    passes_per_s: FloatArray  # with that many batches in flight
    placement: Placement


@dataclass(frozen=True, slots=True)
class Case:
    """Everything but the numbers. `released`: one layer times the layer count, as the released code reports."""

    model: Transformer
    device: Device
    parameters: MeshParameters
    precision: Precision
    layers: list[MeshLayer]
    released: bool

    @property
    def layer_count(self) -> int:
        return sum(layer.count for layer in self.layers)

    @property
    def head(self) -> tuple[int, int] | None:
        """Rows and columns of the output head; the released code has none."""
        if self.released or not self.model.has_head:
            return None
        return self.model.hidden_size, self.model.vocab_size

    def place(self, grid: Any, tokens: FloatArray, batch: FloatArray, *, prefill: bool) -> Placement:
        core = core_bytes(
            self.layers,
            self.head,
            self.parameters,
            self.precision,
            grid=grid,
            tokens=tokens,
            batch=batch,
            prefill=prefill,
        )
        return place(core, self.layer_count, self.parameters, grid)

    def decode(
        self, grid: Any, tokens: FloatArray, batch: FloatArray, stages: Any = None, fit: DecodeFit | None = None
    ) -> PhaseAt:
        """One decode step at `tokens` cached tokens; `stages` per all-reduce, those of a balanced tree when None."""
        stages = tree_stages(grid, balanced_groups(grid)) if stages is None else stages
        total: FloatArray = np.zeros(())
        communication: FloatArray = np.zeros(())
        for layer in self.layers:
            one = decode_layer(
                layer.shape,
                grid,
                1,
                layer.context(tokens),
                batch,
                parameters=self.parameters,
                number_format=COMPUTE_FORMAT,
                stages=stages,
                fit=fit,
            )
            total = total + layer.count * one.total
            communication = communication + layer.count * one.communication
        where = self.place(grid, tokens, batch, prefill=False)
        return self._phase(grid, total, communication, self._head_cycles(grid, stages, batch), batch, where)

    def prefill(self, grid: Any, tokens: FloatArray, batch: FloatArray) -> PhaseAt:
        """The prefill of `batch` prompts of `tokens` tokens."""
        total: FloatArray = np.zeros(())
        communication: FloatArray = np.zeros(())
        for layer in self.layers:
            one = prefill_layer(
                layer.shape, grid, tokens, batch, parameters=self.parameters, number_format=COMPUTE_FORMAT
            )
            total = total + layer.count * one.total
            communication = communication + layer.count * one.communication
        stages = tree_stages(grid, balanced_groups(grid))
        where = self.place(grid, tokens, batch, prefill=True)
        return self._phase(grid, total, communication, self._head_cycles(grid, stages, batch), batch * tokens, where)

    def _phase(
        self,
        grid: Any,
        cycles: FloatArray,
        communication: FloatArray,
        head: FloatArray,
        rows: FloatArray,
        where: Placement,
    ) -> PhaseAt:
        clock = self.parameters.clock_hz
        hand_off = np.zeros(()) if self.released else self._hand_off_s(grid, rows, where)
        each = cycles / self.layer_count * where.layers_per_region
        stage_s = np.maximum(each, head) / clock + hand_off / np.maximum(where.regions, 1.0)
        time_s = (cycles + head) / clock + hand_off
        in_flight = where.in_flight
        return PhaseAt(
            time_s=time_s,
            layers_s=cycles / clock,
            head_s=head / clock,
            hand_off_s=hand_off,
            communication_s=communication / clock,
            in_flight=in_flight,
            passes_per_s=np.minimum(in_flight / time_s, 1.0 / stage_s),
            placement=where,
        )

    def _head_cycles(self, grid: Any, stages: Any, batch: FloatArray) -> FloatArray:
        """The output head as one more MeshGEMV: local rows, payload, one all-reduce and the argmax's."""
        if self.head is None:
            return np.zeros(())
        p, fit = self.parameters, decode_fit(self.parameters.name)
        d, v = tile(self.head[0], grid), tile(self.head[1], grid)
        local = batch * d * (np.ceil(v / p.simd(COMPUTE_FORMAT)) + fit.row_cycles)
        words = batch * v / p.elements_per_word(COMPUTE_FORMAT) / p.link_words_per_cycle
        return local + words + 2 * (p.hop_cycles * np.asarray(grid) + p.stage_cycles * np.asarray(stages))

    def _hand_off_s(self, grid: Any, rows: FloatArray, where: Placement) -> FloatArray:
        """Activations from region to region (a shift by one grid side) and from wafer to wafer (over its I/O)."""
        p = self.parameters
        words = np.ceil(rows * tile(self.model.hidden_size, grid) / p.elements_per_word(COMPUTE_FORMAT))
        inside = (p.hop_cycles * np.asarray(grid) + words / p.link_words_per_cycle + p.stage_cycles) / p.clock_hz
        io = self.device.link("io")
        systems = np.where(np.isfinite(where.systems), where.systems, 1.0)
        crossings = np.where(systems > 1, systems, 0.0)  # the last wafer's token returns to the first
        between = np.zeros(())
        if io is not None:
            payload = rows * self.model.hidden_size * _ACTIVATION_BYTES
            between = payload / io.bandwidth_bytes_per_s + io.latency_s
        return np.maximum(where.regions - systems, 0.0) * inside + crossings * between

    def transition_s(self, prefill_grid: Any, decode_grid: Any, tokens: FloatArray, batch: FloatArray) -> FloatArray:
        """Re-layout between phases: KV cache always, weights too where the grids differ, over the mesh's bisection."""
        if self.released:
            return np.zeros(())
        p = self.parameters
        kv = (
            sum(layer.count * 2 * layer.shape.key_value * layer.context(tokens) * batch for layer in self.layers)
            * get_format(self.precision.kv).bytes_per_element
        )
        weights = sum(layer.count * stored_elements(layer.shape) for layer in self.layers)
        moved = kv + np.where(
            np.asarray(prefill_grid) != decode_grid, weights * get_format(self.precision.weights).bytes_per_element, 0.0
        )
        side = np.minimum(np.asarray(prefill_grid, dtype=np.float64), decode_grid)
        words = moved / p.word_bytes / _BISECTION
        return (words / (side * p.link_words_per_cycle) + 2 * p.hop_cycles * side) / p.clock_hz

    def light_s(self, tokens: FloatArray, batch: FloatArray, new: FloatArray) -> FloatArray:
        """Speed of light of `new` tokens per sequence that end at `tokens`, on one wafer.

        Every weight in use and every cached value is read once, every product runs at the dense peak. A prompt's tokens
        attend to half of it on average.
        """
        used = sum(layer.count * active_elements(layer.shape) for layer in self.layers)
        cached = sum(layer.count * 2 * layer.shape.key_value * layer.context(tokens) for layer in self.layers)
        read = used * get_format(self.precision.weights).bytes_per_element
        read = read + batch * cached * get_format(self.precision.kv).bytes_per_element
        seen = np.where(new > 1, 0.5, 1.0)
        scores = sum(2 * layer.count * layer.shape.query * layer.context(tokens) * seen for layer in self.layers)
        flops = 2.0 * batch * new * (used + scores)
        return np.maximum(read / self.device.bandwidth_bytes_per_s, flops / self.device.peak(COMPUTE_FORMAT))


def stored_elements(shape: LayerShape) -> float:
    """Weight elements of one layer, all experts."""
    return _elements(shape, shape.router or shape.experts)


def active_elements(shape: LayerShape) -> float:
    """Weight elements of one layer that one token multiplies."""
    return _elements(shape, shape.experts)


def _elements(shape: LayerShape, experts: int) -> float:
    attention = 2 * shape.hidden * shape.query + 2 * shape.hidden * shape.key_value
    each = (3 if shape.gated else 2) * shape.hidden
    return float(attention + each * (experts * shape.intermediate + shape.shared) + shape.hidden * shape.router)
