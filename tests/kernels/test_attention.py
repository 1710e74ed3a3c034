"""Attention on both caches, and the small operators, against the plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import InvalidInputError, UnknownNameError, UnsupportedError
from waferline.kernels import reference
from waferline.kernels.cpu.attention import KVCache
from waferline.kernels.cpu.elementwise import rms_norm, rope, swiglu


def filled(kind: str, tokens: int, heads: int, d: int, seed: int = 0) -> tuple[KVCache, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cache = KVCache.empty(kind, 2, heads, tokens + 3, d)
    k, v = (rng.standard_normal((tokens, heads, d)).astype(np.float32) for _ in range(2))
    cache.write(1, 0, k, v)
    return cache, k, v


@pytest.mark.parametrize(("kind", "tolerance"), [("f16", 2e-3), ("q8", 3e-2)])
@pytest.mark.parametrize(
    ("tokens", "position", "queries", "heads", "key_heads"), [(1, 0, 1, 2, 2), (37, 36, 1, 6, 2), (53, 40, 13, 7, 1)]
)
def test_attention_within_the_cache_s_rounding(
    kind: str, tolerance: float, tokens: int, position: int, queries: int, heads: int, key_heads: int
) -> None:
    cache, k, v = filled(kind, tokens, key_heads, 32)
    q = np.random.default_rng(1).standard_normal((queries, heads, 32)).astype(np.float32)
    expected = reference.attention(q, k, v, position)
    out = cache.attend(1, position, q, threads=1)
    assert np.abs(out - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("d", [16, 48, 64])  # 16 and 48 are odd numbers of columns of sixteen
def test_f16_attention_is_exact_on_the_rounded_cache(d: int) -> None:
    cache, k, v = filled("f16", 45, 2, d)
    q = np.random.default_rng(2).standard_normal((5, 8, d)).astype(np.float32)
    rounded = (a.astype(np.float16).astype(np.float64) for a in (k, v))
    expected = reference.attention(q, *rounded, 40)
    out = cache.attend(1, 40, q)
    assert np.linalg.norm(out - expected) / np.linalg.norm(expected) < 1e-6


@pytest.mark.parametrize("kind", ["f16", "q8"])
@pytest.mark.parametrize(
    ("window", "cap", "sunk"), [(7, 0.0, False), (33, 0.0, True), (0, 1.5, False), (20, 2.0, True)]
)
def test_windows_caps_and_sinks(kind: str, window: int, cap: float, sunk: bool) -> None:
    """Against their definitions, for queries on both sides of tile and window edges."""
    cache, k, v = filled(kind, 48, 2, 32)
    random = np.random.default_rng(4)
    q = random.standard_normal((9, 6, 32)).astype(np.float32)
    sinks = random.standard_normal(6).astype(np.float32) if sunk else None
    keys, values = (np.repeat(a, 3, axis=1).astype(np.float64) for a in (k, v))
    scores = np.einsum("thd,shd->ths", q, keys) * 32**-0.5
    scores = cap * np.tanh(scores / cap) if cap else scores
    t, s = 39 + np.arange(9)[:, None, None], np.arange(48)[None, None, :]
    weights = np.where((s <= t) & ((t - s < window) if window else True), np.exp(scores), 0.0)
    total = weights.sum(-1, keepdims=True) + (np.exp(sinks)[None, :, None] if sinks is not None else 0.0)
    wanted = np.einsum("ths,shd->thd", weights / total, values)
    out = cache.attend(1, 39, q, window=window, cap=cap, sinks=sinks, threads=2)
    assert np.abs(out - wanted).max() < {"f16": 1e-3, "q8": 2e-2}[kind] * np.abs(wanted).max()


def test_prefill_equals_decoding_one_by_one() -> None:
    cache, _, _ = filled("f16", 30, 2, 32)
    q = np.random.default_rng(3).standard_normal((6, 4, 32)).astype(np.float32)
    together = cache.attend(1, 20, q)
    for t in range(6):
        np.testing.assert_array_equal(cache.attend(1, 20 + t, q[t : t + 1])[0], together[t])


def test_threads_do_not_change_the_answer() -> None:
    cache, _, _ = filled("f16", 30, 2, 32)
    q = np.random.default_rng(3).standard_normal((6, 4, 32)).astype(np.float32)
    np.testing.assert_array_equal(cache.attend(1, 20, q, threads=2), cache.attend(1, 20, q))


def test_a_nan_query_spoils_only_itself() -> None:
    cache, _, _ = filled("f16", 30, 1, 32)
    q = np.random.default_rng(3).standard_normal((3, 2, 32)).astype(np.float32)
    clean = cache.attend(1, 20, q)
    q[1, 0, 5] = np.nan
    out = cache.attend(1, 20, q)
    assert np.isnan(out[1, 0]).all()
    keep = np.ones((3, 2), bool)
    keep[1, 0] = False
    np.testing.assert_array_equal(out[keep], clean[keep])


def test_wrong_caches_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="KV cache format"):
        KVCache.empty("f8", 1, 1, 16, 16)
    with pytest.raises(UnsupportedError, match="multiple of 16"):
        KVCache.empty("f16", 1, 1, 16, 20)
    cache, k, v = filled("f16", 4, 1, 16)
    with pytest.raises(InvalidInputError):
        cache.write(0, 15, k, v)
    with pytest.raises(InvalidInputError):
        cache.attend(0, 0, np.zeros((1, 1, 8), np.float32))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 3), d=st.integers(1, 80), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_rms_norm_and_swiglu(n: int, d: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = (scale * rng.standard_normal((n, d))).astype(np.float32), rng.standard_normal(d).astype(np.float32)
    np.testing.assert_allclose(rms_norm(x, w, eps=1e-5), reference.rms_norm(x, w, 1e-5), rtol=1e-5, atol=1e-6)
    up = rng.standard_normal((n, d)).astype(np.float32)
    np.testing.assert_allclose(swiglu(x, up), reference.swiglu(x, up), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("halves", [False, True])
def test_rope_is_a_rotation_by_position(halves: bool) -> None:
    x = np.random.default_rng(5).standard_normal((4, 3, 16)).astype(np.float32)
    y = rope(x, position=100, halves=halves)
    np.testing.assert_allclose(y, reference.rope(x, 100, 10000.0, halves), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(rope(x[:1], position=0, halves=halves), x[:1])


def test_small_operators_check_their_shapes() -> None:
    with pytest.raises(InvalidInputError):
        rms_norm(np.zeros((2, 3)), np.zeros(4))
    with pytest.raises(InvalidInputError):
        rope(np.zeros((2, 3, 5)))
    with pytest.raises(InvalidInputError):
        swiglu(np.zeros(3), np.zeros(4))
