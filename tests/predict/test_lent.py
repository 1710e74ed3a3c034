"""Constants lent from one machine to another: what moves with the sheet, and what a machine keeps as its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.formats import Precision
from waferline.machines.hardware import load_hardware
from waferline.predict.efficiency import coefficients
from waferline.predict.efficiency.device import device_facts
from waferline.predict.efficiency.lent import REFERENCE, Pace, as_on, pace
from waferline.predict.roofline import Machine
from waferline.workloads.build import Builder

RECORD = {"compute_efficiency": 0.8, "bandwidth_efficiency": 0.9, "floor_s": 2e-6, "pair_s": 1e-9, "tile_m": 64.0}
FORMATS = ("bf16", "fp8", "fp4", "w4a16")
paces = st.builds(Pace, st.floats(5e8, 4e9), st.floats(2.0, 400.0), st.floats(64.0, 1e5), st.floats(0.5, 100.0))


def _kernel(name: str, fmt: str = "bf16"):
    op = Builder(Precision(fmt, fmt, "bf16", fmt)).gemm("gemm", 4096.0, 4096.0, 4096.0)
    return Machine(load_hardware(name), "vllm").kernel(op)[0]


@given(paces, st.sampled_from(FORMATS))
def test_nothing_moves_between_equal_sheets(p, fmt):
    assert as_on(RECORD, "gemm", fmt, p, p) == pytest.approx(RECORD)


@settings(max_examples=60)
@given(paces, paces, paces, st.sampled_from(FORMATS))
def test_a_loan_does_not_depend_on_who_held_it_between(a, b, c, fmt):
    """Where no share meets its limit, a loan by way of another machine is the loan itself."""
    mild = RECORD | {"compute_efficiency": 0.3, "bandwidth_efficiency": 0.3}
    through, direct = as_on(as_on(mild, "gemm", fmt, a, b), "gemm", fmt, b, c), as_on(mild, "gemm", fmt, a, c)
    at_a_limit = any(
        x[k] in (0.02, 1.0) for x in (through, direct, as_on(mild, "gemm", fmt, a, b)) for k in mild if "eff" in k
    )
    assert at_a_limit or through == pytest.approx(direct)


@given(paces, st.floats(1.0, 8.0), st.sampled_from(FORMATS))
def test_a_faster_matrix_engine_reaches_a_smaller_share_and_no_lower_rate(p, factor, fmt):
    faster = p._replace(operations=p.operations * factor)
    share, slower = (as_on(RECORD, "gemm", fmt, p, q)["compute_efficiency"] for q in (faster, p))
    assert 0.0 < share <= slower * (1 + 1e-12)
    assert share * factor >= slower * (1 - 1e-12) or share == 0.02


@given(paces, st.floats(1.0, 8.0))
def test_more_bandwidth_is_never_slower(p, factor):
    share, less = (
        as_on(RECORD, "gemm", "bf16", p, q)["bandwidth_efficiency"] for q in (p._replace(n_bytes=p.n_bytes * factor), p)
    )
    assert share * factor >= less * (1 - 1e-12) and share <= 1.0


def test_a_measured_machine_keeps_its_own_constants_and_a_relative_moves_them():
    own, borrowed = _kernel("h100"), _kernel("nvidia-h20-96gb")
    assert own.c == own.record.c and own.tier == "calibrated"
    assert borrowed.record.machine == "h100" and borrowed.tier == "transferred"
    # A seventh of the tensor cores' rate and more bandwidth: closer to its peak, further from its bandwidth.
    assert borrowed.c["compute_efficiency"] > own.c["compute_efficiency"]
    assert borrowed.c["bandwidth_efficiency"] < own.c["bandwidth_efficiency"]


def test_sets_of_a_vendor_are_quoted_at_the_reference_sheet():
    record, _ = coefficients("nvidia-t4", "gemm", "bf16", "turing", "nvidia", "gpu", engine="vllm")
    lent = _kernel("nvidia-v100-sxm2-32gb", "fp16")
    facts = device_facts(load_hardware("nvidia-v100-sxm2-32gb"), "fp16")
    assert record.machine == "transfer-nvidia-gpu"
    assert lent.c == as_on(record.c, "gemm", "bf16", REFERENCE, pace(facts))


def test_defaults_of_a_kind_of_machine_are_used_as_they_are():
    kernel = _kernel("apple-m4-max", "fp16")
    assert kernel.tier == "spec only" and kernel.c == kernel.record.c


def test_b300_has_the_constants_of_b200_and_gains_less_than_its_fp4_peak_says():
    """Operands and results take their time beside the multiplication: 1.5 times the peak is about 1.25 times the rate."""
    rates = []
    for name in ("nvidia-b200-sxm", "nvidia-b300-sxm"):
        kernel = _kernel(name, "nvfp4")
        assert kernel.record.machine == "b200"
        rates.append(kernel.c["compute_efficiency"] * kernel.device.peak_flops)
    assert 1.15 < rates[1] / rates[0] < 1.4


def test_check_bits_take_a_sixteenth_of_the_bandwidth_and_nothing_of_the_bound():
    device = load_hardware("nvidia-l40s")
    machine = Machine(device, "vllm")
    assert device_facts(device, "bf16").bandwidth_bytes_per_s == pytest.approx(864e9 * 15 / 16)
    assert machine.level_bandwidth(np.inf) == 864e9
    plain = load_hardware("nvidia-rtx-6000-ada")  # the same memory, check bits off as sold
    assert device_facts(plain, "bf16").bandwidth_bytes_per_s == plain.bandwidth_bytes_per_s
