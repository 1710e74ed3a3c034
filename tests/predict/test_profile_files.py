"""Profiles that somebody wrote or damaged: a typed line, or finite intervals in their order."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import waferline as wl
from waferline.errors import FileFormatError, InvalidInputError, UnknownNameError, WaferlineError
from waferline.predict.profile import CONSTANTS, KIND, Profile, load_profile

MINE = Profile(
    "vllm",
    "nvidia-h100-sxm-80gb",
    {name: 1e-5 if name.endswith("_s") else 0.9 for name in CONSTANTS},
    {"prefill": (-0.2, -0.1, 0.1, 0.2), "decode": (-0.2, -0.05, 0.05, 0.3)},
    {"rows": 8, "split": "5 folds", "before": {"median": 0.1, "p90": 0.2}},
)
VALUES: list[Any] = [
    None, True, -1, 0, 0.5, 1e308, -1e308, 10**400, float("inf"), float("-inf"), float("nan"), "", "vllm", "x" * 500, "\0", "1",
    [], [1], [1, 2, 3], [0.4, 0.3, 0.2, 0.1], [0, 0, 0, 1e4], [[1]], {}, {"a": 1}, {1: 2}, b"\xff",
]  # fmt: skip


def _asked(path: Path) -> None:
    """Predictions with the profile, or a typed error of one line."""
    try:
        answers = wl.ServingModel().solve(
            "llama-3-8b", "h100", 512, [1, 32], "fp16", engine="vllm", profile=str(path), tp=2, intervals=True
        )
    except WaferlineError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    for name in ("ttft", "itl"):
        light, low, expected, high = (
            np.asarray(answers[f]) for f in (f"light_{name}_s", f"{name}_low90_s", f"{name}_s", f"{name}_high90_s")
        )
        assert np.isfinite(high).all()
        assert (light <= expected * (1 + 1e-12)).all() and (light <= low * (1 + 1e-12)).all() and (low <= high).all()


def _text() -> str:
    fields = {"kind": KIND, "engine": MINE.engine, "hardware": MINE.hardware, "constants": dict(MINE.constants)}
    fields |= {"residual": {k: list(v) for k, v in MINE.residual.items()}, "card": dict(MINE.card)}
    return yaml.safe_dump(fields, sort_keys=False)


def _places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, value in inside for place in _places(value, (*at, key)))]


PLACES = _places(yaml.safe_load(_text()))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_any_value_anywhere_is_one_typed_line_or_an_interval(place: tuple[Any, ...], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for value in VALUES:
        fields = yaml.safe_load(_text())
        changed: Any = {"": fields}
        *way, last = ("", *place)
        for key in way:
            changed = changed[key]
        renamed = copy.deepcopy(changed)
        changed[last] = value
        path.write_text(yaml.safe_dump(fields if place else value))
        _asked(path)
        if isinstance(renamed, dict) and place and isinstance(value, str):
            changed[value] = changed.pop(last)  # a key of that name
            path.write_text(yaml.safe_dump(fields))
            _asked(path)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_are_one_typed_line_or_an_interval(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw, content = random.Random(seed), bytearray(_text().encode())
    for _ in range(draw.randint(1, 6)):
        i, kind = draw.randrange(len(content)), draw.randrange(3)
        if kind == 0:
            content[i] = draw.randrange(256)
        elif kind == 1:
            del content[i : i + draw.randint(1, 20)]
        else:
            content[i:i] = draw.choice(
                [b"\xff\xfe", b"9" * 400, b"\t", b"- ", b": ", b"&a [*a]", b"{", b"!!binary ", b"\0"]
            )
    path = tmp_path_factory.mktemp("damaged") / "mine.yaml"
    path.write_bytes(content)
    _asked(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constants": {"step_s": -1}}, "step_s is between 0 and 100, got -1"),
        ({"constants": {"step": 1.0}}, "did you mean step_s"),
        ({"residual": {"decode": [0.2, 0.1, 0.0, -0.1]}}, "rising order"),
        ({"residual": {"decode": [-0.1, 0.1]}}, "four log ratios"),
        ({"residual": {"decod": [-0.1, 0, 0, 0.1]}}, "did you mean decode"),
        ({"residuals": {}}, "did you mean residual"),
        ({"engine": 7}, "engine is a name, got 7"),
        ({"kind": "recipe"}, "not a profile"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(_text()), **change}))
    with pytest.raises(FileFormatError, match=message) as caught:
        load_profile(path)
    assert str(caught.value).startswith(str(path))


def test_a_profile_made_in_python_is_checked_alike() -> None:
    with pytest.raises(UnknownNameError, match="step_s"):
        Profile("vllm", "h100", {"step": 1.0})
    with pytest.raises(InvalidInputError, match="rising"):
        Profile("vllm", "h100", {}, {"decode": (1.0, 0.0, 0.0, 0.0)})


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    MINE.save(tmp_path / "mine.yaml")
    again = load_profile(tmp_path / "mine.yaml")
    assert again.constants == MINE.constants and again.card == MINE.card
    assert {k: tuple(v) for k, v in again.residual.items()} == MINE.residual
    _asked(tmp_path / "mine.yaml")
    with pytest.raises(FileFormatError):
        MINE.save(tmp_path / "none" / "mine.yaml")
