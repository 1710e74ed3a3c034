"""One door for models: names, files, directories and mappings, and what is said when one cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnknownNameError, WaferlineError
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.models import FOLDER, catalog_model, model_names
from waferline.workloads.spec import ConvNet, Transformer

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 1000,
}
TEXT = json.dumps(CONFIG, indent=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "my-Model"
    model.mkdir()
    (model / "config.json").write_text(TEXT)
    return model


def test_every_way_to_one_model(folder: Path) -> None:
    models = [load_model(folder), load_model(str(folder)), load_model(folder / "config.json"), load_model(CONFIG)]
    assert len({parameter_count(m).total for m in models}) == 1
    assert models[0].name == models[2].name == "my-model"
    assert load_model(models[0]) is models[0]


def test_a_catalogue_name() -> None:
    assert load_model("llama3-8b") == catalog_model("llama-3-8b")


def test_any_other_json_name_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(TEXT)
    assert load_model(tmp_path / "tiny.json").name == "tiny"


@pytest.mark.parametrize("name", ["llama-3-8b", "ds-cnn", "maxtext-16b"])
def test_a_file_in_the_catalogue_form(name: str) -> None:
    assert load_model(FOLDER / f"{name}.yaml") == catalog_model(name)


def test_layers_written_out() -> None:
    net = load_model(
        {
            "name": "mine",
            "title": "Mine",
            "convnet": {
                "input_shape": [3, 8, 8],
                "layers": [
                    {"name": "a", "c_in": 3, "c_out": 4, "kernel": 3, "out": 8, "bias": True, "batch_norm": False},
                    {"name": "b", "c_in": 256, "c_out": 10, "bias": True, "batch_norm": False},
                ],
            },
        }
    )
    assert isinstance(net, ConvNet)
    assert parameter_count(net).total == 3 * 4 * 9 + 4 + 256 * 10 + 10
    assert parameter_count(net).macs == 3 * 4 * 9 * 64 + 2560


def written(block: dict[str, Any]) -> dict[str, Any]:
    body = {"hidden_size": 64, "vocab_size": 100, "blocks": [{"count": 2, **block}]}
    return {"name": "mine", "title": "Mine", "transformer": body}


def test_a_transformer_written_out() -> None:
    model = load_model(
        written({"attention": {"heads": 4, "kv_heads": 2, "head_dim": 16}, "ffn": {"intermediate": 128}})
    )
    assert isinstance(model, Transformer)
    layer = 64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert parameter_count(model).total == 2 * layer + 2 * 6400 + 64


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"atention": {}}, "unknown key 'atention'"),
        ({"attention": {"heads": 4, "kv_heads": 4, "head_dims": 16}}, "did you mean 'head_dim'"),
        ({"attention": {"heads": 4, "kv_heads": 4}}, "missing key 'head_dim'"),
        ({"attention": {"heads": 0, "kv_heads": 4, "head_dim": 16}}, "'heads' must be a positive whole number"),
        ({"ffn": {"intermediate": 1.5}}, "'intermediate'"),
        ({"ffn": {"intermediate": 4}, "experts": {}}, "both ffn and experts"),
        ({"ffn": 7}, "expected a mapping"),
        ({"count": True}, "'count'"),
    ],
)
def test_mistakes_in_written_layers_are_named(block: dict[str, Any], message: str) -> None:
    with pytest.raises(WaferlineError, match=message):
        load_model(written(block))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1"),
        ('{"model_type": "llama",', "line 1"),
        (TEXT[:-30], "malformed JSON at line"),
        (TEXT.replace(": 64", ": 64 64"), "line 3, column"),
        ("[1, 2]", "expected a mapping"),
        ("null", "expected a mapping"),
        (TEXT.replace("64", "NaN"), "hidden_size"),
        ("[" * 100_000, "deeply|malformed"),
    ],
)
def test_malformed_json_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(WaferlineError, match=message) as caught:
        load_model(path)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(FileFormatError, match="not UTF-8"):
        load_model(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "config.json", tmp_path / "x.gguf", tmp_path / "x.yaml"):
        with pytest.raises(FileFormatError, match="cannot be read"):
            load_model(path)
    with pytest.raises(FileFormatError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(FileFormatError, match="not a model file"):
        load_model(tmp_path / "model.txt")


def test_a_folder_without_a_configuration_does_not_hide_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama-3-8b").mkdir()
    assert load_model("llama-3-8b") == catalog_model("llama-3-8b")


def test_neither_name_nor_file() -> None:
    with pytest.raises(UnknownNameError, match="llama-3-8b"):
        load_model("lama-3-8b")
    with pytest.raises(InvalidInputError, match="int"):
        load_model(7)  # type: ignore[arg-type]


def test_malformed_yaml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\ntitle: [")
    with pytest.raises(FileFormatError, match="line"):
        load_model(path)
    path.write_text("- 1\n")
    with pytest.raises(FileFormatError, match="mapping"):
        load_model(path)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(model_names()), st.data())
def test_a_cut_file_never_loads_silently_wrong(tmp_path_factory: pytest.TempPathFactory, name: str, data: Any) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    path = tmp_path_factory.mktemp("cut") / "cut.yaml"
    path.write_text(text[: data.draw(st.integers(0, len(text)))])
    try:
        model = load_model(path)
    except WaferlineError:
        return
    assert parameter_count(model).total > 0
