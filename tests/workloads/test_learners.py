"""Classic learners from a file of sizes, on small machines: what they hold and multiply by their own arithmetic, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import waferline as wl
from waferline.cli import run
from waferline.errors import WaferlineError
from waferline.workloads.counts import parameter_count


def _learner(**sizes: object) -> wl.Result:
    return wl.SingleNodeModel().solve({"name": "own", "title": "own", "learner": sizes}, "gap8", 1, "w8a8")


@pytest.mark.parametrize(
    ("sizes", "stored", "macs"),
    [  # numbers learned (int8: bytes), and multiply-adds of a sample, by hand
        ({"kind": "linear-svm", "features": 21, "classes": 10}, 10 * 22, 210),
        ({"kind": "logistic-regression", "features": 784, "classes": 10}, 10 * 785, 7840),
        ({"kind": "kernel-svm", "features": 8, "classes": 3, "support": 100}, 100 * 9 + 3 * 101, 1100),
        ({"kind": "naive-bayes", "features": 21, "classes": 10}, 2 * 210 + 10, 0),
        ({"kind": "nearest-neighbours", "features": 21, "support": 256, "neighbours": 4}, 256 * 22, 5376),
        ({"kind": "random-forest", "features": 21, "classes": 10, "trees": 16, "depth": 8}, 16 * 255 * 2, 0),
    ],
)
def test_a_learner_holds_and_multiplies_what_its_sizes_say(sizes: dict[str, object], stored: int, macs: int) -> None:
    spec = wl.load_model({"name": "own", "title": "own", "learner": sizes})
    assert parameter_count(spec).macs == macs
    solved = _learner(**sizes)
    assert float(solved["weights_bytes"]) == stored
    assert float(solved["latency_s"]) >= float(solved["light_latency_s"]) > 0.0


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"kind": "linear-svn", "features": 2, "classes": 2}, "linear-svm"),
        ({"kind": "linear-svm", "features": 2}, "classes missing"),
        ({"kind": "linear-svm", "features": 2, "clases": 2}, "classes"),
        ({"kind": "linear-svm", "features": 2.5, "classes": 2}, "whole number"),
        ({"kind": "nearest-neighbours", "features": 2, "support": 3, "neighbours": 4}, "more neighbours"),
        ({"kind": "random-forest", "features": 2, "classes": 2, "trees": 3, "depth": 99}, "from 1 to 40"),
    ],
)
def test_a_learner_that_is_none_is_one_line(sizes: dict[str, object], said: str) -> None:
    with pytest.raises(WaferlineError) as caught:
        _learner(**sizes)
    assert said in f"{caught.value} {caught.value.hint or ''}"


def test_a_file_with_a_learner_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "svm.yaml"
    path.write_text("name: svm\ntitle: SVM\nlearner: {kind: linear-svm, features: 21, classes: 10}\n")
    assert run(["predict", str(path), "--on", "gap8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hardware"] == "gap8"


def test_microcontrollers_train_in_floats_and_whole_number_machines_run_transformers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PULP-TrainLib trains in fp16 and fp32 (arXiv:2305.19167); the ZCU102's multipliers have no floats, but for what a design's
    fixed point stands for: Edge-MoE takes 34.64 ms an image (arXiv:2305.18691)."""
    assert run(["predict", "resnet-8", "--on", "gap9", "--phase", "train"]) == 0
    assert "fp16 weights" in capsys.readouterr().out
    assert run(["predict", "m3vit", "--on", "amd-xczu9eg"]) == 0
    assert "int8 weights" in capsys.readouterr().out
    assert run(["predict", "m3vit", "--on", "amd-xczu9eg", "-p", "bf16"]) == 2
    capsys.readouterr()
    assert run(["predict", "m3vit", "--on", "zcu102", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency_s"] == pytest.approx(34.64e-3, rel=0.25)


def test_a_transformer_of_low_rank_weights_is_one_pass_of_a_microcontroller(capsys: pytest.CaptureFixture[str]) -> None:
    """MCUFormer's released space (arXiv:2310.16898): 148.5 million multiply-adds and more weights than the 0.90 MB that was
    deployed; a Cortex-M7 does two multiply-adds a clock, here at 216 MHz."""
    run(["predict", "mcuformer-s", "--on", "stm32f746", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["latency_compute_s"] * 2 * 216e6 == pytest.approx(148.5e6, rel=0.01)
    assert told["weights_bytes"] > 0.90e6
    assert not told["feasible"]
    assert told["activation_bytes"] < 320 * 1024
