"""Laws of the efficiency models: never faster than light, broadcasting, and constants that say where they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import UnknownNameError
from waferline.predict.efficiency import (
    DeviceFacts,
    LinkFacts,
    all_reduce_s,
    coefficients,
    decode_attention_s,
    gemm_s,
    interval,
    op_kinds,
    prefill_attention_s,
)

H100 = DeviceFacts(989.4e12, 3.35e12, 132, 50e6, 1.83e9, 80e9, "gpu", "nvidia", "hopper")
MACHINES = {
    "h100": ("hopper", "nvidia", "gpu"),
    "some-new-nvidia": ("rubin", "nvidia", "gpu"),
    "mi300x": ("cdna3", "amd", "gpu"),
    "epyc": ("zen4", "amd", "cpu"),
    "stm32": ("cortex-m7", "st", "mcu"),
    "abacus": ("beads", "nobody", "abacus"),
}
TIERS = {
    "h100": "calibrated",
    "some-new-nvidia": "transferred",
    "mi300x": "spec only",
    "epyc": "spec only",
    "stm32": "spec only",
    "abacus": "spec only",
}

size = st.integers(1, 40_000)


def gemm_light(m, n, k, d=H100):
    return 2.0 * m * n * k / d.peak_flops, (m * k + n * k + m * n) * 2.0 / d.bandwidth_bytes_per_s


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("op_kind", op_kinds())
def test_every_machine_has_constants_and_says_how_well_they_are_known(machine, op_kind):
    fmt = "nvlink" if op_kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p") else "bf16"
    record, tier = coefficients(machine, op_kind, fmt, *MACHINES[machine])
    assert record.source and record.split and record.date
    if op_kind not in ("streaming", "p2p"):
        assert tier == TIERS[machine]
    assert all(np.isfinite(v) for v in record.c.values())
    for r in record.residual:
        assert r.q05 <= r.q25 <= r.q75 <= r.q95


def test_an_unknown_operator_is_an_error_that_names_the_nearest():
    with pytest.raises(UnknownNameError, match="gemm"):
        coefficients("h100", "gem", "bf16", "hopper", "nvidia", "gpu")


def test_kernels_that_change_with_the_rows_of_activations():
    """From `wide_from_m` on: another share of the peak, and the weights are unpacked once whatever the rows."""
    record, _ = coefficients("epyc", "gemm", "bf16", *MACHINES["epyc"])
    wide = {"wide_from_m": 16.0, "wide_compute_efficiency": 0.01, "wide_unpack_s": 1e-9}

    def seconds(m, c):
        compute_s, memory_s = gemm_light(m, 4096, 4096)
        kw = {"weight_bits": 4.5, "activation_bits": 16.0, "device": H100, "c": c}
        return gemm_s(m, 4096, 4096, light_compute_s=compute_s, light_memory_s=memory_s, **kw)

    rows = np.array([1.0, 15.0, 16.0, 512.0])
    plain, both = seconds(rows, record.c), seconds(rows, {**record.c, **wide})
    np.testing.assert_array_equal(both[:2], plain[:2])
    assert (both[2:] > 4096**2 * 1e-9).all() and (both[2:] > plain[2:]).all()
    free = seconds(rows, {**record.c, **wide, "wide_unpack_s": 0.0})
    assert both[3] - free[3] <= 4096**2 * 1e-9 * 1.5  # unpacked once


@settings(max_examples=60, deadline=None)
@given(size, size, size, st.sampled_from(list(MACHINES)))
def test_gemm_is_never_faster_than_light(m, n, k, machine):
    record, _ = coefficients(machine, "gemm", "bf16", *MACHINES[machine])
    compute_s, memory_s = gemm_light(m, n, k)
    t = gemm_s(
        m,
        n,
        k,
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        weight_bits=16,
        activation_bits=16,
        device=H100,
        c=record.c,
    )
    assert t >= max(compute_s, memory_s)
    assert np.isfinite(t)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 512),
    st.integers(1, 131072),
    st.sampled_from([(8, 1), (32, 8), (64, 8), (32, 32)]),
    st.sampled_from([64, 128, 256]),
)
def test_attention_is_never_faster_than_light(batch, length, heads, dim):
    h, hk = heads
    record, _ = coefficients("h100", "decode_attention", "bf16", *MACHINES["h100"])
    flops, n_bytes = 4.0 * batch * h * dim * length, 2.0 * batch * (2 * hk * length + 2 * h) * dim
    light = {"light_compute_s": flops / H100.peak_flops, "light_memory_s": n_bytes / H100.bandwidth_bytes_per_s}
    t = decode_attention_s(batch, length, h, hk, dim, kv_bytes_per_element=2.0, device=H100, c=record.c, **light)
    assert t >= max(light.values())
    record, _ = coefficients("h100", "prefill_attention", "bf16", *MACHINES["h100"])
    light = {
        "light_compute_s": flops * (length + 1) / 2 / H100.peak_flops,
        "light_memory_s": 2.0 * batch * length * dim * (2 * hk + 2 * h) / H100.bandwidth_bytes_per_s,
    }
    t = prefill_attention_s(batch, length, length, h, hk, dim, device=H100, c=record.c, **light)
    assert t >= max(light.values())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 16), st.floats(1.0, 1e10))
def test_all_reduce_grows_with_bytes_and_never_outruns_the_link(ranks, n_bytes):
    link = LinkFacts(450e9, 1e-6, "nvlink")
    record, _ = coefficients("h100", "all_reduce", "nvlink", *MACHINES["h100"])
    t = all_reduce_s(n_bytes, ranks, link=link, c=record.c)
    assert t >= 2 * (ranks - 1) / ranks * n_bytes / 450e9
    assert all_reduce_s(2 * n_bytes, ranks, link=link, c=record.c) >= t
    assert all_reduce_s(n_bytes, 1, link=link, c=record.c) == 0.0


def test_one_call_with_many_points_equals_many_calls():
    rng = np.random.default_rng(1)
    m, n, k = rng.integers(1, 9000, (3, 64)).astype(float)
    record, _ = coefficients("h100", "gemm", "fp8", *MACHINES["h100"])
    kw = {"weight_bits": 8, "activation_bits": 8, "device": H100, "c": record.c}
    compute_s, memory_s = gemm_light(m, n, k)
    together = gemm_s(m, n, k, light_compute_s=compute_s, light_memory_s=memory_s, **kw)
    apart = [
        gemm_s(m[i], n[i], k[i], light_compute_s=compute_s[i], light_memory_s=memory_s[i], **kw) for i in range(64)
    ]
    np.testing.assert_allclose(together, np.array(apart, dtype=float), rtol=1e-12)
    assert gemm_s(
        m[:, None], n[0], k[0], light_compute_s=compute_s[:, None], light_memory_s=memory_s[:, None], **kw
    ).shape == (64, 1)


def test_intervals_are_ordered_around_the_expected_time():
    record, _ = coefficients("h100", "gemm", "bf16", *MACHINES["h100"])
    spread = interval(record.residual, np.geomspace(1e-6, 1.0, 50))
    assert (
        np.all(spread.low90 <= spread.low50)
        and np.all(spread.low50 <= spread.high50)
        and np.all(spread.high50 <= spread.high90)
    )


@pytest.mark.parametrize(
    ("slug", "op_kind", "fmt", "vendor", "kind", "source", "tier"),
    [
        ("nvidia-h100-sxm-80gb", "gemm", "fp16", "NVIDIA", "gpu", "h100", "calibrated"),
        ("nvidia-h100-pcie-80gb", "gemm", "bf16", "NVIDIA", "gpu", "h100", "transferred"),
        ("nvidia-rtx-5090", "gemm", "fp4", "NVIDIA", "gpu", "rtxpro6000", "transferred"),
        (
            "nvidia-rtx-4080",
            "gemm",
            "bf16",
            "NVIDIA",
            "gpu",
            "transfer-nvidia-gpu",
            "transferred",
        ),  # 4090: one model's rows
        ("nvidia-rtx-4090", "gemm", "bf16", "NVIDIA", "gpu", "rtx4090", "calibrated"),
        (
            "nvidia-rtx-3090",
            "gemm",
            "bf16",
            "NVIDIA",
            "gpu",
            "transfer-nvidia-gpu",
            "transferred",
        ),  # two groups of rows
        ("nvidia-l40s", "decode_attention", "bf16", "NVIDIA", "gpu", "rtxpro6000", "transferred"),  # the nearest sheet
        ("nvidia-t4", "gemm", "fp16", "NVIDIA", "gpu", "transfer-nvidia-gpu", "transferred"),
        ("intel-arc-b580", "decode_attention", "bf16", "Intel", "gpu", "b60", "transferred"),
        ("apple-m4-max", "gemm", "fp16", "Apple", "soc", "spec-soc", "spec only"),
        ("nvidia-h100-sxm-80gb", "all_reduce", "network", "NVIDIA", "gpu", "spec-gpu", "spec only"),
    ],
)
def test_where_constants_come_from(slug, op_kind, fmt, vendor, kind, source, tier):
    record, found = coefficients(slug, op_kind, fmt, "any", vendor, kind)
    assert (record.machine, found) == (source, tier)


def test_a_borrowed_record_has_wider_intervals_than_its_owner():
    own, _ = coefficients("h100", "gemm", "bf16", "hopper", "nvidia", "gpu")
    borrowed, _ = coefficients("nvidia-h100-pcie-80gb", "gemm", "bf16", "hopper", "nvidia", "gpu")
    assert borrowed.c == own.c
    for mine, wide in zip(own.residual, borrowed.residual, strict=True):
        assert wide.q05 < mine.q05 and wide.q95 > mine.q95
