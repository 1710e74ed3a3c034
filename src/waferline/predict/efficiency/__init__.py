"""Operator efficiency: from speed-of-light times to expected seconds, with constants that say where they come from.

Each model is a pure function on broadcastable arrays, never faster than light:

    record, tier = coefficients("h100", "gemm", "bf16", "hopper", "nvidia", "gpu")
    seconds = gemm_s(m, n, k, light_compute_s=..., light_memory_s=..., weight_bits=16, activation_bits=16, device=facts, c=record.c)
    spread = interval(record.residual, seconds)
"""

from waferline.predict.efficiency.attention import decode_attention_s, prefill_attention_s
from waferline.predict.efficiency.coefficients import Record, Tier, coefficients, measured_name, op_kinds
from waferline.predict.efficiency.collectives import all_gather_s, all_reduce_s, all_to_all_s, p2p_s, reduce_scatter_s
from waferline.predict.efficiency.device import DeviceFacts, LinkFacts, device_facts, link_facts
from waferline.predict.efficiency.gemm import gemm_s, quantise_s
from waferline.predict.efficiency.intervals import Interval, Regime, interval, log_quantiles
from waferline.predict.efficiency.mla import mla_decode_s, mla_prefill_s
from waferline.predict.efficiency.moe import busiest_load, distinct_experts, moe_s
from waferline.predict.efficiency.streaming import streaming_s

__all__ = [
    "DeviceFacts",
    "Interval",
    "LinkFacts",
    "Record",
    "Regime",
    "Tier",
    "all_gather_s",
    "all_reduce_s",
    "all_to_all_s",
    "busiest_load",
    "coefficients",
    "decode_attention_s",
    "device_facts",
    "distinct_experts",
    "gemm_s",
    "interval",
    "link_facts",
    "log_quantiles",
    "measured_name",
    "mla_decode_s",
    "mla_prefill_s",
    "moe_s",
    "op_kinds",
    "p2p_s",
    "prefill_attention_s",
    "quantise_s",
    "reduce_scatter_s",
    "streaming_s",
]
