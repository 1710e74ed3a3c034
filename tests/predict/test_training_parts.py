"""Parts of a training step that a user chooses: adapters beside frozen weights, replicas of a network."""

from __future__ import annotations

import numpy as np
import pytest

from waferline.errors import UnknownNameError
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.predict.single import SingleNodeModel
from waferline.predict.training import TrainingModel

ON = ("llama-2-70b", "nvidia-h100-sxm-80gb", 8192, 8)


def test_adapters_need_two_passes_of_three_and_no_states() -> None:
    whole, adapters = (TrainingModel().solve(*ON, tp=8, trains=what) for what in ("weights", "adapters"))
    assert 0.6 < float(adapters["step_time_s"] / whole["step_time_s"]) < 0.85
    assert adapters["tflops_per_device"] * adapters["step_time_s"] == pytest.approx(
        2 / 3 * float(whole["tflops_per_device"] * whole["step_time_s"])
    )
    assert bool(adapters["feasible"]) and not bool(whole["feasible"])
    assert float(adapters["light_step_time_s"]) <= float(adapters["step_time_s"])


def test_another_part_is_named() -> None:
    with pytest.raises(UnknownNameError, match="adapters"):
        TrainingModel().solve(*ON, tp=8, trains="adaptors")


def test_replicas_of_a_network_share_the_batch_and_exchange_gradients() -> None:
    devices = np.array([1, 2, 8])
    result = SingleNodeModel().solve("resnet-50", "nvidia-h100-sxm-80gb", 1024, "bf16", phase="train", devices=devices)
    each = [
        float(
            SingleNodeModel().solve("resnet-50", "nvidia-h100-sxm-80gb", 1024 // n, "bf16", phase="train")["latency_s"]
        )
        for n in devices
    ]
    assert result["latency_s"][0] == pytest.approx(each[0])
    assert (result["latency_s"] >= np.array(each) * (1 - 1e-9)).all()
    assert (np.diff(result["samples_per_s"]) > 0).all()
    assert (result["light_latency_s"] <= result["latency_s"]).all()


def test_the_door_takes_both() -> None:
    step = run(
        Scenario(model=ON[0], machine=ON[1], phase="train", prompt=8192, batch=8, tp=8, trains="adapters")
    ).result
    assert step["step_time_s"] == TrainingModel().solve(*ON, tp=8, trains="adapters")["step_time_s"]
    asked = Scenario(model="resnet-50", machine=ON[1], phase="train", batch=256, precision="bf16", devices=8)
    assert float(run(asked).result["samples_per_s"]) > 0
