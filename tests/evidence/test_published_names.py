"""What published tables name and the catalogue does not: machines, networks, formats, units."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evidence.test_scenario import DECODE

import waferline as wl
from waferline.errors import InvalidInputError
from waferline.evidence.check import check
from waferline.evidence.machines import machine
from waferline.evidence.names import model_spec
from waferline.evidence.networks import Form, counted, network
from waferline.evidence.notes import image_side
from waferline.evidence.published_units import in_si
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import read_rows
from waferline.evidence.scenario import request_of
from waferline.machines.threads import with_threads
from waferline.workloads.spec import Transformer, Work


# GMACs as the networks' papers and torchvision's model tables print them.
@pytest.mark.parametrize(
    ("name", "gmacs", "millions"),
    [("resnet50", 4.09, 25.6), ("efficientnet-b0", 0.39, 5.3), ("convnext-base", 15.36, 88.6), ("vgg16", 15.47, 138.4)],
)
def test_counts_are_the_published_ones(name: str, gmacs: float, millions: float) -> None:
    found = counted(name)
    assert found is not None and found.params == pytest.approx(millions * 1e6, rel=0.01)
    assert sum(c.macs for c in found.classes.values()) == pytest.approx(gmacs * 1e9, rel=0.02)


def test_the_mean_operators_do_the_work_of_all() -> None:
    for name in ("resnet50", "swin-base-patch4-window7-224", "sdxl-base-1.0"):
        found, net = counted(name), network(name, form="eager")
        assert found is not None and net is not None
        macs = sum(w.macs for w in net.layers if isinstance(w, Work))
        assert macs == pytest.approx(sum(c.macs for c in found.classes.values()), rel=0.03)


def test_grouped_convolutions_are_as_wide_as_they_are() -> None:
    groups = {}
    for name in ("nfnet_f0", "mobilenetv2_100"):
        net = network(name, form="eager")
        assert net is not None
        groups[name] = next(w for w in net.layers if isinstance(w, Work) and w.name == "group")
    assert 64 <= groups["nfnet_f0"].n <= 160 and groups["nfnet_f0"].k > 500  # 128 channels of each group
    assert groups["mobilenetv2_100"].n == 1


def test_attention_in_one_kernel_leaves_its_scores_on_chip() -> None:
    def moved(form: Form) -> int:
        net = network("vit_base_patch16_224", form=form)
        assert net is not None
        return sum(w.input_elements + w.output_elements for w in net.layers if isinstance(w, Work))

    assert moved("fused") < moved("eager") < moved("apart")


def test_an_image_is_as_large_as_its_row_says() -> None:
    assert image_side("input 800x1344; TensorRT") == pytest.approx((800 * 1344) ** 0.5, abs=0.5)
    assert image_side("batch of photos") == 0


def test_what_fills_masks_scores_every_word_at_every_token() -> None:
    plain, masked = model_spec("bert-base"), model_spec("masked:bert-base")
    assert isinstance(plain, Transformer) and isinstance(masked, Transformer)
    card = wl.load_hardware("qualcomm-cloud-ai-100-standard")
    seconds = [float(wl.SingleNodeModel().solve(m, card, 1, "fp16", seq_len=128)["latency_s"]) for m in (plain, masked)]
    logits_s = 128 * masked.vocab_size * 4 / 15.75e9  # PCIe 4.0 x8
    assert seconds[1] - seconds[0] > logits_s


ENCODER = replace(
    DECODE, model="bert-large", phase="prefill", metric="latency_s", batch=1, input_tokens=128, output_tokens=0, devices=8,
    hardware="nvidia-a100-sxm-80gb", weight_format="fp16", engine="FasterTransformer", source="NVIDIA FasterTransformer guide",
    tp=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("column", "engine"),
    [("FT", "fastertransformer-network"), ("TF-FP16", "tensorflow"), ("TorchScript", "pytorch-network")],
)
def test_a_column_of_another_framework_is_that_one(column: str, engine: str) -> None:
    request = request_of(replace(ENCODER, locator=f"a table line 7, {column}"))
    assert isinstance(request, Request) and request.engine == engine


def test_a_microcontroller_multiplies_whole_numbers_where_weights_are() -> None:
    tiny = replace(
        ENCODER,
        model="mlperf-tiny-ic",
        hardware="stm32u575",
        weight_format="int8",
        activation_format="",
        engine="X-CUBE-AI",
        devices=1,
    )
    request = request_of(replace(tiny, phase="generate", metric="samples_per_s", input_tokens=None))
    assert isinstance(request, Request) and request.precision == "w=int8,a=int8"


def test_devices_without_a_sample_wait_unless_the_model_is_cut() -> None:
    alone, cut = request_of(ENCODER), request_of(replace(ENCODER, tp=8))
    assert isinstance(alone, Request) and isinstance(cut, Request)
    assert (alone.dp, cut.dp) == (1.0, 8.0)


@pytest.mark.parametrize(
    ("name", "layers", "width"),
    [("bert-uncased-l-2-h-128-a-2", 2, 128), ("bert-mini", 4, 256), ("albert-xlarge-vitaminc-mnli", 24, 2048)],
)
def test_encoders_have_the_size_that_their_names_say(name: str, layers: int, width: int) -> None:
    spec = model_spec(name)
    assert isinstance(spec, Transformer)
    assert sum(b.count for b in spec.blocks) == layers and spec.hidden_size == width


def test_threads_are_cores_at_work() -> None:
    whole, four = machine("amd-ryzen-threadripper-pro-5975wx"), machine("amd-ryzen-threadripper-pro-5975wx", 4)
    assert four.units == 4 and four.peak("int8") == pytest.approx(whole.peak("int8") / 8)
    assert four.bandwidth_bytes_per_s == whole.bandwidth_bytes_per_s
    with pytest.raises(InvalidInputError, match="no CPU"):
        with_threads(machine("h100"), 4)


def test_more_threads_are_not_slower() -> None:
    row = replace(DECODE, hardware="graviton3", weight_format="q4_0", activation_format="int8", engine="llama.cpp")
    rows = [replace(row, id=str(n), notes=f"threads={n}") for n in (1, 2, 4, 8, 16, 32, 64)]
    times = [o.predicted or 0.0 for o in check(rows).outcomes]
    assert all(a >= b > 0.0 for a, b in itertools.pairwise(times))


def test_rows_interleaved_for_a_kernel_are_the_same_bits() -> None:
    requests = [request_of(replace(DECODE, weight_format=name, engine="llama.cpp")) for name in ("q4_k", "q4_k_r4")]
    assert isinstance(requests[0], Request) and isinstance(requests[1], Request)
    assert requests[0].precision == requests[1].precision


def test_units_of_papers_become_si() -> None:
    row = in_si(replace(DECODE, metric="tpot", unit="ms", value=25.0))
    assert (row.metric, row.value) == ("tpot_s", 0.025)


def test_a_range_is_its_middle_and_not_scored(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("hardware,model,phase,metric,value\nh100,llama-3-8b,decode,tpot_s,292-717\n", encoding="utf-8")
    (row,) = read_rows(path)
    assert row.value == 504.5 and "range" in row.suspect


@pytest.mark.parametrize(("published", "meant"), [("hy3-295b-a21b", "hy3"), ("phi-4-14b", "phi-4")])
def test_sizes_in_a_name_are_its_own_or_another_models(published: str, meant: str) -> None:
    """`hy3-295b-a21b` is Hy3, which has 295 B parameters and 21 B active; a model of 200 B would be another one."""
    found = model_spec(published)
    assert not isinstance(found, Refusal) and found.name == meant
    assert isinstance(model_spec(f"{meant}-200b"), Refusal) and isinstance(model_spec(f"{published}-a2b"), Refusal)
