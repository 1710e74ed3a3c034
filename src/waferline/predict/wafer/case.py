"""One model on one kind of wafer: what a prefill or a decode step costs on a grid, and where its layers live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import Precision, resolve
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.mesh import MeshParameters, load_parameters
from waferline.machines.mesh_costs.fitted import (
    NOTHING,
    Price,
    PriceList,
    balanced_groups,
    fits_of,
    price_list,
    tile,
    tree_stages,
)
from waferline.predict.operator_row import OperatorRow
from waferline.predict.roofline import machine_for, time_operator
from waferline.predict.wafer.layers import Layer, check_covered, layers, released
from waferline.predict.wafer.placement import COMPUTE_FORMAT, Placement, core_bytes, kv_bytes, place, stored_bytes
from waferline.predict.wafer.price import decode_price, prefill_price, products
from waferline.workloads.load import load_model
from waferline.workloads.operator import Operator
from waferline.workloads.spec import Transformer

_ACTIVATION_BYTES = 2.0  # the residual stream between regions and wafers
_BISECTION = 2.0  # a uniform re-layout sends half of what it moves across the middle


@dataclass(frozen=True, slots=True)
class PhaseAt:
    """One phase on one grid. `time_s` is the whole pass of one batch; the parts are inside it."""

    time_s: FloatArray
    hand_off_s: FloatArray
    communication_s: FloatArray  # on the mesh
    in_flight: FloatArray  # batches in the pipeline of regions that the KV cache leaves room for
    passes_per_s: FloatArray  # with that many batches in flight
    placement: Placement
    stack: list[Layer]  # the head last
    prices: list[list[Price]]  # of one execution of each operator of each layer
    fixed_cycles: float  # of one layer, beside its operators


@dataclass(frozen=True, slots=True)
class Case:
    """Everything but the numbers. `released`: one layer times the layer count, as the released code reports."""

    model: Transformer
    device: Device
    parameters: MeshParameters
    precision: Precision
    prices: PriceList
    released: bool

    @property
    def layer_count(self) -> int:
        return sum(block.count for block in self.model.blocks)

    def stack(self, tokens: Any, batch: Any, *, prefill: bool) -> list[Layer]:
        return layers(self.model, self.precision, batch=batch, tokens=tokens, decode=not prefill)

    def place(
        self, grid: Any, tokens: FloatArray, batch: FloatArray, *, prefill: bool, stack: list[Layer] | None = None
    ) -> Placement:
        stack = self.stack(tokens, batch, prefill=prefill) if stack is None else stack
        core = core_bytes(
            stack, self.parameters, self.precision, grid=grid, tokens=tokens, batch=batch, prefill=prefill
        )
        return place(core, self.layer_count, self.parameters, grid)

    def decode(
        self, grid: Any, tokens: FloatArray, batch: FloatArray, stages: Any = None, prices: PriceList | None = None
    ) -> PhaseAt:
        """One decode step at `tokens` cached tokens; `stages` per all-reduce, those of a balanced tree when None."""
        stages = tree_stages(grid, balanced_groups(grid)) if stages is None else stages
        prices = prices or self.prices
        stack = self.stack(tokens, batch, prefill=False)
        costs = [[decode_price(op, x.block, prices, grid, stages, batch) for op in x.operators] for x in stack]
        placement = self.place(grid, tokens, batch, prefill=False, stack=stack)
        return self._phase(grid, stack, costs, prices.layer, batch, placement)

    def prefill(self, grid: Any, tokens: FloatArray, batch: FloatArray) -> PhaseAt:
        """The prefill of `batch` prompts of `tokens` tokens. Its head sees the last token alone: MeshGEMV, as in decode."""
        grid = np.asarray(grid, dtype=np.float64)
        stages = tree_stages(grid, balanced_groups(grid))
        stack = self.stack(tokens, batch, prefill=True)
        costs = [[prefill_price(op, x.block, self.prices, grid) for op in x.operators] for x in stack[:-1]]
        costs.append([decode_price(op, None, self.prices, grid, stages, batch) for op in stack[-1].operators])
        placement = self.place(grid, tokens, batch, prefill=True, stack=stack)
        return self._phase(grid, stack, costs, 0.0, batch * tokens, placement)

    def _phase(
        self, grid: Any, stack: list[Layer], costs: list[list[Price]], fixed: float, rows: FloatArray, where: Placement
    ) -> PhaseAt:
        clock = self.parameters.clock_hz
        hand_off = np.zeros(()) if self.released else self._hand_off_s(grid, rows, where)
        each = [
            sum((cost.times(op.count) for op, cost in zip(x.operators, own, strict=True)), NOTHING).times(x.count)
            for x, own in zip(stack, costs, strict=True)
        ]
        inner, head = sum(each[:-1], NOTHING), each[-1]
        cycles = inner.total + self.layer_count * fixed
        per_region = cycles / self.layer_count * where.layers_per_region
        stage_s = np.maximum(per_region, head.total) / clock + hand_off / np.maximum(where.regions, 1.0)
        time_s = (cycles + head.total) / clock + hand_off
        rate = np.minimum(where.in_flight / time_s, 1.0 / stage_s)
        communication_s = inner.communication / clock
        return PhaseAt(time_s, hand_off, communication_s, where.in_flight, rate, where, stack, costs, fixed)

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

    def transition_s(
        self, prefill_grid: Any, decode_grid: Any, stack: list[Layer], tokens: FloatArray, batch: FloatArray
    ) -> FloatArray:
        """Re-layout between phases: KV cache always, weights too where the grids differ, over the mesh's bisection."""
        if self.released:
            return np.zeros(())
        p, stack = self.parameters, stack[:-1]
        kv = sum((x.count * batch * kv_bytes(x, tokens, self.precision, 1) for x in stack), np.zeros(()))
        weights = sum((x.count * stored_bytes(x, 1) for x in stack), np.zeros(()))
        side = np.minimum(np.asarray(prefill_grid, dtype=np.float64), decode_grid)
        moved = kv + np.where(np.asarray(prefill_grid) != decode_grid, weights, 0.0)
        words = moved / p.word_bytes / _BISECTION
        return (words / (side * p.link_words_per_cycle) + 2 * p.hop_cycles * side) / p.clock_hz

    def light_s(self, op: Operator) -> FloatArray:
        """Speed-of-light bound of one execution of `op` on one wafer: the roofline's, activations never leaving the cores.

        What is element-wise is part of the products around it, here as in what is expected.
        """
        if not products(op, None, decode=True):
            return np.zeros(())
        return np.asarray(time_operator(replace(op, activation_bytes=0.0), machine_for(self.device, None)).light_s)

    def pass_light_s(self, stack: list[Layer]) -> FloatArray:
        """Speed-of-light bound of a whole pass on one wafer."""
        return sum((x.count * op.count * self.light_s(op) for x in stack for op in x.operators), np.zeros(()))

    def rows(self, phase: str, at: PhaseAt) -> Iterator[OperatorRow]:
        """Where the time of a phase goes, operator by operator, then what is beside them."""
        clock = self.parameters.clock_hz
        tier = "calibrated" if phase == "decode" or fits_of(self.parameters.name)["prefill"] else "spec only"
        for layer, costs in zip(at.stack, at.prices, strict=True):
            for op, cost in zip(layer.operators, costs, strict=True):
                if cost is NOTHING:  # inside the cost of the products around it
                    continue
                count = np.asarray(layer.count * op.count)
                bound = np.where(cost.communication > cost.compute, "link", "compute")
                light = count * self.light_s(op)
                time = count * cost.total / clock
                yield OperatorRow(
                    phase, op.name, op.kind, count, time, light, count * op.flops, count * op.bytes, bound, tier
                )
        for name, seconds, binds in (
            ("layers, fixed", self.layer_count * at.fixed_cycles / clock, "overhead"),
            ("hand_off", at.hand_off_s, "link"),
        ):
            if np.any(seconds):
                yield extra_row(phase, name, seconds, binds, tier)


