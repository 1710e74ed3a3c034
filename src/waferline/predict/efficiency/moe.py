"""Seconds of a fused mixture-of-experts layer (gate, up, down of the routed experts) on one rank of a tp × ep group."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import ceil, exp, log, log1p, maximum, minimum, sqrt
from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.gemm import UNQUANTISED_BITS, quantise_s
from waferline.predict.efficiency.kernel import Kernel
from waferline.predict.efficiency.overlap import no_faster_than_light, overlap_s
from waferline.workloads.operator import Operator

POPULARITY_SPREAD = 1.9  # standard deviation over mean of a log-uniform popularity between 1 and some ten thousand rows


def distinct_experts(tokens: Floats, topk: Floats, experts: Floats) -> Floats:
    """Expected number of experts that `tokens` tokens touch under even routing: E·(1 − (1 − topk/E)^tokens)."""
    share = topk / experts
    missed = exp(tokens * log1p(-minimum(share, 1.0 - 1e-12)))
    return experts * (1.0 - missed)


def busiest_load(experts: Floats, ep: Floats) -> Floats:
    """Rows of the rank the group waits for, relative to an even share, when experts' popularity follows a power law.

    The popularity of one expert spreads about twice its mean (exponents 1.0 to 1.2, as measured tables use), the sum over
    `experts / ep` of them that much less, and the largest of `ep` such sums lies sqrt(2 ln ep) spreads above the mean.
    """
    return minimum(1.0 + POPULARITY_SPREAD * sqrt(2.0 * log(ep) * ep / experts), ep)


def moe_s(
    tokens: Floats,
    hidden: Floats,
    inter: Floats,
    topk: Floats,
    experts: Floats,
    tp: Floats,
    ep: Floats,
    *,
    weight_bits: float,
    activation_bits: float,
    light_compute_s: Floats,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
    load: Floats | None = None,
    touched: Floats | None = None,
) -> Floats:
    """Expected seconds on the rank that the group waits for; every argument broadcasts.

    tokens: before routing, over the whole group. The light terms are those of an even share: `tokens·topk/ep` expert rows
    and the weights of the experts they touch. load: rows of the slowest rank relative to that share (`busiest_load` for a
    power law; default 1, balanced). touched: experts on the rank that get any row (default `distinct_experts / ep`).
    Each expert's rows are padded to the kernel's row tile; sorting and gathering cost time a token and a routed row.
    """
    load = 1.0 if load is None else load
    touched = distinct_experts(tokens, topk, experts) / ep if touched is None else touched
    touched = maximum(touched, 1.0)
    routed = tokens * topk
    rows = routed / ep * load
    per_expert = maximum(rows / touched, 1.0)
    tiles = touched * ceil(per_expert / c["tile_m"]) * ceil(inter / tp / c["tile_n"])
    lack = maximum(device.sm_count / tiles, 1.0) - 1.0
    padded = (1.0 + c["row_padding"] * c["tile_m"] / per_expert) * load
    compute_s = light_compute_s * padded * (1.0 + c["wave_share"] * lack) / c["compute_efficiency"]
    memory_s = light_memory_s * ((1.0 + c["occupancy_loss"] * lack) / c["bandwidth_efficiency"])
    moved_s = hidden * (c["row_s"] * rows + c["routed_row_s"] * routed)
    time_s = overlap_s(compute_s, memory_s, c["exposed"]) + (
        c["floor_s"] + c["expert_s"] * touched + c["token_s"] * tokens + moved_s
    )
    if activation_bits < UNQUANTISED_BITS:
        time_s = time_s + quantise_s(rows, hidden, activation_bits=activation_bits, device=device, c=c)
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    """Routed experts of one rank; the group waits for its busiest rank."""
    s = op.shape
    return moe_s(
        *(s[key] for key in ("tokens", "hidden", "inner", "topk", "experts", "tp", "ep")),
        weight_bits=kernel.weight_bits,
        activation_bits=UNQUANTISED_BITS if "narrow" in s else kernel.door_bits,
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        device=kernel.device,
        c=kernel.c,
        load=s["load"] if "load" in s else busiest_load(s["experts"], s["ep"]),
    )


def least_weights(op: Operator) -> Floats:
    """Share of the expected weight traffic that no routing can avoid: at worst all tokens choose the same experts."""
    distinct = distinct_experts(op.shape["tokens"], op.shape["topk"], op.shape["experts"])
    return minimum(op.shape["topk"] / distinct, 1.0)
