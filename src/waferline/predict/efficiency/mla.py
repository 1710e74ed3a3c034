"""Seconds of multi-head latent attention (DeepSeek MLA): one latent KV head of 512 + 64, shared by all query heads."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import ceil, maximum, minimum
from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.kernel import Kernel
from waferline.predict.efficiency.overlap import no_faster_than_light, overlap_s
from waferline.workloads.operator import Operator

KV_CHUNK = 256.0  # latent rows one program of a split-KV kernel takes at least
Q_BLOCK = 128.0  # query rows of one prefill tile
HEAD_TILE = 64.0  # query heads one decode program computes together: fewer are padded


def mla_decode_s(
    batch: Floats,
    kv_len: Floats,
    heads: Floats,
    *,
    light_compute_s: Floats,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
    cache_warm: bool = False,
) -> Floats:
    """Expected seconds of one layer's MLA decode core (absorbed form); every argument broadcasts.

    `cache_warm` as in `decode_attention_s`. Few heads are padded to the tensor-core tile, so compute does not shrink with
    tensor parallelism as its light time does. A kernel that does not split along the cache runs `kv_len` steps in a chain,
    once for each wave of programs.
    """
    tiles = ceil(heads / HEAD_TILE)
    idle = device.sm_count / (batch * tiles)
    splits = minimum(maximum(idle, 1.0), ceil(kv_len / KV_CHUNK))
    lack = maximum(idle / splits, 1.0)
    padding = 1.0 + c["head_padding"] * (tiles * HEAD_TILE / heads - 1.0)
    slow = 1.0 + c["occupancy_loss"] * (lack - 1.0)
    compute_s = light_compute_s * (padding * slow / c["compute_efficiency"])
    memory_s = light_memory_s * (slow / c["bandwidth_efficiency"])
    if cache_warm:
        light_kv_bytes = light_memory_s * device.bandwidth_bytes_per_s
        memory_s = memory_s * (
            1.0 - c["cache_gain"] * minimum(1.0, c["cache_share"] * device.l2_bytes / light_kv_bytes)
        )
    time_s = overlap_s(compute_s, memory_s, c["exposed"])
    if c["unsplit_step_s"]:
        time_s = overlap_s(time_s, c["unsplit_step_s"] * kv_len * maximum(1.0, 1.0 / idle), c["exposed"])
    time_s = time_s + (c["floor_s"] + c["pair_s"] * batch * heads + c["kv_step_s"] * kv_len / splits)
    if cache_warm:
        return time_s
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def mla_prefill_s(
    batch: Floats,
    q_len: Floats,
    kv_len: Floats,
    heads: Floats,
    *,
    light_compute_s: Floats,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
) -> Floats:
    """Expected seconds of one layer's causal MLA prefill core (192-wide keys, 128-wide values)."""
    programs = batch * heads * ceil(q_len / Q_BLOCK)
    load = 1.0 + c["wave_share"] * device.sm_count / programs  # even work plus the longest program (Graham 1966)
    padded = 1.0 + c["mask_loss"] * Q_BLOCK / q_len
    compute_s = light_compute_s * (load * padded / c["compute_efficiency"])
    memory_s = light_memory_s / c["bandwidth_efficiency"]
    time_s = overlap_s(compute_s, memory_s, c["exposed"]) + (
        c["floor_s"] + c["program_s"] * programs + c["kv_step_s"] * kv_len
    )
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def prefill_expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    s = op.shape
    shape = (s["batch"], s["q_len"], s["kv_len"], s["heads"])
    roofs = {"light_compute_s": compute_s, "light_memory_s": memory_s}
    return mla_prefill_s(*shape, **roofs, device=kernel.device, c=kernel.c)


def decode_expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    s = op.shape
    return mla_decode_s(
        s["batch"],
        s["kv_len"],
        s["heads"],
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        device=kernel.device,
        c=kernel.c,
        cache_warm="cache_warm" in s,
    )
