"""Whole models in NumPy and float64, straight from the descriptions of llama.cpp (src/models/*.cpp): what the runner is held
against where no llama.cpp is installed. Weights are read by the `gguf` package; nothing here is the product's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

Array = np.ndarray

# Rotary pairs (i, i + d/2); every n-th layer sees all and the others a window; rotary base of layers with a window.
HALVES = {
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "gemma",
    "gemma2",
    "gemma3",
    "olmo2",
    "olmoe",
    "phi3",
    "gpt-oss",
    "seed_oss",
}
PERIOD = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "olmo2": 4}
BEFORE_FFN = {"gpt-oss": "post_attention_norm", "seed_oss": "post_attention_norm"}
SANDWICHED = {"gemma2", "gemma3", "olmo2"}
AS_THEY_ARE = {"olmoe", "qwen2moe"}  # shares of the chosen experts, which others make sum to one


class Model:
    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(str(path))
        self.keys: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items()}
        self.arch: str = self.keys["general.architecture"]
        self.tensors = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64).reshape(t.shape[::-1])
            for t in reader.tensors
        }

    def key(self, name: str, default: Any = None) -> Any:
        return self.keys.get(f"{self.arch}.{name}", default)

    def layer(self, n: int, name: str) -> Array | None:
        return self.tensors.get(f"blk.{n}.{name}")

    def norm(self, x: Array, weight: Array | None) -> Array:
        if weight is None:
            return x
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.key("attention.layer_norm_rms_epsilon")) * weight

    def window(self, n: int) -> int:
        period = PERIOD.get(self.arch, 0)
        return self.key("attention.sliding_window", 0) if period and n % period < period - 1 else 0

    def frequencies(self, n: int, width: int) -> tuple[Array, float]:
        """Angles a position and the factor of cosine and sine."""
        local, base = self.window(n) > 0, self.key("rope.freq_base", 10000.0)
        if local and self.arch == "gemma3":
            return 10000.0 ** (-np.arange(0, width, 2) / width), 1.0
        f = base ** (-np.arange(0, width, 2) / width)
        kind = self.key("rope.scaling.type")
        if kind is None or (local and self.arch == "olmo2"):
            return f, 1.0
        if kind == "longrope":
            length = "long" if self.context > self.key("rope.scaling.original_context_length") else "short"
            return f / self.tensors[f"rope_factors_{length}.weight"], self.key("rope.scaling.attn_factor", 1.0)
        factor = self.key("rope.scaling.factor")
        if kind == "linear":
            return f / factor, 1.0
        assert kind == "yarn"
        trained = self.key("rope.scaling.original_context_length")

        def pair(turns: float) -> float:
            return width * np.log(trained / (turns * 2 * np.pi)) / (2 * np.log(base))

        low, high = max(0.0, np.floor(pair(32.0))), min(width - 1.0, np.ceil(pair(1.0)))
        ramp = 1 - np.clip((np.arange(width // 2) - low) / max(0.001, high - low), 0, 1)
        return f / factor * (1 - ramp) + f * ramp, 1.0 + 0.1 * np.log(factor)

    context = 256

    def rope(self, x: Array, n: int) -> Array:
        """x (tokens, heads, d) at positions 0 ..."""
        width = self.key("rope.dimension_count", x.shape[-1])
        f, magnitude = self.frequencies(n, width)
        angle = np.arange(len(x))[:, None, None] * f
        turn = magnitude * np.exp(1j * angle)
        y = x.copy()
        pairs = (slice(0, width // 2), slice(width // 2, width)) if self.arch in HALVES else (
            slice(0, width, 2), slice(1, width, 2)
        )  # fmt: skip
        turned = (x[..., pairs[0]] + 1j * x[..., pairs[1]]) * turn
        y[..., pairs[0]], y[..., pairs[1]] = turned.real, turned.imag
        return y

    def attention(self, x: Array, n: int) -> Array:
        heads, kv_heads = self.key("attention.head_count"), self.key("attention.head_count_kv")
        d = self.key("attention.key_length")
        together = self.layer(n, "attn_qkv.weight")
        if together is not None:
            parts = np.split(x @ together.T, [heads * d, (heads + kv_heads) * d], axis=1)
        else:
            parts = [self.linear(x, n, f"attn_{p}") for p in "qkv"]
        q, k, v = parts
        whole = self.layer(n, "attn_q_norm.weight")
        if whole is not None and whole.size != d:
            q, k = self.norm(q, whole), self.norm(k, self.layer(n, "attn_k_norm.weight"))
        q, k, v = (a.reshape(len(x), -1, d) for a in (q, k, v))
        if whole is not None and whole.size == d:
            q, k = self.norm(q, whole), self.norm(k, self.layer(n, "attn_k_norm.weight"))
        q, k = self.rope(q, n), self.rope(k, n)
        k, v = (np.repeat(a, heads // kv_heads, axis=1) for a in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) * self.key("attention.scale", d**-0.5)
        cap = self.key("attn_logit_softcapping")
        if cap:
            scores = cap * np.tanh(scores / cap)
        t, s = np.arange(len(x))[:, None], np.arange(len(x))[None, :]
        seen = (s <= t) & ((t - s < self.window(n)) if self.window(n) else True)
        weights = np.where(seen, np.exp(scores - scores.max()), 0.0)
        total = weights.sum(-1, keepdims=True)
        sinks = self.layer(n, "attn_sinks.weight")
        if sinks is not None:
            total = total + np.exp(sinks - scores.max())[:, None, None]
        out = np.einsum("hts,shd->thd", weights / total, v).reshape(len(x), -1)
        return self.linear(out, n, "attn_output")

    def linear(self, x: Array, n: int, name: str) -> Array:
        weight, bias = self.layer(n, f"{name}.weight"), self.layer(n, f"{name}.bias")
        assert weight is not None
        return x @ weight.T + (0.0 if bias is None else bias)

    def act(self, gate: Array, up: Array) -> Array:
        if self.arch.startswith("gemma"):
            return 0.5 * gate * (1 + np.tanh((2 / np.pi) ** 0.5 * (gate + 0.044715 * gate**3))) * up
        if self.arch == "gpt-oss":
            gate, up = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
            return gate / (1 + np.exp(-1.702 * gate)) * (up + 1)
        return gate / (1 + np.exp(-gate)) * up

    def network(self, x: Array, n: int) -> Array:
        up = self.layer(n, "ffn_up.weight")
        assert up is not None
        if self.layer(n, "ffn_gate.weight") is None:
            gate, value = np.split(x @ up.T, 2, axis=1)
            return self.linear(self.act(gate, value), n, "ffn_down")
        return self.linear(self.act(self.linear(x, n, "ffn_gate"), self.linear(x, n, "ffn_up")), n, "ffn_down")

    def mixture(self, x: Array, n: int) -> Array:
        logits = self.linear(x, n, "ffn_gate_inp")
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y = np.zeros_like(x)
        for t, row in enumerate(p):
            chosen = np.argsort(-row)[: self.key("expert_used_count")]
            weights = row[chosen] / (1.0 if self.arch in AS_THEY_ARE else row[chosen].sum())
            for e, weight in zip(chosen, weights, strict=True):
                gate, up = (self.expert(x[t], n, f"ffn_{part}_exps", e) for part in ("gate", "up"))
                y[t] += weight * self.expert(self.act(gate, up), n, "ffn_down_exps", e)
        if (shared := self.layer(n, "ffn_gate_inp_shexp.weight")) is not None:
            gate, up = (self.linear(x, n, f"ffn_{part}_shexp") for part in ("gate", "up"))
            y += self.linear(self.act(gate, up), n, "ffn_down_shexp") / (1 + np.exp(-(x @ shared.reshape(-1, 1))))
        return y

    def expert(self, x: Array, n: int, name: str, e: int) -> Array:
        weight, bias = self.layer(n, f"{name}.weight"), self.layer(n, f"{name}.bias")
        assert weight is not None
        return weight[e] @ x + (0.0 if bias is None else bias[e])

    def logits(self, tokens: tuple[int, ...]) -> Array:
        embedding = self.tensors["token_embd.weight"]
        x = embedding[list(tokens)]
        x = x * (x.shape[1] ** 0.5 if self.arch.startswith("gemma") else self.key("embedding_scale", 1.0))
        residual = self.key("residual_scale", 1.0)
        for n in range(self.key("block_count")):
            y = self.attention(self.norm(x, self.layer(n, "attn_norm.weight")), n)
            if self.arch in SANDWICHED:
                y = self.norm(y, self.layer(n, "post_attention_norm.weight"))
            x = x + residual * y
            y = self.norm(x, self.layer(n, BEFORE_FFN.get(self.arch, "ffn_norm") + ".weight"))
            y = self.mixture(y, n) if self.key("expert_count") else self.network(y, n)
            if self.arch in SANDWICHED:
                y = self.norm(y, self.layer(n, "post_ffw_norm.weight"))
            x = x + residual * y
        x = self.norm(x, self.tensors["output_norm.weight"])
        y = x @ self.tensors.get("output.weight", embedding).T / self.key("logit_scale", 1.0)
        cap = self.key("final_logit_softcapping")
        return cap * np.tanh(y / cap) if cap else y
