"""Write a small or large GGUF model with random weights: for tests and benchmarks without a download.

Weights are drawn as codes directly (K formats) or encoded by the `gguf` package, with standard deviation 1/sqrt(columns)
so that activations stay finite through any depth. The same arguments write the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from waferline.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class RandomModel:
    """Shape of a random model; `architecture` one of `config.FAMILIES`. `head_format` is that of the output matrix."""

    architecture: str = "llama"
    layers: int = 2
    d_model: int = 256
    ffn: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    vocabulary: int = 320
    context: int = 256
    rope_base: float = 10000.0
    experts: int = 0
    experts_used: int = 0
    shared_ffn: int = 0
    format: str = "Q4_K"
    head_format: str = "Q6_K"
    tied: bool = False
    seed: int = 1
    more: tuple[tuple[str, int | float | str], ...] = ()  # metadata below the architecture's name
    expert_format: str = ""  # of the experts' matrices, where it is another


# A model of the size of TinyLlama 1.1 B: what the end-to-end benchmark runs.
ONE_BILLION = RandomModel(
    layers=22, d_model=2048, ffn=5632, heads=32, kv_heads=4, head_dim=64, vocabulary=32000, context=2048
)


def random_blocks(format: str, rows: int, cols: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Random GGUF bytes u8[rows, row bytes] whose decoded values have about the given standard deviation and mean zero."""
    draw = _DRAWN.get(format)
    if draw is not None:
        return draw(rows, cols, rng, deviation).reshape(rows, -1)
    import gguf

    values = (rng.standard_normal((rows, cols)) * deviation).astype(np.float32)
    try:
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType[format]).view(np.uint8).reshape(rows, -1)
    except (KeyError, NotImplementedError):
        raise UnsupportedError(f"random weights in {format}", where="random_gguf") from None


def _bytes_of(value: float, count: int) -> np.ndarray:
    return np.full(count, value, np.float16).view(np.uint8).reshape(count, 2)


