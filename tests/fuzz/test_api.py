"""Every public callable, given what nobody means: an answer or an error of `waferline.errors`, and never an answer to nonsense."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from benchmarks.fuzz import api
from benchmarks.fuzz.places import make

import waferline
from waferline.errors import InvalidInputError


def test_wrong_values_end_in_typed_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path))
    warnings.simplefilter("ignore")
    wrong = {str(case): api.breach(case) for case in api.sample(random.Random(20), 1_500)}
    assert {case: what for case, what in wrong.items() if what is not None} == {}


def test_the_door_names_the_argument_and_the_kind() -> None:
    with pytest.raises(InvalidInputError, match="scenario must be a Scenario, got 7"):
        waferline.run(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="unexpected keyword argument 'spam'"):
        waferline.ServingModel().solve("gpt2", "l4", 128, spam=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidInputError, match="kv must be text or None, got 8"):
        waferline.ServingModel().solve("gpt2", "l4", 128, kv=8)  # type: ignore[arg-type]
    answer = waferline.ServingModel().solve("gpt2", "l4", 128)
    with pytest.raises(InvalidInputError, match="name must be text, got 0"):
        answer[0]  # type: ignore[index]
    with pytest.raises(InvalidInputError, match="batch_size must be a number"):
        waferline.ServingModel().solve("gpt2", "l4", 128, np.ma.masked_array([1, 2], mask=[True, False]))