def extra_row(phase: str, name: str, seconds: Any, bound: str, tier: str) -> OperatorRow:
    """A row for time that no operator takes."""
    none = np.asarray(np.nan)
    return OperatorRow(
        phase, name, "mesh", np.asarray(1.0), np.asarray(seconds), none, none, none, np.asarray(bound), tier
    )


def make_case(
    model: Any, hardware: Any, precision: str, counting: str = "model", parameters: MeshParameters | str | None = None
) -> Case:
    """The model, wafer and mesh parameters of a question, checked.

    Raises: UnknownNameError, InvalidInputError, UnsupportedError.
    """
    spec, device = load_model(model), load_hardware(hardware)
    if not isinstance(spec, Transformer):
        raise UnsupportedError(f"{spec.name} is not a transformer", hint="use SingleNodeModel for it")
    if counting not in ("model", "released-code"):
        raise InvalidInputError(f"counting must be 'model' or 'released-code', got {counting!r}")
    check_covered(spec)
    p = parameters or device.mesh
    if p is None:
        raise UnsupportedError(f"{device.name} is not a mesh of cores", hint="try a wafer: cs2, cs3")
    p = load_parameters(p) if isinstance(p, str) else p
    as_counted = released(spec) if counting == "released-code" else spec
    formats = resolve(precision, device.arithmetic)
    return Case(as_counted, device, p, formats, price_list(p, COMPUTE_FORMAT), counting == "released-code")
