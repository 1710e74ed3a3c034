"""What a decode step reads and writes: the records of arrays that the compiled functions take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from waferline.kernels.cpu.activations import buffers

# What the time of a token is divided into; `ticks` has one counter each.
OPERATORS = (
    "norm", "quantise", "attn_qkv", "rope_and_cache", "attention", "attn_output", "router", "ffn_gate_up", "swiglu", "ffn_down",
    "output",
)  # fmt: skip
(NORM, QUANTISE, QKV, ROPE, ATTENTION, ATTN_OUT, ROUTE, GATE_UP, SWIGLU, DOWN_OP, OUTPUT) = range(len(OPERATORS))

# Layouts of a packed activation, in the order of `Work.packed`.
LAYOUTS = ("q8_k", "q8_0", "f32")


class Packed(NamedTuple):
    """One activation vector in one layout (see `cpu.activations`)."""

    codes: np.ndarray
    sums: np.ndarray
    sums16: np.ndarray
    scales: np.ndarray


class Work(NamedTuple):
    """Work arrays of a decode step; rows are padded to whole tiles."""

    packed: tuple[Packed, Packed, Packed]  # the activation in each of `LAYOUTS`
    h: np.ndarray  # f32[1, width] normalised input
    q: np.ndarray
    kk: np.ndarray
    v: np.ndarray
    attended: np.ndarray
    o: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    act: np.ndarray
    router: np.ndarray
    sum: np.ndarray  # f32[1, d_model] what the networks of a layer add up to
    scores: np.ndarray  # f32[threads, 4, more than slots]


class Model(NamedTuple):
    """What a decode step reads: vectors by layer, empty where the model has none."""

    arena: np.ndarray
    table: np.ndarray
    attn_norm: np.ndarray
    attn_out_norm: np.ndarray
    ffn_norm: np.ndarray
    ffn_out_norm: np.ndarray
    q_norm: np.ndarray
    k_norm: np.ndarray
    attn_q_bias: np.ndarray
    attn_k_bias: np.ndarray
    attn_v_bias: np.ndarray
    attn_output_bias: np.ndarray
    ffn_gate_inp_bias: np.ndarray
    ffn_gate_exps_bias: np.ndarray
    ffn_up_exps_bias: np.ndarray
    ffn_down_exps_bias: np.ndarray
    sinks: np.ndarray
    shared_gate: np.ndarray
    output_norm: np.ndarray
    windows: np.ndarray  # i64[layers], 0 for all
    cos: np.ndarray  # f32[2, slots, pairs]: for layers that see everything, and for those with a window
    sin: np.ndarray


class Shape(NamedTuple):
    """The numbers of `ModelConfig` a decode step needs."""

    heads: int
    kv_heads: int
    head_dim: int
    d_model: int
    ffn: int
    experts: int
    experts_used: int
    shared_ffn: int
    halves: bool
    renormalise: bool
    activation: int  # of `ACTIVATIONS`
    eps: float
    score_scale: np.float32
    score_cap: np.float32
    residual_scale: np.float32


class Cache(NamedTuple):
    """The arrays of a `KVCache`."""

    keys: np.ndarray
    values: np.ndarray
    k_scale: np.ndarray
    v_scale: np.ndarray


def packed_for(kind: str, width: int) -> Packed:
    """Buffers for one vector of up to `width` elements."""
    block = {"q8_k": 256, "q8_0": 64, "f32": 32}[kind]
    return Packed(*buffers(kind, -(-width // block) * block, 1, 1))
