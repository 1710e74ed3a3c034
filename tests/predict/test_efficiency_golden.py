"""Measured operator times beside the predicted ones, readable; and the card's claims hold on the shipped records.

Rows: measurements (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES, aiconfigurator-core 0.12.0, Apache-2.0; vLLM kernels.
"""

from __future__ import annotations

import numpy as np
import pytest

from waferline.predict.efficiency import (
    DeviceFacts,
    LinkFacts,
    all_reduce_s,
    busiest_load,
    coefficients,
    decode_attention_s,
    distinct_experts,
    gemm_s,
    prefill_attention_s,
)

# peak by format, bandwidth, units, L2, clock, memory
SHEETS = {
    "h100": ({"bf16": 989.4e12, "fp8": 1978.9e12}, 3.35e12, 132, 50e6, 1.83e9, 80e9, "hopper"),
    "h200": ({"bf16": 989.4e12, "fp8": 1978.9e12}, 4.8e12, 132, 50e6, 1.83e9, 141e9, "hopper"),
    "b200": ({"bf16": 2250e12, "fp4": 9000e12}, 8e12, 148, 126e6, 1.85e9, 180e9, "blackwell"),
}
BITS = {"bf16": 16.0, "fp8": 8.0, "fp4": 4.5}
WITHIN = 0.25  # one row, one kernel choice: the p90 error of the records is 15-25 %


def sheet(machine, fmt):
    peaks, *rest, arch = SHEETS[machine]
    return DeviceFacts(peaks[fmt], *rest, "gpu", "nvidia", arch)


@pytest.mark.parametrize(
    ("machine", "fmt", "m", "n", "k", "measured_us"),
    [
        ("h100", "bf16", 1, 5120, 4096, 16.9),
        ("h100", "bf16", 8192, 5120, 4096, 445.4),
        ("h100", "fp8", 8192, 7168, 4096, 453.6),
        ("b200", "fp4", 16, 10240, 7168, 14.97),
        ("b200", "fp4", 16, 51200, 51200, 230.6),
        ("b200", "fp4", 8192, 7168, 65536, 1960.0),
    ],
)
def test_gemm(machine, fmt, m, n, k, measured_us):
    d, bits = sheet(machine, fmt), BITS[fmt]
    record, tier = coefficients(machine, "gemm", fmt, d.arch, "nvidia", "gpu", engine="vllm")
    light = {
        "light_compute_s": 2.0 * m * n * k / d.peak_flops,
        "light_memory_s": (m * k * bits / 8 + n * k * bits / 8 + 2.0 * m * n) / d.bandwidth_bytes_per_s,
    }
    t = gemm_s(m, n, k, weight_bits=bits, activation_bits=bits, device=d, c=record.c, **light)
    assert tier == "calibrated"
    assert 1e6 * t == pytest.approx(measured_us, rel=WITHIN)


@pytest.mark.parametrize(
    ("batch", "length", "measured_ms"), [(4, 3072, 0.6157), (8, 6144, 4.2196), (16, 8192, 15.754), (64, 1536, 2.9912)]
)
def test_prefill_attention_32_heads_8_kv_on_h200(batch, length, measured_ms):
    d, (h, hk, dim) = sheet("h200", "bf16"), (32, 8, 128)
    record, _ = coefficients("h200", "prefill_attention", "bf16", d.arch, "nvidia", "gpu", engine="vllm")
    flops, n_bytes = 2.0 * batch * h * dim * length * (length + 1), 2.0 * batch * dim * length * (2 * hk + 2 * h)
    light = {"light_compute_s": flops / d.peak_flops, "light_memory_s": n_bytes / d.bandwidth_bytes_per_s}
    t = prefill_attention_s(batch, length, length, h, hk, dim, device=d, c=record.c, **light)
    assert 1e3 * t == pytest.approx(measured_ms, rel=WITHIN)


def test_decode_attention_of_a_large_cache_on_h200():
    d = sheet("h200", "bf16")
    record, _ = coefficients("h200", "decode_attention", "bf16", d.arch, "nvidia", "gpu", engine="vllm")
    flops, n_bytes = 4.0 * 16 * 32 * 128 * 32768, 2.0 * 16 * 128 * (2 * 8 * 32768 + 2 * 32)
    light = {"light_compute_s": flops / d.peak_flops, "light_memory_s": n_bytes / d.bandwidth_bytes_per_s}
    t = decode_attention_s(16, 32768, 32, 8, 128, kv_bytes_per_element=2.0, device=d, c=record.c, **light)
    assert 1e6 * t == pytest.approx(495.7, rel=WITHIN)


@pytest.mark.parametrize(
    ("n_bytes", "measured_us"), [(65536, 6.41), (524288, 11.99), (2097152, 19.39), (33554432, 177.8)]
)
def test_all_reduce_of_eight_h100(n_bytes, measured_us):
    record, _ = coefficients("h100", "all_reduce", "nvlink", "hopper", "nvidia", "gpu", engine="vllm")
    assert 1e6 * all_reduce_s(n_bytes, 8, link=LinkFacts(450e9, 1e-6, "nvlink"), c=record.c) == pytest.approx(
        measured_us, rel=WITHIN
    )


def test_experts_touched_go_from_topk_to_all():
    assert distinct_experts(1, 8, 256) == pytest.approx(8.0)
    assert distinct_experts(10_000, 8, 256) == pytest.approx(256.0)
    assert distinct_experts(16, 2, 2) == pytest.approx(2.0)


def test_a_power_law_loads_one_rank_more_the_more_ranks_there_are():
    load = busiest_load(256, np.array([1, 2, 8, 64, 256]))
    assert load[0] == 1.0
    assert np.all(np.diff(load) > 0)
    assert np.all(load <= [1, 2, 8, 64, 256])


@pytest.mark.parametrize("machine", ["a100", "h100", "h200", "b200", "rtxpro6000"])
def test_shipped_bf16_gemm_records_hold_their_errors(machine):
    record, _ = coefficients(machine, "gemm", "bf16", "x", "nvidia", "gpu")
    assert record.median_error <= 0.09
    assert record.rows >= 500 and record.groups >= 100
