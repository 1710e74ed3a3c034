"""Networks from PyTorch through torch.export: PyTorch itself says how many parameters there are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model

with_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
with_vision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")


@with_vision
@pytest.mark.parametrize(
    "name", ["alexnet", "efficientnet_b0", "mobilenet_v3_small", "resnet50", "shufflenet_v2_x1_0", "swin_t", "vit_b_16"]
)
def test_torchvision_counts(name: str) -> None:
    from torchvision.models import get_model, get_model_weights

    published = get_model_weights(name).DEFAULT.meta
    count = parameter_count(load_model(get_model(name, weights=None), input_shape="1x3x224x224"))
    assert count.total == published["num_params"]
    assert count.macs / 1e9 == pytest.approx(published["_ops"], abs=6e-4)


@with_torch
def test_a_module_and_its_file_are_one(tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.LSTM(40, 128, 2, batch_first=True, bidirectional=True)).eval()
    model = load_model(module, input_shape="2x50x40")
    count = parameter_count(model)
    assert count.total == sum(p.numel() for p in module.parameters())
    weights = sum(p.numel() for n, p in module.named_parameters() if "weight" in n)
    assert count.macs == 2 * 50 * weights
    path = tmp_path / "lstm.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(2, 50, 40),)), path)
    again: Any = load_model(path)
    assert again.layers == model.layers  # type: ignore[union-attr]
    assert again.name == "lstm"


@with_torch
def test_what_a_module_does_not_say_is_asked_for(tmp_path: Path) -> None:
    import torch

    with pytest.raises(InvalidInputError, match="input_shape='1x3x224x224'"):
        load_model(torch.nn.Linear(3, 4))
    with pytest.raises(UnsupportedError, match=r"torch\.export cannot trace it"):
        load_model(torch.nn.Linear(3, 4), input_shape="1x5")
    path = tmp_path / "m.pt2"
    path.write_bytes(b"no archive")
    with pytest.raises(FileFormatError, match=r"not a file of torch\.export\.save"):
        load_model(path)
