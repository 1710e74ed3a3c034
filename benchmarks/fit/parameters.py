"""What is fitted, for each operator: name, start, lower and upper bound; times are searched in micro- or nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    name: str
    start: float
    low: float
    high: float
    unit: float = 1.0  # value in SI = searched value * unit


US, NS, PS = 1e-6, 1e-9, 1e-12
P = Parameter

COMPUTE = [
    P("compute_efficiency", 0.75, 0.03, 1.0),
    P("bandwidth_efficiency", 0.75, 0.03, 1.0),
    P("exposed", 0.3, 0.0, 1.0),
    P("floor_s", 4, 0.5, 400, US),
]
QUANTISE = [
    P("quant_floor_s", 2, 0, 15, US),
    P("quant_row_s", 1, 0, 20, NS),
    P("quant_bandwidth_efficiency", 0.6, 0.03, 4.0),
    P("quant_column_s", 0.3, 0, 4, NS),
]

PARAMETERS: dict[str, list[Parameter]] = {
    "gemm": [
        *COMPUTE,
        P("occupancy_loss", 0.2, 0, 4),
        P("k_ramp", 1, 0, 6),
        P("wave_share", 0.3, 0, 1),
        P("k_step_share", 0.2, 0, 3),
        P("split_k", 3, 0.05, 40),
        P("cache_gain", 0.3, 0, 0.95),
        P("cache_share", 0.2, 0.02, 1.2),
    ],
    "decode_attention": [
        *COMPUTE,
        P("occupancy_loss", 0.2, 0, 4),
        P("row_overhead_bytes", 5, 0, 400),
        P("pair_s", 5, 0, 60, NS),
        P("pair_alone_s", 5, 0, 60, NS),
        P("wide_head_s", 1, 0, 60, NS),
        P("grouped_floor_s", 1, 0, 15, US),
        P("unsplit_step_s", 0.5, 0, 150, NS),
        P("kv_step_s", 1, 0, 40, NS),
        P("cache_gain", 0.3, 0, 0.95),
        P("cache_share", 0.8, 0.05, 3),
    ],
    "prefill_attention": [
        *COMPUTE,
        P("wave_share", 0.5, 0, 3),
        P("mask_loss", 0.5, 0, 3),
        P("head_dim_loss", 0.2, 0, 4),
        P("wide_head_loss", 0.05, 0, 2),
        P("program_s", 1, 0, 60, NS),
        P("kv_token_s", 0.05, 0, 20, NS),
        P("kv_step_s", 1, 0, 40, NS),
    ],
    "mla_decode": [
        *COMPUTE,
        P("occupancy_loss", 0.2, 0, 4),
        P("head_padding", 0.5, 0, 1),
        P("unsplit_step_s", 2, 0, 300, NS),
        P("pair_s", 1, 0, 60, NS),
        P("kv_step_s", 1, 0, 40, NS),
        P("cache_gain", 0.3, 0, 0.95),
        P("cache_share", 0.8, 0.05, 3),
    ],
    "mla_prefill": [
        *COMPUTE,
        P("wave_share", 0.5, 0, 3),
        P("mask_loss", 0.5, 0, 3),
        P("program_s", 1, 0, 60, NS),
        P("kv_step_s", 1, 0, 40, NS),
    ],
    "moe": [
        *COMPUTE,
        P("row_padding", 0.5, 0, 4),
        P("wave_share", 0.3, 0, 1),
        P("occupancy_loss", 0.2, 0, 4),
        P("expert_s", 20, 0, 2000, NS),
        P("row_s", 1, 0, 200, PS),
        P("routed_row_s", 0.3, 0, 200, PS),
        P("token_s", 0.2, 0, 50, NS),
    ],
    "streaming": [
        P("floor_s", 3, 0.3, 60, US),
        P("bandwidth_efficiency", 0.8, 0.03, 1.0),
        P("cache_gain", 0.3, 0, 0.95),
        P("cache_share", 0.5, 0.05, 1.0),
    ],
    "collective": [
        P("one_shot_floor_s", 4, 0.3, 200, US),
        P("one_shot_rank_s", 0.5, 0, 30, US),
        P("one_shot_efficiency", 0.3, 0.002, 4.0),
        P("two_shot_floor_s", 8, 0.5, 300, US),
        P("two_shot_rank_s", 1, 0, 30, US),
        P("two_shot_efficiency", 0.6, 0.01, 1.0),
    ],
}
# Not searched by gradient: integers and choices.
CONSTANT = {
    "gemm": {"tile_m": 64.0, "tile_n": 128.0},
    "moe": {"tile_m": 16.0, "tile_n": 128.0},
}
# Constants tried in turn instead of searched; the training rows choose.
CHOICES: dict[str, list[dict[str, float]]] = {
    "gemm": [{"tile_m": 64.0, "tile_n": 128.0}, {"tile_m": 64.0, "tile_n": 64.0}],
    "gemm quantised": [{"tile_m": 64.0, "tile_n": 128.0}, {"tile_m": 128.0, "tile_n": 128.0}],
    "decode_attention": [
        {"kv_chunk": 256.0, "split_units": 1.0},
        {"kv_chunk": 1024.0, "split_units": 0.5},
        {"kv_chunk": 1024.0, "split_units": 2.0},
    ],
}
# Second starts, for models with a choice in them (a `min` of protocols, a kernel that may or may not split).
RESTARTS: dict[str, list[dict[str, float]]] = {
    "mla_decode": [{"unsplit_step_s": 80.0, "exposed": 0.1, "occupancy_loss": 0.0}],
    "decode_attention": [{"unsplit_step_s": 20.0}],
    "collective": [
        {"one_shot_floor_s": 5.0, "one_shot_efficiency": 0.1, "two_shot_floor_s": 15.0, "two_shot_efficiency": 0.8},
        {"one_shot_floor_s": 30.0, "one_shot_efficiency": 0.3, "two_shot_floor_s": 60.0, "two_shot_efficiency": 0.8},
        {"one_shot_floor_s": 10.0, "one_shot_efficiency": 0.03, "two_shot_floor_s": 30.0, "two_shot_efficiency": 0.6},
    ],
}
