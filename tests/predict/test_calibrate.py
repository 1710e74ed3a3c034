"""Calibration: constants are found again, do not leak into rows left out, and travel as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import waferline as wl
from waferline.errors import FileFormatError, InvalidInputError
from waferline.predict.calibrate import Observation, calibrate
from waferline.predict.profile import Profile, load_profile

SHAPES = [(b, i, o) for b in (1, 4, 16) for i, o in ((128, 128), (1024, 256))]


def _rows(profile: Profile | None, slower: float = 1.0) -> list[Observation]:
    """What a machine would show if the profile were the truth, and everything `slower` times slower."""
    rows = []
    for b, i, o in SHAPES:
        r = wl.ServingModel().solve("llama-3-8b", "h100", i, b, "fp16", output_len=o, engine="vllm", profile=profile)
        seen = Observation(
            "llama-3-8b", "nvidia-h100-sxm-80gb", "vllm", "fp16", "tpot_s", float(r["itl_s"]) * slower, b, i, o
        )
        rows += [seen, replace(seen, metric="ttft_s", value=float(r["ttft_s"]) * slower)]
    return rows


def test_rows_of_the_catalogue_itself_need_no_calibration() -> None:
    found = calibrate(_rows(None))
    assert found.before.median < 1e-6
    assert found.held_out.median < 0.01


def test_a_slower_machine_is_found_and_rows_left_out_gain() -> None:
    found = calibrate(_rows(None, slower=1.4))
    assert found.before.median == pytest.approx(1 - 1 / 1.4, abs=0.01)
    assert found.helps and found.held_out.median < 0.05


def test_noise_alone_gains_little() -> None:
    draw = np.random.default_rng(0)
    noisy = [replace(o, value=o.value * float(np.exp(draw.normal(0, 0.05)))) for o in _rows(None)]
    found = calibrate(noisy)
    assert found.held_out.median < 2 * found.before.median + 0.02


def test_a_profile_travels_as_a_file_and_changes_predictions(tmp_path: Path) -> None:
    found = calibrate(_rows(None, slower=1.4))
    path = tmp_path / "mine.yaml"
    found.profile.save(path)
    again = load_profile(path)
    assert dict(again.constants) == dict(found.profile.constants)
    arguments = ("llama-3-8b", "h100", 1024, 4, "fp16")
    plain = wl.ServingModel().solve(*arguments, output_len=256, engine="vllm")
    mine = wl.ServingModel().solve(*arguments, output_len=256, engine="vllm", profile=str(path))
    assert mine["itl_s"] == pytest.approx(1.4 * float(plain["itl_s"]), rel=0.1)
    assert mine["light_itl_s"] == plain["light_itl_s"] and mine["itl_low90_s"] >= mine["light_itl_s"] * (1 - 1e-12)


def test_a_profile_is_of_one_engine_and_machine(tmp_path: Path) -> None:
    profile = Profile("vllm", "nvidia-h100-sxm-80gb", {"step_s": 1e-3})
    with pytest.raises(InvalidInputError, match="fitted for vllm"):
        wl.ServingModel().solve("llama-3-8b", "a100", 128, 1, "fp16", engine="vllm", profile=profile)
    with pytest.raises(FileFormatError):
        load_profile(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("kind: waferline engine profile\nengine: vllm\nhardware: h\nconstants: {step_s: -1}\n")
    with pytest.raises(FileFormatError, match="step_s"):
        load_profile(path)


@pytest.mark.parametrize("change", [{"value": 0.0}, {"metric": "mfu"}, {"engine": "sglang"}])
def test_rows_that_cannot_be_used_are_told(change: dict[str, object]) -> None:
    rows = _rows(None)
    with pytest.raises(InvalidInputError):
        calibrate([*rows[1:], replace(rows[0], **change)])
    with pytest.raises(InvalidInputError, match="at least"):
        calibrate(rows[:2])
