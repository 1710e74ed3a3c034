"""Files that somebody else wrote: one typed line for each way to be wrong, in little time and memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waferline.catalog.text_file import MAX_JSON_BYTES, MAX_YAML_BYTES, parse_json, parse_yaml, read_text
from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, WaferlineError
from waferline.machines.hardware import load_hardware
from waferline.workloads.load import load_model

LAUGHS = "a: &a [x, x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a, *a]\n" for i in range(9))
DOUBLED = "- &a0 [x, x]\n" + "".join(f"- &a{i + 1} [*a{i}, *a{i}]\n" for i in range(30))
MERGED = "- &a0 {x: 1}\n" + "".join(f"- &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(30))

WRONG_YAML = {
    "aliases that unfold to 2^30 values": (DOUBLED, "aliases are unfolded"),
    "merges that unfold to 2^30 values": (MERGED, "aliases are unfolded"),
    "an alias within itself": ("&a [*a]", "contains itself"),
    "a mapping within itself": ("&a {b: {c: *a}}", "contains itself"),
    "5,000 digits": ("a: " + "9" * 5000, "cannot be read"),
    "a key twice": ("a: 1\nb: {c: 1, c: 2}", "key 'c' is given twice .again at line 2"),
    "deep brackets": ("[" * 100_000, "nest"),
    "deep dashes": ("- " * 100_000, "nest"),
    "brackets that libyaml still follows": ("[" * 900 + "]" * 900, "nest"),
    "a month that is none": ("a: 2026-13-45", "cannot be read"),
    "an empty number": ('!!int ""', "cannot be read"),
    "no truth value": ("!!bool maybe", "cannot be read"),
    "a Python object": ("!!python/object/apply:os.getcwd []", "constructor"),
    "a null character": ("a: \0", "malformed YAML"),
    "a list as a key": ("{[1]: 2}", "unhashable|malformed"),
    "an open bracket": ("a: [1,\nb: 2", "at line 3, column 1"),
}
WRONG_JSON = {
    "a key twice": ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is given twice"),
    "5,000 digits": ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
    "deep brackets": ("[" * 100_000, "nested too deeply"),
    "cut": ('{"a": ', "line 1, column 7"),
}


@pytest.mark.parametrize(("text", "message"), WRONG_YAML.values(), ids=WRONG_YAML)
def test_wrong_yaml_is_one_line_in_no_time(text, message):
    began = time.process_time()
    with pytest.raises(FileFormatError, match=message) as caught:
        parse_yaml(text, "mine.yaml")
    assert time.process_time() - began < 2
    assert str(caught.value).startswith("mine.yaml: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), WRONG_JSON.values(), ids=WRONG_JSON)
def test_wrong_json_is_one_line(text, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        parse_json(text, "mine.json")
    assert "\n" not in str(caught.value)


def test_what_yaml_may_do_is_still_done():
    data = parse_yaml(
        "a: &a {x: 5e6, y: 1.5}\nb: {<<: *a, y: 2}\nc: [*a, *a]\nd: 2026-11-21\ne: null\n1: one\n'1': text", "x"
    )
    assert data["b"] == {"x": 5e6, "y": 2} and data["c"][0]["x"] == 5e6 and data[1] == "one" and data["1"] == "text"
    assert parse_yaml("", "x") is None
    assert len(parse_yaml(LAUGHS, "x")) == 10  # 60,000 values are many and no attack


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text):
    for parse in (parse_yaml, parse_json):
        try:
            parse(text, "x")
        except WaferlineError as error:
            assert "\n" not in str(error)


def special_files(folder: Path) -> list[Path]:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    return [Path("/dev/zero"), Path("/dev/full"), pipe, folder]


def test_what_is_no_regular_file_is_refused_unread(tmp_path):
    for path in special_files(tmp_path):
        for read in (read_text, read_file, load_hardware):
            with pytest.raises(FileFormatError, match="not a regular file"):
                read(path)


def test_models_and_machines_are_no_devices_or_pipes(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    for load in (load_model, load_hardware):
        with pytest.raises(FileFormatError, match="not a regular file"):
            load(tmp_path / "config.json")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(FileFormatError, match="not a regular file"):
        load_model(tmp_path / "pipe.gguf")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for load in (load_model, load_hardware):
        with pytest.raises(FileFormatError, match="not a regular file"):
            load(tmp_path / "zero.yaml")


def test_long_files_are_refused(tmp_path):
    for name, most in (("a.yaml", MAX_YAML_BYTES), ("a.json", MAX_JSON_BYTES)):
        (tmp_path / name).write_bytes(b" " * (most + 1))
        with pytest.raises(FileFormatError, match="longer than"):
            read_file(tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 256, "x" * 5000, "a/" + "x" * 300, "x\0y", "a/\0.yaml", "x" * 300 + ".json"])
@pytest.mark.parametrize("load", [load_model, load_hardware])
def test_names_that_no_path_can_have(load, name):
    with pytest.raises(WaferlineError) as caught:
        load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", "."])
def test_no_name_is_not_the_folder_one_stands_in(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "internlm2"}')
    if name == ".":
        with pytest.raises(FileFormatError, match="missing key"):
            load_model(name)  # a folder that is named is read
        return
    with pytest.raises(WaferlineError, match="unknown model"):
        load_model(name)


COSTLY = {
    "values.yaml": lambda: "[" + "1," * (MAX_YAML_BYTES // 2 - 2) + "1]",
    "keys.yaml": lambda: "".join(f"k{i}: 1\n" for i in range(45_000)),
    "keys.json": lambda: '{"model_type": "llama"' + "".join(f', "hidden_siz{i}": 1' for i in range(180_000)) + "}",
    "lists.json": lambda: "[" + "[]," * (MAX_JSON_BYTES // 3 - 2) + "[]]",
}


@pytest.mark.parametrize("name", COSTLY)
def test_the_costliest_files_stay_within_two_seconds_and_half_a_gigabyte(tmp_path, name):
    """Measured in a process of its own; twice the time is allowed where other tests run at once.

    Linux counts what the parent held into `ru_maxrss` of a child; `VmHWM` is the child's own.
    """
    path = tmp_path / name
    path.write_text(COSTLY[name]())
    assert path.stat().st_size <= (MAX_JSON_BYTES if name.endswith("json") else MAX_YAML_BYTES)
    script = (
        "import os, resource, sys; from waferline.errors import WaferlineError; from waferline.workloads.load import load_model\n"
        "try: load_model(sys.argv[1]); print('loaded')\n"
        "except WaferlineError as error: print(error)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF); own = '/proc/self/status'\n"
        "lines = open(own).read().splitlines() if os.path.exists(own) else []\n"
        "peak = next((int(line.split()[1]) for line in lines if line.startswith('VmHWM')), used.ru_maxrss)\n"
        "print(used.ru_utime + used.ru_stime, peak / 1e3)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    message, figures = run.stdout.strip().split("\n")
    seconds, megabytes = map(float, figures.split())
    assert name in message
    assert seconds < 4 and megabytes < 500
