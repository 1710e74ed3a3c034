"""Diffusion transformers: every parameter, the rows that a size gives, and steps that add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from waferline.errors import InvalidInputError, UnsupportedError
from waferline.formats import resolve
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.predict.single import SingleNodeModel, SingleNodeResult
from waferline.workloads.counts import parameter_count
from waferline.workloads.families.diffusion import FAMILIES, USUAL
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_forward
from waferline.workloads.streams import StreamNet

# Configurations that diffusers 0.42 writes, of classes as they default and of published sizes, with the parameters of the model
# that it builds from them.
DIFFUSERS = json.loads((Path(__file__).parent / "data" / "diffusers_configs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(DIFFUSERS))
def test_parameters_are_those_of_diffusers(name: str) -> None:
    assert parameter_count(load_model(DIFFUSERS[name]["config"])).total == DIFFUSERS[name]["parameters"]


# As their publishers round them.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("flux.1-dev", 11.9e9),
        ("stable-diffusion-3-medium", 2.03e9),
        ("stable-diffusion-3.5-large", 8.1e9),
        ("wan2.1-t2v-14b", 14e9),
        ("wan2.1-t2v-1.3b", 1.4e9),
        ("pixart-sigma-xl-2", 0.61e9),
        ("cogvideox-2b", 1.69e9),
        ("hunyuanvideo", 13e9),
        ("hunyuandit-v1.2", 1.5e9),
        ("sana1.5-1.6b", 1.6e9),
        ("sana1.5-4.8b", 4.8e9),
    ],
)
def test_published_parameters(name: str, published: float) -> None:
    assert parameter_count(load_model(name)).total == pytest.approx(published, rel=0.025)


# Rows by hand: 16 pixels a side make one patch (Sana 32); videos keep a frame and one of each four (CogVideoX 1.5: eight) after it.
@pytest.mark.parametrize(
    ("name", "size", "frames", "rows"),
    [
        ("flux.1-dev", "1024x1024", None, 64 * 64),
        ("flux.1-dev", "1360x768", None, 85 * 48),
        ("stable-diffusion-3-medium", "512x512", None, 32 * 32),
        ("wan2.1-t2v-14b", "1280x720", 81, 80 * 45 * 21),
        ("wan2.1-t2v-1.3b", "832x480", 81, 52 * 30 * 21),
        ("cogvideox1.5-5b", "1360x768", 81, 85 * 48 * 11),
        ("hunyuandit-v1.2", "1024x1024", None, 64 * 64),
        ("sana1.5-1.6b", "1024x1024", None, 32 * 32),
    ],
)
def test_rows_of_a_size(name: str, size: str, frames: int | None, rows: int) -> None:
    answer = run(Scenario(model=name, machine="h100", precision="bf16", image_size=size, frames=frames))
    assert isinstance(answer.model, StreamNet) and answer.model.grid.rows()["patch"] == rows
    assert any(f"{rows:,} rows" in note for note in answer.notes)


def test_flops_of_a_flux_step_by_hand() -> None:
    d, image, text = 3072, 4096, 512
    joint = image + text
    products = joint * 12 * d * d * 19 + joint * 12 * d * d * 38  # both kinds of layer have 12 d² weights a row
    pairs = 2 * joint * joint * d * (19 + 38)
    ends = image * 2 * 64 * d + text * 4096 * d
    vectors = 12 * d * d * 19 + 3 * d * d * 38 + 2 * d * d + 2 * 256 * d + 768 * d + 3 * d * d
    model = load_model("flux.1-dev")
    operators = lower_forward(model, batch=1, precision=resolve("bf16", lambda fmt: fmt))
    counted = sum(float(op.count * op.flops) for op in operators if op.kind in ("gemm", "prefill_attention"))
    assert counted == 2 * (products + pairs + ends + vectors)


def test_linear_attention_grows_with_the_rows_alone() -> None:
    """Four times the patches: four times the work of Sana's attention among them, sixteen times that of PixArt's."""
    for name, times in (("sana1.5-1.6b", 4.0), ("pixart-sigma-xl-2", 16.0)):
        small, large = (
            next(
                op.flops
                for op in lower_forward(model.at(side, side), batch=1, precision=resolve("bf16", lambda fmt: fmt))
                if op.name == "layer.core"
            )
            for model in [load_model(name)]
            for side in (1024, 2048)
            if isinstance(model, StreamNet)
        )
        assert large / small == times


def test_steps_and_guidance_multiply() -> None:
    one = run(Scenario(model="flux.1-dev", machine="h100", precision="bf16", steps=1)).result
    many = run(Scenario(model="flux.1-dev", machine="h100", precision="bf16", steps=28)).result
    assert float(many["latency_s"]) == pytest.approx(28 * float(one["latency_s"]))
    assert float(many["step_time_s"]) == pytest.approx(float(one["latency_s"]))
    assert float(many["mfu"]) == pytest.approx(float(one["mfu"]))
    usual = run(Scenario(model="flux.1-dev", machine="h100", precision="bf16")).result
    assert float(usual["latency_s"]) == float(many["latency_s"])
    several = run(Scenario(model="flux.1-dev", machine="h100", precision="bf16", steps=np.array([1, 28]))).result
    assert several["latency_s"].tolist() == [float(one["latency_s"]), float(many["latency_s"])]


def test_devices_share_the_rows_of_an_image() -> None:
    """All weights on each, a part of the arithmetic, and what they exchange; a network that makes no images has one device."""
    one, four = (
        run(Scenario(model="flux.1-dev", machine="h100", precision="bf16", devices=n, engine="pytorch")).result
        for n in (1, 4)
    )
    assert float(four["weights_bytes"]) == float(one["weights_bytes"]) and float(four["devices"]) == 4.0
    flops = [sum(float(row.flops) for row in result.operators if row.kind == "gemm") for result in (one, four)]
    assert flops[1] == pytest.approx(flops[0] / 4.0, rel=0.01)
    exchanged = [row for row in four.operators if row.kind == "collective"]
    assert exchanged and not [row for row in one.operators if row.kind == "collective"]
    assert float(one["latency_s"]) / 4.0 < float(four["latency_s"]) < float(one["latency_s"])
    assert float(one["energy_j_per_sample"]) < float(four["energy_j_per_sample"])
    several = SingleNodeModel().solve("flux.1-dev", "h100", 1, "bf16", devices=np.array([1, 4]), engine="pytorch")
    assert several["latency_s"].tolist() == pytest.approx([float(one["latency_s"]), float(four["latency_s"])])
    with pytest.raises(UnsupportedError, match="no link for 2 devices"):
        run(Scenario(model="flux.1-dev", machine="stm32h743", devices=2))
    with pytest.raises(InvalidInputError, match="devices would not be read"):
        run(Scenario(model="resnet-50", machine="h100", devices=2))
    with pytest.raises(InvalidInputError, match="a number of devices"):
        run(Scenario(model="flux.1-dev", machine="h100", devices="auto"))


def test_a_ring_does_the_same_work_in_more_kernels() -> None:
    """PixArt's layers on eight H100 took 1.02 s by exchanged heads and 1.73 s in a ring (ML.ENERGY v3): launching decides."""

    def asked(ring: object, **more: object) -> SingleNodeResult:
        shared = {"machine": "h100", "precision": "bf16", "engine": "pytorch", "devices": 8} | more
        found = run(Scenario(model="pixart-sigma-xl-2", ring=ring, **shared)).result  # type: ignore[arg-type]
        assert isinstance(found, SingleNodeResult)
        return found

    usual, one, four, eight = (asked(ring) for ring in (None, 1, 4, 8))
    assert float(usual["latency_s"]) == float(one["latency_s"])
    assert 1.25 < float(eight["latency_s"] / one["latency_s"]) < 2.5 and one["latency_s"] < four["latency_s"]
    flops = [sum(float(r.flops) for r in x.operators if r.kind != "elementwise") for x in (one, eight)]
    assert flops[1] == pytest.approx(flops[0])
    exchanged = [sum(r.kind == "collective" for r in x.operators) for x in (one, four, eight)]
    assert exchanged[0] == exchanged[1] > exchanged[2] == 0  # a ring of all exchanges no heads
    several = SingleNodeModel().solve(
        "pixart-sigma-xl-2", "h100", 1, "bf16", devices=8, ring=np.array([1, 8]), engine="pytorch"
    )
    assert several["latency_s"].tolist() == pytest.approx([float(one["latency_s"]), float(eight["latency_s"])])
    with pytest.raises(InvalidInputError, match="does not divide"):
        asked(3)
    with pytest.raises(InvalidInputError, match="ring would not be read"):
        run(Scenario(model="resnet-50", machine="h100", ring=2))


