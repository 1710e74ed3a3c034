"""Models and wafers of the wafer tests, with the published widths (`config.json` of each model)."""

from __future__ import annotations

import pytest

from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.machines.mesh import MeshParameters, load_parameters
from waferline.workloads.spec import Attention, Block, FeedForward, MixtureOfExperts, Transformer


def llama(name: str, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocab: int) -> Transformer:
    mixer = Attention(heads=heads, kv_heads=kv_heads, head_dim=hidden // heads)
    block = Block(count=layers, mixer=mixer, ffn=FeedForward(intermediate=inner))
    return Transformer(name=name, title=name, family="llama", hidden_size=hidden, vocab_size=vocab, blocks=(block,))


MODELS = {
    "llama-3-8b": llama("llama-3-8b", 4096, 14336, 32, 32, 8, 128256),
    "llama-3-70b": llama("llama-3-70b", 8192, 28672, 80, 64, 8, 128256),
    "qwen2-72b": llama("qwen2-72b", 8192, 29568, 80, 64, 8, 152064),
    "llama-2-13b": llama("llama-2-13b", 5120, 13824, 40, 40, 40, 32000),
}


@pytest.fixture(scope="session")
def models() -> dict[str, Transformer]:
    return MODELS


@pytest.fixture(scope="session")
def moe() -> Transformer:
    mixer = Attention(heads=64, kv_heads=8, head_dim=64)
    ffn = MixtureOfExperts(experts=32, experts_per_token=4, intermediate=2880)
    block = Block(count=24, mixer=mixer, ffn=ffn)
    return Transformer(name="moe", title="moe", family="moe", hidden_size=2880, vocab_size=201088, blocks=(block,))


@pytest.fixture(scope="session")
def cs2() -> Device:
    return load_hardware("cs2")


@pytest.fixture(scope="session")
def cs3() -> Device:
    return load_hardware("cs3")


@pytest.fixture(scope="session")
def wse2() -> MeshParameters:
    return load_parameters("wse2-waferllm")