def _q4_or_q5_k(block_bytes: int, levels: int) -> Any:
    """Codes uniform over `levels`; scales and mins 6-bit around 47, so value ~ 47 d code - 47 dmin."""

    def draw(rows: int, cols: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
        n = rows * cols // 256
        blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
        step = deviation / (levels / 12**0.5) / 47
        scales, mins = (rng.integers(30, 64, (n, 8), dtype=np.uint8) for _ in range(2))
        blocks[:, 0:2], blocks[:, 2:4] = _bytes_of(step, n), _bytes_of(step * (levels - 1) / 2, n)
        blocks[:, 4:8] = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
        blocks[:, 8:12] = mins[:, :4] | ((mins[:, 4:] >> 4) << 6)
        blocks[:, 12:16] = (scales[:, 4:] & 15) | ((mins[:, 4:] & 15) << 4)
        return blocks

    return draw


def _q6_k(rows: int, cols: int, rng: np.random.Generator, deviation: float) -> np.ndarray:
    n = rows * cols // 256
    blocks = rng.integers(0, 256, (n, 210), dtype=np.uint8)
    blocks[:, 192:208] = rng.integers(40, 90, (n, 16), dtype=np.uint8)
    blocks[:, 208:210] = _bytes_of(deviation / (64 / 12**0.5) / 65, n)
    return blocks


_DRAWN = {"Q4_K": _q4_or_q5_k(144, 16), "Q5_K": _q4_or_q5_k(176, 32), "Q6_K": _q6_k}


def write_random_gguf(path: str | Path, model: RandomModel = RandomModel()) -> Path:
    """Write the file and return its path."""
    import gguf

    path = Path(path)
    rng = np.random.default_rng(model.seed)
    writer = gguf.GGUFWriter(str(path), model.architecture)
    _write_metadata(writer, model)
    _write_vocabulary(writer, model)

    def matrix(name: str, rows: int, cols: int, format: str = model.format, count: int = 1) -> None:
        data = random_blocks(format, rows * count, cols, rng, cols**-0.5)
        if count > 1:
            data = data.reshape(count, rows, -1)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[format])

    matrix("token_embd.weight", model.vocabulary, model.d_model)
    for layer in range(model.layers):
        _write_layer(writer, model, f"blk.{layer}.", matrix, rng)
    writer.add_tensor("output_norm.weight", np.ones(model.d_model, np.float32))
    if ("rope.scaling.type", "longrope") in model.more:
        for length in ("long", "short"):
            factors = 1 + 3 * rng.random(model.head_dim // 2)
            writer.add_tensor(f"rope_factors_{length}.weight", factors.astype(np.float32))
    if not model.tied:
        matrix("output.weight", model.vocabulary, model.d_model, model.head_format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_metadata(writer: Any, m: RandomModel) -> None:
    writer.add_context_length(m.context)
    writer.add_embedding_length(m.d_model)
    writer.add_block_count(m.layers)
    writer.add_feed_forward_length(m.ffn)
    writer.add_head_count(m.heads)
    writer.add_head_count_kv(m.kv_heads)
    writer.add_key_length(m.head_dim)
    writer.add_value_length(m.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(m.head_dim)
    writer.add_rope_freq_base(m.rope_base)
    writer.add_vocab_size(m.vocabulary)
    if m.experts:
        writer.add_expert_count(m.experts)
        writer.add_expert_used_count(m.experts_used)
        writer.add_expert_feed_forward_length(m.ffn)
    if m.shared_ffn:
        writer.add_expert_shared_feed_forward_length(m.shared_ffn)
    for key, value in m.more:
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{m.architecture}.{key}", value)


def _write_vocabulary(writer: Any, m: RandomModel) -> None:
    """A SentencePiece vocabulary: three control tokens, the 256 bytes, then made-up words."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    types = [2, 3, 3] + [6] * 256
    tokens += [f"\u2581t{i}" for i in range(m.vocabulary - len(tokens))]
    types += [1] * (m.vocabulary - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(-i) for i in range(m.vocabulary)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


# What layers have beside two norms and their matrices, by architecture.
_BIASED = {"qwen2": "qkv", "qwen2moe": "qkv", "gpt-oss": "qkvo", "seed_oss": "qkv"}
_HEAD_NORMS, _WHOLE_NORMS = ("qwen3", "qwen3moe", "gemma3"), ("olmo2", "olmoe")
_SANDWICH = ("post_attention_norm", "post_ffw_norm")
_NORMS = {
    "gemma2": ("attn_norm", "ffn_norm", *_SANDWICH),
    "gemma3": ("attn_norm", "ffn_norm", *_SANDWICH),
    "olmo2": _SANDWICH,
    "gpt-oss": ("attn_norm", "post_attention_norm"),
    "seed_oss": ("attn_norm", "post_attention_norm"),
}


def _write_layer(writer: Any, m: RandomModel, prefix: str, matrix: Any, rng: np.random.Generator) -> None:
    def vector(name: str, values: np.ndarray) -> None:
        writer.add_tensor(prefix + name, values.astype(np.float32))

    def norm(name: str, width: int = m.d_model) -> None:
        vector(f"{name}.weight", 1 + 0.1 * rng.standard_normal(width))

    first, *others = _NORMS.get(m.architecture, ("attn_norm", "ffn_norm"))
    norm(first)
    _write_attention(m, prefix, matrix, vector, norm, rng)
    for name in others:
        norm(name)
    experts = {"count": m.experts, "format": m.expert_format or m.format}
    if m.architecture == "phi3":
        matrix(f"{prefix}ffn_up.weight", 2 * m.ffn, m.d_model)
        matrix(f"{prefix}ffn_down.weight", m.d_model, m.ffn)
        return
    if not m.experts:
        matrix(f"{prefix}ffn_gate.weight", m.ffn, m.d_model)
        matrix(f"{prefix}ffn_up.weight", m.ffn, m.d_model)
        matrix(f"{prefix}ffn_down.weight", m.d_model, m.ffn)
        return
    vector("ffn_gate_inp.weight", rng.standard_normal((m.experts, m.d_model)) * m.d_model**-0.5)
    matrix(f"{prefix}ffn_gate_exps.weight", m.ffn, m.d_model, **experts)
    matrix(f"{prefix}ffn_up_exps.weight", m.ffn, m.d_model, **experts)
    matrix(f"{prefix}ffn_down_exps.weight", m.d_model, m.ffn, **experts)
    if m.architecture == "gpt-oss":
        for name, width in (("gate_inp", 0), ("gate_exps", m.ffn), ("up_exps", m.ffn), ("down_exps", m.d_model)):
            shape = (m.experts, width) if width else (m.experts,)
            vector(f"ffn_{name}.bias", rng.standard_normal(shape))
    if m.shared_ffn:
        vector("ffn_gate_inp_shexp.weight", rng.standard_normal(m.d_model) * m.d_model**-0.5)
        matrix(f"{prefix}ffn_gate_shexp.weight", m.shared_ffn, m.d_model)
        matrix(f"{prefix}ffn_up_shexp.weight", m.shared_ffn, m.d_model)
        matrix(f"{prefix}ffn_down_shexp.weight", m.d_model, m.shared_ffn)


def _write_attention(
    m: RandomModel, prefix: str, matrix: Any, vector: Any, norm: Any, rng: np.random.Generator
) -> None:
    q, kv = m.heads * m.head_dim, m.kv_heads * m.head_dim
    parts = [("q", q, m.d_model), ("k", kv, m.d_model), ("v", kv, m.d_model), ("output", m.d_model, q)]
    if m.architecture == "phi3":
        parts[:3] = [("qkv", q + 2 * kv, m.d_model)]
    for name, rows, cols in parts:
        matrix(f"{prefix}attn_{name}.weight", rows, cols)
        if name[0] in _BIASED.get(m.architecture, ""):
            vector(f"attn_{name}.bias", 0.1 * rng.standard_normal(rows))
    if m.architecture in _HEAD_NORMS + _WHOLE_NORMS:
        whole = m.architecture in _WHOLE_NORMS
        norm("attn_q_norm", q if whole else m.head_dim)
        norm("attn_k_norm", kv if whole else m.head_dim)
    if m.architecture == "gpt-oss":
        vector("attn_sinks.weight", rng.standard_normal(m.heads))