def test_eager_kernels_pass_over_the_rows() -> None:
    """Eight images of FLUX.1 dev on one H100: 49.4 s by diffusers, 31.7 s with a compiler (README of diffusers-torchao)."""
    eager, compiled = (
        float(
            run(Scenario(model="flux.1-dev", machine="h100", precision="bf16", batch=8, engine=engine)).result[
                "latency_s"
            ]
        )
        for engine in ("pytorch", "pytorch-compiled")
    )
    assert eager == pytest.approx(49.438, rel=0.15) and compiled == pytest.approx(31.685, rel=0.35)


def test_schnell_takes_four_steps() -> None:
    model = load_model("flux.1-schnell")
    assert isinstance(model, StreamNet) and (model.steps, model.passes) == (4, 1)


def test_what_a_pipeline_holds_beside_is_said() -> None:
    assert any("text encoders" in note for note in run(Scenario(model="flux.1-dev", machine="h100")).notes)


def test_a_pipeline_folder_is_its_transformer(tmp_path: Path) -> None:
    folder = tmp_path / "my-flux"
    (folder / "transformer").mkdir(parents=True)
    config = DIFFUSERS["FluxTransformer2DModel"]["config"]
    (folder / "transformer" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for path in (folder, folder / "transformer" / "config.json"):
        assert load_model(path).name == "my-flux"
    (folder / "transformer_2").mkdir()
    assert "second transformer" in load_model(folder).metadata["not_counted"]


def test_what_is_not_read_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="UNet2DConditionModel"):
        load_model({"_class_name": "UNet2DConditionModel", "in_channels": 4})
    with pytest.raises(InvalidInputError, match="frames would not be read"):
        run(Scenario(model="flux.1-dev", machine="h100", frames=5))
    with pytest.raises(InvalidInputError, match="steps would not be read"):
        run(Scenario(model="llama-3-8b", machine="h100", steps=5))


