"""Constants measured on one machine, as another would have them: what of a kernel's times follows the sheet.

Three figures for all operators, chosen on pairs of measured NVIDIA machines, each lending to the other (GEMM, attention, MLA and
experts: geometric means of the median errors). Chosen without any pair of the borrower, they take loans to an A100 from 22.9 to
20.3 %, to an H100 from 16.7 to 15.1, an H200 from 16.6 to 15.3, a B200 from 23.3 to 21.7 and an RTX PRO 6000 from 29.6 to 20.9.
Two kinds of kernels have figures of their own, and a set fitted over several machines may bring its own (MLA's decode).

- A matrix engine waits for operands and results: an operation takes the inverse of the peak, and a time beside it that no
  faster multiplication shortens. The inverse of the share of the peak grows by it with the operations a unit does in a clock.
- The share of the bandwidth falls with the bytes that a unit moves in a clock, as long queues are harder to keep full.
- Times of launches and of steps in a chain shrink with the root of the clock: half of them are clocks of the units, half are of
  memory and fabric, of which no sheet tells. Times of work that all units share (pairs, experts, rows) shrink with the root of
  clock and units, for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from waferline.predict.efficiency.coefficients import Record, measured_as, sheet_of
from waferline.predict.efficiency.device import DeviceFacts

# Unit clocks an operation. Shares of the peak that large GEMMs reach: 0.81 at 1,000 operations a unit and clock (bf16 on an RTX PRO
# 6000), 0.81 at 4,100 (H100), 0.72 at 8,200 (B200), 0.68 at 16,400 (fp8), 0.51 at 33,000 (fp4).
FEEDING = 2.3e-5
# The same of kernels that unpack narrow weights between their multiplications (Marlin): they end near 1,360 operations a unit
# and clock whatever the peak. Experts in w4a16: 660 of 1,030 on an RTX PRO 6000, 1,080 of 4,100 on H100, 1,010 of 8,200 on B200.
FEEDING_UNPACKED = 7.4e-4
UNPACKED = ("w4a16", "w8a16")
BANDWIDTH_POWER = -0.1
# What prefill attention moves passes through its units' registers: half of its pace is theirs, half the memory's.
BANDWIDTH_POWERS = {"prefill_attention": -0.5}
TIME_POWER = 0.5
CHAINED = ("floor_s", "grouped_floor_s", "quant_floor_s", "kv_step_s", "unsplit_step_s", "quant_column_s")
SHARED_OUT = (
    "pair_s", "pair_alone_s", "wide_head_s", "program_s", "kv_token_s", "expert_s", "row_s", "routed_row_s", "token_s",
    "quant_row_s",
)  # fmt: skip
LOWEST_SHARE = 0.02


class Pace(NamedTuple):
    """What the rules read of a sheet: clock in Hz, units, and what one unit does in a clock: operations in the format, bytes of
    main memory."""

    clock_hz: float
    units: float
    operations: float
    n_bytes: float


# The sheet at which constants fitted over all machines of a vendor are quoted: a scale, not a fact, near that of an A100.
REFERENCE = Pace(1.8e9, 132.0, 2048.0, 16.0)


def pace(device: DeviceFacts) -> Pace:
    clocks = device.sm_count * device.clock_hz
    return Pace(device.clock_hz, device.sm_count, device.ops_per_unit_clock, device.bandwidth_bytes_per_s / clocks)


def constants(record: Record, name: str, device: DeviceFacts, arithmetic: str) -> Mapping[str, float]:
    """The constants of `record` on the machine called `name`: as they are where they were measured on it, else by the rules."""
    if record.machine.startswith("transfer-"):
        return as_on(record.c, record.op_kind, record.compute_format, REFERENCE, pace(device))
    facts = None if measured_as(name) == record.machine else sheet_of(record.machine)
    if facts is None:
        return record.c
    to = pace(device)
    clocks = float(facts["units"]) * float(facts["clock_hz"])
    # A lender without this arithmetic lends the share of the format that stands in.
    peak = facts["peak_flops"].get(arithmetic)
    operations = to.operations if peak is None else float(peak) / clocks
    lender = Pace(
        float(facts["clock_hz"]), float(facts["units"]), operations, float(facts["bandwidth_bytes_per_s"]) / clocks
    )
    return as_on(record.c, record.op_kind, record.compute_format, lender, to)


def as_on(c: Mapping[str, float], kind: str, fmt: str, lender: Pace, borrower: Pace) -> dict[str, float]:
    """Constants of an operator's kernels in `fmt`, quoted at the sheet of `lender`, as `borrower` has them; the rest stays."""
    chained = (lender.clock_hz / borrower.clock_hz) ** TIME_POWER
    shared_out = chained * (lender.units / borrower.units) ** TIME_POWER
    out = dict(c)
    out |= {name: c[name] * chained for name in CHAINED if name in c}
    out |= {name: c[name] * shared_out for name in SHARED_OUT if name in c}
    if "compute_efficiency" in c:
        share = c["compute_efficiency"]
        # Kernels that already outrun the figure wait no longer than they take: a faster engine is never slower.
        usual = FEEDING_UNPACKED if fmt in UNPACKED else FEEDING
        feeding = min(c.get("feeding", usual), 1.0 / (share * lender.operations))
        inverse = 1.0 / share + feeding * (borrower.operations - lender.operations)
        out["compute_efficiency"] = 1.0 / min(max(inverse, 1.0), 1.0 / LOWEST_SHARE)
    if "bandwidth_efficiency" in c:
        power = c.get("bandwidth_power", BANDWIDTH_POWERS.get(kind, BANDWIDTH_POWER))
        share = c["bandwidth_efficiency"] * (borrower.n_bytes / lender.n_bytes) ** power
        out["bandwidth_efficiency"] = min(max(share, LOWEST_SHARE), 1.0)
    return out
