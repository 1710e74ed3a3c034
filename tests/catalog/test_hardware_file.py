"""Hardware files of users: what is accepted, and the one line that says what is wrong."""

import copy
import datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from waferline.errors import FileFormatError
from waferline.machines.hardware import load_hardware
from waferline.machines.schema import PEAK_FORMATS, parse_hardware

MINE = {
    "name": "mine-1",
    "title": "My accelerator",
    "vendor": "Me",
    "kind": "npu",
    "architecture": "systolic",
    "year": 2026,
    "group": "Edge",
    "units": 4,
    "clock_hz": 1e9,
    "peak_flops": {"fp32": 1e12, "bf16": 4e12, "fp8": 8e12},
    "memory": [
        {"name": "SRAM", "capacity_bytes": 32e6, "bandwidth_bytes_per_s": 4e12},
        {"name": "LPDDR5", "capacity_bytes": 16e9, "bandwidth_bytes_per_s": 100e9},
    ],
    "links": [{"name": "PCIe", "scope": "host", "bandwidth_bytes_per_s": 16e9, "latency_s": 1e-6}],
    "power": {"tdp_w": 20},
    "price": {"purchase_usd": 99},
}


def write(folder, data, name="mine.yaml"):
    path = folder / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
    return path


def changed(path, value):
    """MINE with the entry at `path` (keys and indices) replaced, or removed when `value` is None."""
    data = copy.deepcopy(MINE)
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


def test_a_file_without_sources_is_its_own_source(tmp_path):
    device = load_hardware(write(tmp_path, MINE))
    assert device.name == "mine-1" and device.peak("fp16") == 4e12 and device.capacity_bytes == 16e9
    (citation,) = device.citations
    assert "mine.yaml" in citation.title and set(citation.covers) >= {"peak_flops", "memory", "links", "power", "price"}


def test_a_path_as_text_and_json_work_too(tmp_path):
    import json

    assert load_hardware(str(write(tmp_path, MINE))).units == 4
    assert load_hardware(write(tmp_path, json.dumps(MINE), "mine.json")).clock_hz == 1e9


def test_numbers_may_be_written_as_in_yaml_1_2(tmp_path):
    text = yaml.safe_dump(MINE).replace("clock_hz: 1000000000.0", "clock_hz: 1e9")
    assert "1e9" in text and load_hardware(write(tmp_path, text)).clock_hz == 1e9


def test_a_device_passes_through():
    device = load_hardware("h100")
    assert load_hardware(device) is device


WRONG = [
    (("peak_flop",), {"fp16": 1e12}, r"unknown key 'peak_flop' \(did you mean peak_flops\?\)"),
    (("memory", 0, "capacity"), 1e6, r"unknown key 'memory\[0\]\.capacity' \(did you mean capacity_bytes\?\)"),
    (("links", 0, "latency"), 1e-6, r"'links\[0\]\.latency' \(did you mean latency_s\?\)"),
    (("power", "tdp"), 5, r"'power\.tdp' \(did you mean tdp_w\?\)"),
    (("peak_flops", "fp15"), 1e12, r"'peak_flops\.fp15' \(did you mean fp1?6"),
    (("kind",), "gpuu", r"kind: .*'gpuu'"),
    (("clock_hz",), None, r"missing key 'clock_hz'"),
    (("clock_hz",), -1.0, r"clock_hz: .*greater than 0, got -1"),
    (("clock_hz",), 0, r"clock_hz: .*greater than 0, got 0"),
    (("clock_hz",), float("nan"), r"clock_hz: .*nan"),
    (("clock_hz",), float("inf"), r"clock_hz: .*inf"),
    (("clock_hz",), "fast", r"clock_hz: .*number.*'fast'"),
    (("clock_hz",), 1e13, r"clock_hz: 1e\+13 Hz is beyond any chip"),
    (("units",), 2.5, r"units: .*2\.5"),
    (("memory",), [], r"memory: .*at least 1"),
    (("peak_flops",), {}, r"peak_flops: .*at least 1"),
    (("memory", 0, "bandwidth_bytes_per_s"), 1e9, r"SRAM is nearer than LPDDR5 but slower"),
    (("memory", 0, "capacity_bytes"), 1e12, r"SRAM is nearer than LPDDR5 but larger"),
    (("memory", 1, "bandwidth_bytes_per_s"), 100, r"one byte per .* operations"),
    (("peak_flops", "fp8"), 1e12, r"fp8 \(1e\+12\) is below bf16 \(4e\+12\)"),
    (("peak_flops", "fp8"), 8e21, r"per joule; check the prefix|operations per unit and cycle"),
    (("links", 0, "bandwidth_bytes_per_s"), 1e15, r"PCIe is faster than every memory level"),
    (("links", 0, "scope"), "sideways", r"scope.*'sideways'"),
    (("power", "idle_w"), 90, r"idle_w \(90\) is above tdp_w \(20\)"),
    (("year",), 20266, r"year: "),
    (("name",), "My Machine", r"name: .*'My Machine'"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{w[0]}={w[1]}" for w in WRONG])
def test_a_wrong_file_is_named_with_place_and_value(tmp_path, path, value, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load_hardware(write(tmp_path, changed(path, value)))
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


BROKEN = [
    ("name: [1, 2", "malformed YAML"),
    ("- just\n- a list\n", "mapping of keys, found list"),
    ("", "mapping of keys, found NoneType"),
    ("name: a\nname: b\n", "key 'name' is given twice"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_broken_file_is_one_line(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load_hardware(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"nowhere\.yaml: cannot be read"):
        load_hardware(tmp_path / "nowhere.yaml")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load_hardware(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FileFormatError, match=r"binary\.yaml"):
        load_hardware(binary)


def test_given_sources_must_cover_every_section_and_only_those(tmp_path):
    source = {
        "title": "Datasheet",
        "url": "https://example.org",
        "date": datetime.date(2026, 1, 2),
        "covers": ["units"],
    }
    with pytest.raises(FileFormatError, match="no source covers peak_flops, memory, links, power, price"):
        load_hardware(write(tmp_path, MINE | {"citations": [source]}))
    everything = source | {"covers": ["units", "peak_flops", "memory.SRAM", "memory", "links", "power", "price"]}
    assert load_hardware(write(tmp_path, MINE | {"citations": [everything]})).citations[0].date == "2026-01-02"
    beside = everything | {"covers": [*everything["covers"], "weight"]}
    with pytest.raises(FileFormatError, match="covers 'weight'"):
        load_hardware(write(tmp_path, MINE | {"citations": [beside]}))


@given(st.sampled_from(PEAK_FORMATS), st.one_of(st.floats(max_value=0), st.just(float("nan")), st.just(float("inf"))))
def test_no_peak_is_ever_zero_negative_or_infinite(fmt, peak):
    with pytest.raises(FileFormatError):
        parse_hardware(MINE | {"peak_flops": {fmt: peak}}, "file")


@given(st.floats(1e6, 1e13), st.floats(1.05, 1e3))
def test_a_narrower_format_is_never_slower(wide, factor):
    ordered = MINE | {"peak_flops": {"bf16": wide, "fp8": wide * factor}, "power": None}
    assert parse_hardware(ordered, "file").peak_flops["fp8"] > wide
    with pytest.raises(FileFormatError, match=r"fp8 .* is below bf16"):
        parse_hardware(MINE | {"peak_flops": {"bf16": wide * factor, "fp8": wide}, "power": None}, "file")
