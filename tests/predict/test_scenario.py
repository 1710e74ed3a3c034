"""The one way to an answer: what is given is read or refused, and degrees are ones that a model can be cut into."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from waferline.errors import InvalidInputError, WaferlineError
from waferline.predict.run import run
from waferline.predict.scenario import READS, Scenario, reads
from waferline.workloads.streams import Grid, Matrix, Scores, Stage, StreamNet

SEES_AND_HEARS = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "intermediate_size": 256,
    "vocab_size": 1000,
    "vision_config": {"depth": 2, "hidden_size": 64, "num_heads": 4, "intermediate_size": 64},
    "audio_config": {"model_type": "qwen2_audio_encoder"},
}
DINO = {"model_type": "dinov2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 224}
VIDEO = StreamNet(
    name="video",
    stages=(Stage("layer", 2, (Matrix("up", 64, 64),), (Scores(4, 16),), width=64, norms=2),),
    grid=Grid(256, 256, 16, frames=5, frame_stride=4),
    steps=10,
)

ASKED = {
    "serve": {"model": SEES_AND_HEARS, "machine": "h100"},
    "infer": {"model": "bert-large", "machine": "h100"},
    "infer network": {"model": "resnet-50", "machine": "a100"},
    "infer image": {"model": DINO, "machine": "h100"},
    "denoise": {"model": VIDEO, "machine": "h100"},
    "train": {"model": "llama-3-8b", "machine": "h100", "phase": "train", "pp": 2, "devices": 2},
    "train network": {"model": "resnet-50", "machine": "a100", "phase": "train"},
    "wafer-resident": {"model": "llama-3-8b", "machine": "cs3"},
    "weight-streaming": {"model": "llama-3-8b", "machine": "cs3", "strategy": "weight-streaming"},
}
GIVEN = [f.name for f in fields(Scenario) if f.name not in ("model", "machine", "phase", "intervals", "only")]


@pytest.mark.parametrize("kind", READS)
def test_every_field_is_read_or_refused(kind: str) -> None:
    asked = ASKED[kind]
    assert (
        reads(Scenario(**asked, **({"load": "closed", "images": 1, "offload": "auto"} if kind == "serve" else {})))
        == READS[kind] - {"threads"}  # no machine here is a CPU
    )
    for name in GIVEN:
        nonsense = Scenario(**{**asked, name: "nonsense"})
        if name == "strategy":
            with pytest.raises(WaferlineError):
                run(nonsense)
        elif name in reads(Scenario(**asked)):
            with pytest.raises(WaferlineError) as caught:  # read, and found to be nonsense
                run(nonsense)
            assert "would not be read" not in str(caught.value)
        else:
            with pytest.raises(InvalidInputError, match=f"^{name} (would not be read|must be)"):
                run(nonsense)


@pytest.mark.parametrize(
    ("model", "degrees", "said"),
    [
        ("llama-3-8b", {"tp": 7}, "tp 7 does not divide the 32 heads"),
        ("llama-3-8b", {"pp": 33}, "pp 33 is more than the 32 layers"),
        ("llama-3-8b", {"ep": 2}, "has no experts"),
        ("mixtral-8x7b", {"ep": 16}, "ep 16 is more than the 8 experts"),
        ("llama-3-8b", {"tp": np.array([1, 2, 3])}, "tp 1, 2, 3 does not divide"),
        ("llama-3-8b", {"devices": 8, "tp": 4}, "8 devices cannot be split into tp 4"),
        ("llama-3-8b", {"devices": 8, "pp": 3}, "8 devices cannot be split into pp 3"),
        ("llama-3-8b", {"devices": "²"}, "whole number"),
        ("llama-3-8b", {"pp": 0}, "at least 1"),
    ],
)
def test_degrees_are_possible(model: str, degrees: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        run(Scenario(model=model, machine="h100", **degrees))


def test_devices_are_what_the_degrees_leave() -> None:
    answer = run(Scenario(model="llama-3-70b", machine="h100", devices=8, pp=2, precision="fp8"))
    assert answer.result["devices"] == 8
    assert run(Scenario(model="llama-3-70b", machine="h100", devices="auto", precision="bf16")).fits


def test_a_scenario_of_many_points_is_one_answer() -> None:
    answer = run(Scenario(model="llama-3-8b", machine="h100", precision="fp16", batch=[1, 8, 64], prompt=512))
    assert answer.result["itl_s"].shape == (3,) and answer.fits
