"""A real model, where one is at hand: `make test-real GGUF=gemma-3-270m-q4_k_m.gguf`. Not collected otherwise.

Any GGUF file is held against NumPy; Gemma 3 270M also continues what everybody knows how to continue.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.kernels.numpy_model import Model

from waferline.kernels import runner

PATH = Path(os.environ["WAFERLINE_REAL_GGUF"])
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness,"


@pytest.fixture(scope="module")
def model() -> runner.Runner:
    return runner.load(PATH)


def test_logits_are_those_of_numpy(model: runner.Runner) -> None:
    """Activations are rounded to eight bits here and not there: logits agree to some percent, the best token nearly always."""
    tokens = model.encode(TEXT)
    wanted = Model(PATH).logits(tuple(tokens))
    model.reset()
    found = model.prefill(tokens, all_logits=True)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, wanted, strict=True)]
    assert min(correlations) > 0.99
    assert np.mean(found.argmax(-1) == wanted.argmax(-1)) > 0.9
    spread = wanted - wanted.max(-1, keepdims=True)
    logp = (spread - np.log(np.exp(spread).sum(-1, keepdims=True)))[np.arange(len(tokens) - 1), tokens[1:]]
    assert -logp[5:].mean() < 1.5  # nats a token: every language model has read this sentence


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("1, 2, 3, 4, 5,", " 6, 7, 8, 9, 10"), ("The quick brown fox jumps over the", " lazy dog")],
)
def test_it_goes_on_as_it_should(model: runner.Runner, prompt: str, expected: str) -> None:
    assert model.generate(prompt, 20).text.startswith(expected)


def test_text_becomes_the_tokens_of_its_vocabulary(model: runner.Runner) -> None:
    if model.config.architecture == "gemma3":
        assert model.encode("The capital of France is") == [2, 818, 5279, 529, 7001, 563]
    assert model.text(model.encode(TEXT)).strip() == TEXT
