"""The one place where an operator becomes seconds: the speed-of-light bound, and the time to expect above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from waferline.arrays import AnyArray, Floats
from waferline.elementwise import anywhere, both, ceil, maximum, minimum, where
from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device, Link
from waferline.predict.efficiency import collectives, lent
from waferline.predict.efficiency.coefficients import Record, coefficients
from waferline.predict.efficiency.device import device_facts, link_facts
from waferline.predict.efficiency.kernel import Kernel
from waferline.predict.efficiency.moe import least_weights
from waferline.predict.efficiency.profile import record_for, records
from waferline.predict.kinds import KINDS
from waferline.remember import by_identity
from waferline.workloads.operator import Operator

BOUNDS = (
    "compute",
    "memory",
    "link",
    "overhead",
    "host",
)  # what can bind an operator; order of the codes in `Timed.bound`

# Bytes that cross one rank's link in one direction, as a multiple of the buffer (Thakur 2005, ring lower bounds).
_WIRE: Mapping[str, Callable[[Floats], Floats]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
    "p2p": lambda n: where(n > 1.0, 1.0, 0.0),
}
_COLLECTIVES: Mapping[str, Callable[..., Floats]] = {
    "all_reduce": collectives.all_reduce_s,
    "all_gather": collectives.all_gather_s,
    "reduce_scatter": collectives.reduce_scatter_s,
    "all_to_all": collectives.all_to_all_s,
}
_WIDE_BITS = 16.0
_FOUR_BIT = 6.6  # block formats up to q6_k unpack like 4-bit ones
_BUSY_SHARE = 0.5  # of its time an operator must be busy on a roof to be called bound by it, not by overhead


class Timed(NamedTuple):
    """An operator with its times for ONE execution. Floats or arrays over scenarios; `expected_s >= light_s` always.

    compute_s, memory_s, link_s: what the machine's peaks alone would take with all traffic. light_s: the bound, in which
    activations that caches can hold are free. record: the constants used, with their residuals on held-out measurements.
    wire_s: what weights take to come over the host's link, to be added. routed_s: of experts, the bound when tokens choose
    among them evenly, where `light_s` lets all choose the same ones.
    """

    operator: Operator
    compute_s: Floats
    memory_s: Floats
    link_s: Floats
    light_s: Floats
    expected_s: Floats
    tier: str
    record: Record
    parts: tuple[tuple[Record, str, Floats], ...] = ()  # of a collective on two links: constants, tier, seconds of each
    wire_s: Floats = 0.0
    routed_s: Floats = 0.0

    @property
    def floor_s(self) -> Floats:
        """What no engine saves of `expected_s`: traffic and arithmetic, with experts drawn as they are."""
        return minimum(maximum(self.light_s, self.routed_s), self.expected_s)

    @property
    def bound(self) -> AnyArray:
        """Index into `BOUNDS`: the roof that binds; overhead where the time to expect is over twice the roofs."""
        if self.operator.place == "host":
            return np.asarray(BOUNDS.index("host"))
        roofs = np.stack(np.broadcast_arrays(self.compute_s, self.memory_s, self.link_s))
        binding = np.argmax(roofs, axis=0)
        return np.asarray(np.where(self.expected_s * _BUSY_SHARE > np.maximum(roofs.max(axis=0), 1e-30), 3, binding))


@dataclass(frozen=True, slots=True)
class Machine:
    """A device as the roofline sees it: its sheet, and the engine (or the user's calibration) whose kernels run."""

    device: Device
    engine: str | None = None
    profile: Mapping[str, Record] | None = None  # a user's calibration, by operator kind and weight format
    known: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # kernels looked up before

    def level_bandwidth(self, resident_bytes: Floats) -> Floats:
        """Bandwidth of the nearest memory level that holds `resident_bytes`."""
        found: Floats = self.device.bandwidth_bytes_per_s
        for level in reversed(self.device.memory):
            found = where(level.capacity_bytes >= resident_bytes, level.bandwidth_bytes_per_s, found)
        return found

    def kernel(self, op: Operator) -> tuple[Kernel, float, float]:
        """What runs operators of this kind in these formats, the peak no kernel can beat, and bytes that can stay on chip.

        Raises: UnsupportedError when the device lacks the arithmetic, or nothing times operators of this kind.
        """
        key = (op.kind, op.weights, op.activations, op.kv)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._kernel(op)
        return found

    def _kernel(self, op: Operator) -> tuple[Kernel, float, float]:
        if op.kind not in KINDS:
            raise UnsupportedError(
                f"nothing says how long operators of kind '{op.kind}' take", hint="add a row to waferline.predict.kinds"
            )
        kind, device = KINDS[op.kind], self.device
        wanted = get_format(op.activations).arithmetic
        if device.whole_numbers and not wanted.startswith("int"):
            wanted = "int8"  # attention and routers, too: who asks for floats by name is refused at the door
        arithmetic = device.arithmetic(wanted)
        record, tier = self._constants(op, arithmetic)
        quantises = (
            kind.quantises and "quant_bandwidth_efficiency" in record.c
        )  # constants of wide kernels know no such pass
        facts = device_facts(device, arithmetic)
        kernel = Kernel(
            expected_s=kind.expected_s,
            device=facts,
            c=lent.constants(record, device.name, facts, arithmetic),
            record=record,
            tier=tier,
            weight_bits=get_format(op.weights).bits,
            door_bits=get_format(op.activations).bits if quantises else _WIDE_BITS,
            kv_bits=get_format(op.kv).bits,
        )
        return kernel, _highest_peak(device, arithmetic), sum(level.capacity_bytes for level in device.memory[:-1])

    def _constants(self, op: Operator, arithmetic: str) -> tuple[Record, str]:
        own_kernels = self.engine in (None, "waferline")  # constants measured here are of one engine's kernels
        found = self.profile or (records(self.device.efficiency) if own_kernels else None)
        own = record_for(found, op) if found else None
        if own is not None:
            return own, "calibrated"
        d = self.device
        fmt = _kernel_format(op, arithmetic)
        return coefficients(d.name, KINDS[op.kind].constants, fmt, d.architecture, d.vendor, d.kind, engine=self.engine)

    def link_constants(self, operation: str, link: Link) -> tuple[Record, str]:
        """The constants of a collective on a link, and their tier."""
        key = (operation, link.name)
        if key not in self.known:
            d, kind = self.device, link_facts(link).kind
            self.known[key] = coefficients(
                d.name, operation, kind, d.architecture, d.vendor, d.kind, engine=self.engine
            )
        found: tuple[Record, str] = self.known[key]
        return found


@by_identity
def machine_for(device: Device, engine: str | None) -> Machine:
    """The device with the kernels of an engine, remembered with all that was looked up for it."""
    return Machine(device, engine)


def time_operator(op: Operator, machine: Machine, *, resident_bytes: Floats = np.inf) -> Timed:
    """Seconds of one execution of `op`: bound and expected value.

    `resident_bytes` is the least working set of each scenario; where it fits a nearer level than main memory, that
    level's bandwidth bounds the operator. Raises: UnsupportedError when the device lacks the arithmetic or the link.
    """
    if op.kind == "collective":
        return _time_collective(op, machine) if op.place == "device" else _time_hand_over(op, machine)
    kernel, highest_flops, kept_bytes = machine.kernel(op)
    sheet, weight_bytes = kernel.device, op.weight_bytes
    compute_s = op.flops / sheet.peak_flops
    memory_s = op.bytes / sheet.bandwidth_bytes_per_s
    # A fused engine keeps on chip what activations fit there.
    other_bytes = op.kv_bytes + maximum(op.activation_bytes - kept_bytes, 0.0)
    least_s, bandwidth = op.flops / highest_flops, machine.level_bandwidth(resident_bytes)
    light_s = maximum(least_s, (weight_bytes + other_bytes) / bandwidth)
    routed_s: Floats = 0.0
    if op.kind == "moe":
        routed_s = light_s
        light_s = maximum(least_s, (weight_bytes * least_weights(op) + other_bytes) / bandwidth)
    expected_s = maximum(kernel.expected_s(op, kernel, compute_s, memory_s), light_s)
    timed = Timed(op, compute_s, memory_s, 0.0, light_s, expected_s, kernel.tier, kernel.record, routed_s=routed_s)
    return timed if op.place in ("device", "host") else _over_host_link(timed, machine, op.flops / highest_flops)


def _highest_peak(device: Device, arithmetic: str) -> float:
    """The rate no kernel can beat: consumer GPUs accumulate fp16 in fp16 at twice the rate of fp32 accumulation."""
    peak = device.peak(arithmetic)
    return max(peak, device.extra.get("fp16_accumulate_flops", 0.0)) if arithmetic == "fp16" else peak


def _kernel_format(op: Operator, arithmetic: str) -> str:
    """The kernel family: weight-only matrix products and wide attention over an 8-bit cache have their own."""
    kind, weights = KINDS[op.kind], get_format(op.weights).bits
    wide = get_format(op.activations).bits >= _WIDE_BITS
    if kind.matrix and weights < _WIDE_BITS:
        if wide and op.kind == "moe" and op.weights == "mxfp4":
            return "mxfp4a16"
        if wide:
            return "w4a16" if weights <= _FOUR_BIT else "w8a16"
        if arithmetic in ("fp8", "int8") and weights <= _FOUR_BIT:
            return "w4a8"
    if kind.reads_kv and wide and get_format(op.kv).bits < _WIDE_BITS:
        return "bf16_kv8"
    return "fp8_block" if op.weights == "fp8_block" and arithmetic == "fp8" else arithmetic


def _time_collective(op: Operator, machine: Machine) -> Timed:
    """A collective over the devices of a box first, then between boxes. Bound: each link carries what it must, in parallel.

    In a box the nearest link that joins all of a group carries it: cards that a bridge joins by twos take their slots for four.
    """
    ranks, payload = op.shape["ranks"], op.shape["bytes"]
    device, scale_out = machine.device, machine.device.link("scale-out")
    inside = float(device.reach("scale-up"))
    near, far = minimum(ranks, inside), ceil(ranks / inside)
    joined = minimum(maximum(op.shape.get("span", ranks), ranks), inside)  # devices that its link has to join
    if (anywhere(ranks > 1.0) and inside == 1.0 and scale_out is None) or (anywhere(far > 1.0) and scale_out is None):
        raise _no_link(device, ranks, inside)
    light_s: Floats = 0.0
    expected_s: Floats = 0.0
    parts: list[tuple[Record, str, Floats]] = []
    below = 1.0  # devices that a nearer link joins: of what they combined, each carries its share further
    tiers = [(link, near, payload) for link in device.links if link.scope == "scale-up"]
    for link, group, part in (*tiers, (scale_out, far, payload / near)):
        outer = link is None or link.scope == "scale-out"
        reach = np.inf if link is None or outer else float(link.max_devices)
        carries = both(group > 1.0, True if outer else both(joined > below, joined <= reach))
        nearer, below = below, reach
        if link is None or (parts and not anywhere(carries)):
            continue
        light, expected, (record, tier) = _over(link, op.operation, part, group, machine)
        if nearer > 1.0 and not outer:
            light = _over(link, op.operation, part / nearer, ceil(group / nearer), machine)[0]
        light_s = maximum(light_s, where(carries, light, 0.0))
        parts.append((record, tier, where(carries, expected, 0.0)))
        expected_s = expected_s + parts[-1][2]
    if not parts:
        raise _no_link(device, ranks, inside)
    record, tier, _ = parts[-1]
    return Timed(op, 0.0, 0.0, light_s, light_s, maximum(expected_s, light_s), tier, record, tuple(parts))


def host_link(device: Device) -> Link:
    """The link to the CPU beside the device. Raises: UnsupportedError where they share one memory or there is none."""
    found = device.link("host")
    if found is None:
        raise UnsupportedError(f"{device.name} has no host beside it", hint="what it cannot hold has nowhere to go")
    return found


def _time_hand_over(op: Operator, machine: Machine) -> Timed:
    """Activations that cross the link to the host, one way."""
    light_s, expected_s, (record, tier) = _over(host_link(machine.device), "p2p", op.shape["bytes"], 2.0, machine)
    if "behind" in op.shape:  # of answers, which may pass while the next pass runs
        light_s = 0.0 * light_s
    return Timed(op, 0.0, 0.0, light_s, light_s, maximum(expected_s, light_s), tier, record)


def _over_host_link(t: Timed, machine: Machine, compute_s: Floats) -> Timed:
    """An operator whose weights the host holds. Bound: they cross the link once while nothing but arithmetic is left to do."""
    op, link = t.operator, host_link(machine.device)
    least = op.weight_bytes * least_weights(op) if op.kind == "moe" else op.weight_bytes
    light_s = maximum(compute_s, least / link.bandwidth_bytes_per_s)
    moved = op.weight_bytes * op.shape["passes"]
    _, wire_s, _ = _over(link, "p2p", moved, 2.0, machine)
    return t._replace(light_s=light_s, link_s=moved / link.bandwidth_bytes_per_s, wire_s=wire_s)


def _no_link(device: Device, ranks: Floats, inside: float) -> UnsupportedError:
    reach = f"it joins {inside:g} at most" if inside > 1 else "it has no link to others"
    return UnsupportedError(f"{device.name} has no link for {np.max(ranks):.0f} devices", hint=reach)


def _over(
    link: Link, operation: str, payload: Floats, ranks: Floats, machine: Machine
) -> tuple[Floats, Floats, tuple[Record, str]]:
    """(bound, expected seconds, constants and their tier) of one collective on one link."""
    record, tier = machine.link_constants(operation, link)
    facts = link_facts(link)
    light = payload * _WIRE[operation](ranks) / link.bandwidth_bytes_per_s
    if operation == "p2p":
        return light, collectives.p2p_s(payload, link=facts, c=record.c), (record, tier)
    return light, _COLLECTIVES[operation](payload, ranks, link=facts, c=record.c), (record, tier)
