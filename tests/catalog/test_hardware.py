"""Machines by name, and figures that a datasheet can confirm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.catalog.names import compact
from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnknownNameError
from waferline.machines.figures import figures
from waferline.machines.hardware import (
    FOLDER,
    Hardware,
    assumed_variant,
    device_from_record,
    hardware_names,
    load_hardware,
    resolve_hardware,
    spoken_names,
)
from waferline.machines.hardware_file import read_hardware_file

NAMES = hardware_names()


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_what_a_user_may_write_and_cites_its_sources(name):
    """The packaged reader skips the schema; here nothing does, and both give the same machine."""
    record = read_hardware_file(FOLDER / f"{name}.yaml")
    assert record["name"] == name and not record["citations"][0]["title"].startswith("user file")
    assert device_from_record(record) == load_hardware(name)


def test_no_two_machines_answer_to_one_name():
    owners: dict[str, str] = {}
    for name in NAMES:
        for spoken in spoken_names(read_packaged(f"hardware/{name}.yaml")):
            assert owners.setdefault(spoken, name) == name, spoken
    for slug in read_packaged("hardware/ambiguous.yaml")["assumed"]:
        assert compact(slug) not in owners, slug
        assert assumed_variant(slug) in NAMES


def test_catalogue_has_every_kind_of_machine():
    devices = [load_hardware(n) for n in NAMES]
    assert len(devices) >= 110
    assert {d.kind for d in devices} >= {"gpu", "cpu", "tpu", "npu", "wafer", "mcu", "soc", "lpu", "pim"}
    assert {d.group for d in devices} == {"Cloud", "Workstation", "Edge", "Tiny"}


# name, figure, published value: dense peaks in 1e12/s, memory in GB and GB/s, power in W
GOLDEN = [
    ("h100", "bf16", 989.4),
    ("h100", "fp8", 1978.9),
    ("h100", "bandwidth", 3350),
    ("h100", "tdp", 700),
    ("h100", "capacity", 85.52),
    ("h200", "capacity", 150.75),
    ("h200", "bandwidth", 4800),
    ("a100", "bf16", 312),
    ("a100", "int8", 624),
    ("a100", "bandwidth", 2039),
    ("nvidia-a100-sxm-40gb", "bandwidth", 1555),
    ("b200", "fp4", 9000),
    ("b200", "bandwidth", 7670),
    ("rtx4090", "capacity", 25.76),
    ("a100", "capacity", 85.9),
    ("mi300x", "capacity", 206.14),
    ("rtx-pro-6000", "capacity", 101.98),
    ("rtx-4080", "capacity", 17.17),
    ("rtx-5090", "capacity", 34.19),
    ("m4-max", "capacity", 115.4),
    ("m3-ultra", "capacity", 498.2),
    ("dgx-spark", "capacity", 128.5),
    ("jetson-agx-orin-64gb", "capacity", 65.89),
    ("gb300", "capacity", 298.01),
    ("gb300", "fp4", 15000),
    ("v100", "fp16", 125),
    ("t4", "int8", 130),
    ("l4", "fp8", 242.5),
    ("l40s", "bf16", 362),
    ("l40", "bf16", 181),
    ("rtx4090", "bf16", 165.2),
    ("rtx4090", "int8", 660.6),
    ("rtx5090", "fp4", 1676),
    ("rtx3090", "bf16", 71.2),
    ("rtx-a6000", "bf16", 154.8),
    ("rtx-6000-ada", "bf16", 364),
    ("mi300x", "bf16", 1307),
    ("mi300x", "bandwidth", 5300),
    ("mi355x", "fp4", 10066),
    ("max-1550", "fp64", 52.4),
    ("gaudi3", "fp8", 1677),
    ("tpu-v5e", "int8", 393),
    ("tpu-v6e", "bf16", 918),
    ("trainium2", "bf16", 667),
    ("groq", "int8", 750),
    ("cs3", "fp16", 15840),
    ("cs3", "capacity", 44),
    ("cs3", "bandwidth", 21e6),
    ("m2-ultra", "bandwidth", 819.2),
    ("m3-max", "fp32", 14.3),
    ("xeon-8480+", "bandwidth", 307.2),
    ("epyc-9654", "bandwidth", 460.8),
    ("raspberry-pi-5", "bandwidth", 17.1),
]


@pytest.mark.parametrize(("name", "figure", "published"), GOLDEN)
def test_published_figures(name, figure, published):
    device = load_hardware(name)
    value = {
        "capacity": device.capacity_bytes / 1e9,
        "bandwidth": device.bandwidth_bytes_per_s / 1e9,
        "tdp": device.tdp_w,
    }.get(figure, device.peak_flops.get(figure, 0.0) / 1e12)
    assert value == pytest.approx(published, rel=5e-3)


# name, format, operations per clock and unit: the width of the arithmetic is a law of the architecture
WIDTHS = [
    ("v100", "fp16", 1024),
    ("a100", "bf16", 2048),
    ("h100", "bf16", 4096),
    ("h200", "fp8", 8192),
    ("b200", "bf16", 8192),
    ("rtx4090", "bf16", 512),
    ("rtx-6000-ada", "fp8", 2048),
    ("mi300x", "bf16", 2048),
    ("mi355x", "bf16", 4096),
    ("mi250", "bf16", 1024),
    ("max-1550", "bf16", 4096),
    ("intel-arc-pro-b60", "int8", 4096),
    ("tpu-v4", "bf16", 2 * 128 * 128),
    ("tpu-v5e", "bf16", 2 * 128 * 128),
    ("xeon-8592+", "bf16", 1024),
    ("cs2", "fp16", 8),
    ("cs3", "fp16", 16),
    ("stm32h7", "int8", 4),
]


@pytest.mark.parametrize(("name", "fmt", "width"), WIDTHS)
def test_peak_is_width_times_units_times_clock(name, fmt, width):
    device = load_hardware(name)
    assert device.peak_flops[fmt] / (device.units * device.clock_hz) == pytest.approx(width, rel=0.01)


def test_wafer_io_is_150_gigabytes_per_second_and_not_terabytes():
    for name in ("cs2", "cs3"):
        assert load_hardware(name).link("io").bandwidth_bytes_per_s == 150e9


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_dated_source(name):
    for figure in figures(load_hardware(name)):
        assert figure.citations, f"{name}: {figure.name}"
        for citation in figure.citations:
            assert citation.title and citation.url.startswith("https://") and len(citation.date) == 10


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_cannot_hold_more_near_than_far(name):
    levels = load_hardware(name).memory
    assert [m.bandwidth_bytes_per_s for m in levels] == sorted((m.bandwidth_bytes_per_s for m in levels), reverse=True)
    assert [m.capacity_bytes for m in levels] == sorted(m.capacity_bytes for m in levels)


SPOKEN = [
    ("h100", "nvidia-h100-sxm-80gb"),
    ("H100 SXM", "nvidia-h100-sxm-80gb"),
    ("nvidia_h100_sxm_80gb", "nvidia-h100-sxm-80gb"),
    ("RTX 4090", "nvidia-rtx-4090"),
    ("l4", "nvidia-l4"),
    ("MI300X", "amd-mi300x"),
    ("m2-ultra", "apple-m2-ultra-76c"),
    ("Apple M1 Max", "apple-m1-max-32c"),
    ("cs3", "cerebras-wse3"),
    ("WSE-2", "cerebras-wse2"),
    ("raspberry pi 5", "raspberry-pi-5"),
    ("stm32h7", "stm32h743"),
    ("xeon 8480+", "intel-xeon-8480plus"),
    ("tpu v5e", "google-tpu-v5e"),
]


@pytest.mark.parametrize(("spoken", "name"), SPOKEN)
def test_names_are_forgiving(spoken, name):
    assert load_hardware(spoken).name == name


@given(st.sampled_from(NAMES), st.sampled_from([" ", "_", "-", "", "/"]), st.booleans())
def test_case_and_separators_never_matter(name, separator, upper):
    spoken = name.replace("-", separator)
    assert resolve_hardware(spoken.upper() if upper else spoken) == name


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match=r"unknown hardware 'h1000' \(did you mean .*h100"):
        load_hardware("h1000")
    with pytest.raises(UnknownNameError, match="mi300x"):
        load_hardware("mi-300-xx")
    for nonsense in ("", "   ", "---", "ü"):
        with pytest.raises(UnknownNameError):
            load_hardware(nonsense)


def test_ambiguous_names_say_what_they_assume():
    assert load_hardware("nvidia-a100").name == assumed_variant("nvidia-a100") == "nvidia-a100-sxm-80gb"
    assert assumed_variant("nvidia-h100-sxm-80gb") is None
    argonne = "Argonne LLM-Inference-Bench (SC24) results CSV"
    assert resolve_hardware("nvidia-a100", argonne) == "nvidia-a100-sxm-40gb"
    assert resolve_hardware("nvidia-h100-sxm-80gb", argonne) == "nvidia-h100-sxm-80gb"


def test_attribute_access_completes_and_names_the_nearest():
    assert Hardware.Cloud.H100 is load_hardware("h100")
    assert (
        Hardware.Cloud.CS3.mesh
        and Hardware.Workstation.RTX4090
        and Hardware.Edge.RaspberryPi5
        and Hardware.Tiny.STM32H7
    )
    assert dir(Hardware) == ["Cloud", "Edge", "Tiny", "Workstation"]
    assert "H100" in dir(Hardware.Cloud) and all(getattr(Hardware.Tiny, name) for name in dir(Hardware.Tiny))
    assert sum(len(dir(getattr(Hardware, group))) for group in dir(Hardware)) == len(NAMES)
    with pytest.raises(AttributeError, match="did you mean H100"):
        Hardware.Cloud.H1000  # noqa: B018
    with pytest.raises(AttributeError, match="Cloud"):
        Hardware.Clouds  # noqa: B018


def test_a_packaged_machine_needs_neither_yaml_nor_pydantic():
    code = (
        "import sys; from waferline.machines.hardware import load_hardware; load_hardware('h100');"
        "sys.exit(bool({'yaml', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _evidence() -> Path | None:
    shared = os.environ.get("WAFERLINE_SHARED") or Path(__file__).parents[3] / "shared"
    folder = Path(shared) / "evidence"
    return folder if folder.is_dir() else None


@pytest.mark.skipif(_evidence() is None, reason="the folder of published measurements is not here")
@pytest.mark.parametrize(
    ("table", "share"), [("llm-inference", 0.99), ("llm-training", 0.99), ("other-inference", 0.95)]
)
def test_published_measurements_find_their_machines(table, share):
    import csv
    import gzip

    with gzip.open(_evidence() / f"{table}.csv.gz", "rt", encoding="utf-8") as file:
        slugs = [row["hardware"] for row in csv.DictReader(file)]
    known = {slug for slug in set(slugs) if _is_known(slug)}
    assert sum(slug in known for slug in slugs) >= share * len(slugs)


def _is_known(slug: str) -> bool:
    try:
        return bool(resolve_hardware(slug))
    except UnknownNameError:
        return False


def test_memory_of_devices_is_what_the_driver_reports_and_not_the_round_number_of_the_product():
    """GPUs and memory on them are made in binary sizes: 80 GB of a name are 81,559 MiB of a listing."""
    round_gigabytes = {
        d.name
        for d in map(load_hardware, NAMES)
        if d.kind in ("gpu", "tpu", "soc") and d.capacity_bytes >= 1e9 and d.capacity_bytes % 1e9 == 0
    }
    assert round_gigabytes <= {"nvidia-gh200-144gb"}, "no listing of this one was found"


MOST_UNCHECKED = 137  # citations whose document nobody opened and nothing else confirms: it only goes down


def test_unchecked_citations_only_become_fewer():
    citations = [c for name in NAMES for c in load_hardware(name).citations]
    assert sum(not c.checked for c in citations) <= MOST_UNCHECKED
    assert not any("re-read" in c.title for c in citations), "`checked: false` says it"


def test_tensor_peaks_are_dense():
    """A sparse figure is twice what the width of the arithmetic allows: from 16 to 8 bit it doubles."""
    for device in map(load_hardware, NAMES):
        peaks = device.peak_flops
        if device.vendor == "NVIDIA" and "fp8" in peaks:
            assert peaks["fp8"] <= 2.05 * peaks["bf16"], device.name
        if device.vendor == "NVIDIA" and {"fp8", "fp4"} <= set(peaks):
            assert peaks["fp4"] <= 4.01 * peaks["fp8"], device.name  # fp32 accumulation halves fp8 of cards for games


def test_links_are_of_one_device_in_one_direction():
    published_both_ways = {"h100": 900e9, "a100": 600e9, "b200": 1800e9, "nvidia-p100-sxm2-16gb": 160e9, "v100": 300e9}
    for name, both in published_both_ways.items():
        assert load_hardware(name).link("scale-up").bandwidth_bytes_per_s == pytest.approx(both / 2), name


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("5090", "nvidia-rtx-5090"),
        ("rtx 5090 ti", "nvidia-rtx-5090"),
        ("4060ti", "nvidia-rtx-4060-ti"),
        ("mi300", "amd-mi300x"),
        ("rtx-4091", "nvidia-rtx-4090"),
        ("h10", "nvidia-h100-sxm-80gb"),
    ],
)
def test_the_nearest_machine_is_the_one_that_a_person_means(typed: str, first: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        load_hardware(typed)
    assert str(error.value.hint).startswith(f"did you mean {first}")