def test_the_list_of_what_is_read_is_whole() -> None:
    assert set(USUAL) == set(FAMILIES)


def test_pixart_alpha_under_its_first_class() -> None:
    config = DIFFUSERS["PixArtTransformer2DModel:1024"]["config"] | {"caption_channels": 4096}
    older = config | {"_class_name": "Transformer2DModel"}
    count = parameter_count(load_model(older)).total
    assert (
        count == parameter_count(load_model(config)).total == pytest.approx(611e6, rel=0.001)
    )  # as its authors count it
    with pytest.raises(UnsupportedError, match="ada_norm_zero"):
        load_model(older | {"norm_type": "ada_norm_zero"})


def test_narrow_heads_wait_for_exponentials() -> None:
    """FlashAttention-2 on an H100 (arXiv:2407.08608, figure 5): 324 TFLOP/s with heads of 64, 370 with heads of 128."""
    rate = {}
    for name in ("cogvideox-5b", "hunyuanvideo"):  # heads of 64 and of 128, long rows
        found = run(Scenario(model=name, machine="h100", precision="bf16", engine="pytorch")).result
        rate[name] = [float(r.flops / r.time_s) for r in found.operators if r.name.endswith("core")][-1]
    assert rate["cogvideox-5b"] / rate["hunyuanvideo"] == pytest.approx(324 / 370, rel=0.02)
