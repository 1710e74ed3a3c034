"""The one place where an operator becomes seconds: the speed-of-light bound, and the time to expect above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray
from waferline.errors import UnsupportedError
from waferline.formats import get_format
from waferline.machines.device import Device, Link
from waferline.predict.efficiency import attention, collectives, gemm, mla, moe, streaming
from waferline.predict.efficiency.coefficients import Record, coefficients
from waferline.predict.efficiency.device import DeviceFacts, device_facts, link_facts
from waferline.predict.efficiency.profile import record_for, records
from waferline.workloads.operator import Operator

BOUNDS = ("compute", "memory", "link", "overhead")  # what can bind an operator; order of the codes in `Timed.bound`

# Bytes that cross one rank's link in one direction, as a multiple of the buffer (Thakur 2005, ring lower bounds).
_WIRE: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
    "p2p": lambda n: np.where(n > 1, 1.0, 0.0),
}
_COLLECTIVES: Mapping[str, Callable[..., FloatArray]] = {
    "all_reduce": collectives.all_reduce_s,
    "all_gather": collectives.all_gather_s,
    "reduce_scatter": collectives.reduce_scatter_s,
    "all_to_all": collectives.all_to_all_s,
}


@dataclass(frozen=True, slots=True)
class Timed:
    """An operator with its times for ONE execution. Arrays over scenarios; `expected_s >= light_s` always.

    compute_s, memory_s, link_s: what the machine's peaks alone would take with all traffic. light_s: the bound, in which
    activations that caches can hold are free. record: the constants used, with their residuals on held-out measurements.
    """

    operator: Operator
    compute_s: FloatArray
    memory_s: FloatArray
    link_s: FloatArray
    light_s: FloatArray
    expected_s: FloatArray
    tier: str
    record: Record

    @property
    def bound(self) -> npt.NDArray[np.intp]:
        """Index into `BOUNDS`: the roof that binds; overhead where the time to expect is over twice the roofs."""
        roofs = np.stack(np.broadcast_arrays(self.compute_s, self.memory_s, self.link_s))
        binding = np.argmax(roofs, axis=0)
        return np.asarray(np.where(self.expected_s > 2.0 * np.maximum(roofs.max(axis=0), 1e-30), 3, binding))


@dataclass(frozen=True, slots=True)
class Machine:
    """A device as the roofline sees it: its sheet, the engine whose kernels run, and what the working set must fit in."""

    device: Device
    engine: str | None = None
    profile: Mapping[str, Record] | None = None  # a user's calibration, by operator kind and weight format

    def level_bandwidth(self, resident_bytes: float) -> float:
        """Bandwidth of the nearest memory level that holds `resident_bytes`."""
        for level in self.device.memory:
            if level.capacity_bytes >= resident_bytes:
                return level.bandwidth_bytes_per_s
        return self.device.bandwidth_bytes_per_s


def time_operator(op: Operator, machine: Machine, *, resident_bytes: float = np.inf) -> Timed:
    """Seconds of one execution of `op`: bound and expected value.

    `resident_bytes` is the least working set over all scenarios; when it fits a nearer level than main memory, that
    level's bandwidth bounds the operator. Raises: UnsupportedError when the device lacks the arithmetic or the link.
    """
    if op.kind in ("collective", "transfer"):
        return _time_collective(op, machine)
    arithmetic = machine.device.arithmetic(get_format(op.activations).arithmetic)
    facts = device_facts(machine.device, arithmetic)
    record, tier = _constants(op, machine, arithmetic)
    bandwidth = machine.level_bandwidth(resident_bytes)
    compute_s = op.flops / facts.peak_flops
    memory_s = op.bytes / facts.bandwidth_bytes_per_s
    hidden = np.maximum(
        op.activation_bytes - _cache_bytes(machine.device), 0.0
    )  # a fused engine keeps the rest on chip
    least_bytes = op.weight_bytes * _least_weights(op) + op.kv_bytes + hidden
    light_s = np.maximum(op.flops / _highest_peak(machine.device, arithmetic), least_bytes / bandwidth)
    expected_s = _EXPECTED[op.kind](op, compute_s, memory_s, facts, record.c)
    return Timed(
        operator=op,
        compute_s=compute_s,
        memory_s=memory_s,
        link_s=np.zeros(()),
        light_s=light_s,
        expected_s=np.maximum(expected_s, light_s),
        tier=tier,
        record=record,
    )


def _least_weights(op: Operator) -> FloatArray:
    """Share of the expected weight traffic that no routing can avoid: at worst all tokens choose the same experts."""
    if op.kind != "expert_gemm":
        return np.ones(())
    distinct = moe.distinct_experts(op.shape["tokens"], op.shape["topk"], op.shape["experts"])
    return np.asarray(np.minimum(op.shape["topk"] / distinct, 1.0))


def _highest_peak(device: Device, arithmetic: str) -> float:
    """The rate no kernel can beat: consumer GPUs accumulate fp16 in fp16 at twice the rate of fp32 accumulation."""
    peak = device.peak(arithmetic)
    return max(peak, device.extra.get("fp16_accumulate_flops", 0.0)) if arithmetic == "fp16" else peak


def _cache_bytes(device: Device) -> float:
    """What can stay on chip between two operators: every level but the last."""
    return sum(level.capacity_bytes for level in device.memory[:-1])


def _constants(op: Operator, machine: Machine, arithmetic: str) -> tuple[Record, str]:
    found = machine.profile or records(machine.device.efficiency)
    own = record_for(found, op) if found else None
    if own is not None:
        return own, "calibrated"
    d = machine.device
    kind = _FITTED_AS.get(op.kind, op.kind)
    key = _kernel_format(op, kind, arithmetic)
    return coefficients(d.name, kind, key, d.architecture, d.vendor, d.kind, engine=machine.engine)


def _kernel_format(op: Operator, kind: str, arithmetic: str) -> str:
    """The kernel family: weight-only matrix products and wide attention over an 8-bit cache have their own."""
    wide, narrow_weights = _bits(op.activations) >= _WIDE_BITS, _bits(op.weights) < _WIDE_BITS
    if kind in ("gemm", "moe") and narrow_weights:
        if wide and kind == "moe" and op.weights == "mxfp4":
            return "mxfp4a16"
        if wide:
            return "w4a16" if _bits(op.weights) <= _FOUR_BIT else "w8a16"
        if arithmetic in ("fp8", "int8") and _bits(op.weights) <= _FOUR_BIT:
            return "w4a8"
    if kind in _READS_KV and wide and _bits(op.kv) < _WIDE_BITS:
        return "bf16_kv8"
    return "fp8_block" if op.weights == "fp8_block" and arithmetic == "fp8" else arithmetic


_READS_KV = ("prefill_attention", "decode_attention", "mla_prefill", "mla_decode")
_WIDE_BITS = 16.0
_FOUR_BIT = 6.6  # block formats up to q6_k unpack like 4-bit ones

# Operator kinds by the name their constants are kept under: a convolution is a GEMM over patches (im2col), a scan streams.
_FITTED_AS: Mapping[str, str] = {
    "attention_prefill": "prefill_attention",
    "attention_decode": "decode_attention",
    "expert_gemm": "moe",
    "conv": "gemm",
    "norm": "streaming",
    "softmax": "streaming",
    "elementwise": "streaming",
    "gather": "streaming",
    "scan": "streaming",
}


def _bits(name: str) -> float:
    return get_format(name).bits


def _gemm(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    if "m" not in s:  # a stem given only by its totals
        return _streaming(op, compute_s, memory_s, d, c)
    return gemm.gemm_s(
        s["m"],
        s["n"],
        s["k"],
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        weight_bits=_bits(op.weights),
        activation_bits=_door_bits(op, c),
        device=d,
        c=c,
    )


def _door_bits(op: Operator, c: Mapping[str, float]) -> float:
    """Width that activations are quantised to at the operator's door.

    Convolutional engines keep them narrow from layer to layer, and constants of wide kernels know of no such pass.
    """
    return _bits(op.activations) if op.kind != "conv" and "quant_bandwidth_efficiency" in c else _WIDE_BITS


def _prefill(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    shape = (s["batch"], s["q_len"], s["kv_len"], s["heads"], s["kv_heads"], s["head_dim"])
    return attention.prefill_attention_s(*shape, light_compute_s=compute_s, light_memory_s=memory_s, device=d, c=c)


def _decode(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    return attention.decode_attention_s(
        s["batch"],
        s["kv_len"],
        s["heads"],
        s["kv_heads"],
        s["head_dim"],
        kv_bytes_per_element=_bits(op.kv) / 8,
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        device=d,
        c=c,
    )


def _mla_prefill(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    shape = (s["batch"], s["q_len"], s["kv_len"], s["heads"])
    return mla.mla_prefill_s(*shape, light_compute_s=compute_s, light_memory_s=memory_s, device=d, c=c)


def _mla_decode(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    return mla.mla_decode_s(
        s["batch"], s["kv_len"], s["heads"], light_compute_s=compute_s, light_memory_s=memory_s, device=d, c=c
    )


def _moe(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    s = op.shape
    return moe.moe_s(
        *(s[key] for key in ("tokens", "hidden", "inner", "topk", "experts", "tp", "ep")),
        weight_bits=_bits(op.weights),
        activation_bits=_door_bits(op, c),
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        device=d,
        c=c,
        load=moe.busiest_load(s["experts"], s["ep"]),  # the group waits for its busiest rank
    )


def _streaming(
    op: Operator, compute_s: FloatArray, memory_s: FloatArray, d: DeviceFacts, c: Mapping[str, float]
) -> FloatArray:
    moved_s = streaming.streaming_s(op.bytes, light_memory_s=memory_s, device=d, c=c)
    return np.maximum(moved_s, compute_s)


_EXPECTED: Mapping[str, Callable[..., FloatArray]] = {
    "gemm": _gemm,
    "conv": _gemm,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "mla_prefill": _mla_prefill,
    "mla_decode": _mla_decode,
    "expert_gemm": _moe,
    "norm": _streaming,
    "softmax": _streaming,
    "elementwise": _streaming,
    "gather": _streaming,
    "scan": _streaming,
}


def _time_collective(op: Operator, machine: Machine) -> Timed:
    """A collective over the devices of a box first, then between boxes. Bound: each link carries what it must, in parallel."""
    ranks, payload = op.shape["ranks"], op.shape["bytes"]
    scale_up, scale_out = machine.device.link("scale-up"), machine.device.link("scale-out")
    inside = 1 if scale_up is None else scale_up.max_devices
    near, far = np.minimum(ranks, inside), np.ceil(ranks / inside)
    if (ranks > 1).any() and (((near > 1).any() and scale_up is None) or ((far > 1).any() and scale_out is None)):
        raise _no_link(machine.device, ranks, inside)
    light_s, expected_s = np.zeros(()), np.zeros(())
    used: tuple[Record, str] | None = None
    # Between boxes every device carries its share of the buffer, after (or before) the devices of a box have combined it.
    for link, group, part in ((scale_up, near, payload), (scale_out, far, payload / near)):
        if link is None or (used is not None and not (group > 1).any()):
            continue
        light, expected, used = _over(link, op.operation, part, group, machine)
        light_s = np.maximum(light_s, np.where(group > 1, light, 0.0))
        expected_s = expected_s + np.where(group > 1, expected, 0.0)
    if used is None:
        raise _no_link(machine.device, ranks, inside)
    zero = np.zeros(())
    return Timed(op, zero, zero, light_s, light_s, np.maximum(expected_s, light_s), used[1], used[0])


def _no_link(device: Device, ranks: FloatArray, inside: float) -> UnsupportedError:
    reach = f"it joins {inside:g} at most" if inside > 1 else "it has no link to others"
    return UnsupportedError(f"{device.name} has no link for {int(ranks.max())} devices", hint=reach)


def _over(
    link: Link, operation: str, payload: FloatArray, ranks: FloatArray, machine: Machine
) -> tuple[FloatArray, FloatArray, tuple[Record, str]]:
    """(bound, expected seconds, constants and their tier) of one collective on one link."""
    d, facts = machine.device, link_facts(link)
    record, tier = coefficients(d.name, operation, facts.kind, d.architecture, d.vendor, d.kind, engine=machine.engine)
    light = payload * _WIRE[operation](ranks) / link.bandwidth_bytes_per_s
    if operation == "p2p":
        return light, collectives.p2p_s(payload, link=facts, c=record.c), (record, tier)
    return light, _COLLECTIVES[operation](payload, ranks, link=facts, c=record.c), (record, tier)
