"""The model runner against llama.cpp: its stored answers always, its live ones where it is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kernels.models import MODELS, TEXTS, TOKENS
from tests.kernels.random_gguf import write_random_gguf

from waferline.kernels import runner

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "llama_cpp.json").read_text())["models"]
# Rounding of activations to int8 is chaotic: a last-bit difference flips codes, and llama.cpp differs from itself by
# 1 to 4 % of the logits' norm when the batch changes. Below this share of their deviation two logits are a tie.
TIE = 0.1
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def loaded(folder: Path, name: str) -> runner.Runner:
    path = folder / f"{name}.gguf"
    if not path.exists():
        write_random_gguf(path, MODELS[name])
    return runner.load(path, threads=1)


@every_model
def test_the_same_arguments_write_the_same_file(folder: Path, name: str) -> None:
    loaded(folder, name)
    assert hashlib.sha256((folder / f"{name}.gguf").read_bytes()).hexdigest() == GOLDEN[name]["sha256"]


@every_model
def test_logits_of_the_first_token(folder: Path, name: str) -> None:
    """At position 0 attention sees one value, so no rounding is flipped: the whole model must agree to 1e-6."""
    y = loaded(folder, name).decode(TOKENS[0])
    expected = np.array(GOLDEN[name]["first_logits"])
    assert np.linalg.norm(y - expected) / np.linalg.norm(expected) < 1e-6


@every_model
def test_argmax_of_every_token(folder: Path, name: str) -> None:
    model = loaded(folder, name)
    clear = 0
    for token, best, margin in zip(TOKENS, GOLDEN[name]["argmax"], GOLDEN[name]["margin"], strict=True):
        y = model.decode(token)
        if margin > TIE:
            assert int(y.argmax()) == best
            clear += 1
        else:
            assert best in np.argsort(-y)[:3]
    assert clear >= 3


@every_model
def test_token_numbers_of_texts(folder: Path, name: str) -> None:
    model = loaded(folder, name)
    assert model.tokenizer is not None
    assert [model.tokenizer.encode(text) for text in TEXTS] == GOLDEN[name]["texts"]


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@every_model
def test_live_llama_cpp(folder: Path, name: str) -> None:
    from benchmarks.kernels.llama import LlamaCpp

    model = loaded(folder, name)
    peer = LlamaCpp(str(folder / f"{name}.gguf"), threads=1, context=256)
    for token in TOKENS:
        y, expected = model.decode(token), peer.evaluate([token])
        assert np.linalg.norm(y - expected) / np.linalg.norm(expected) < 0.05
    peer.forget()
    model.reset()
    y, expected = model.prefill(TOKENS), peer.evaluate(TOKENS)
    assert np.corrcoef(y, expected)[0, 1] > 0.995
    peer.close()
