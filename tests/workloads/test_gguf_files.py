"""Models in GGUF over several files: parts, folders, towers beside them; what is no model says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError, WaferlineError
from waferline.formats import format_names, get_format
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.spec import Transformer

H, FF, VOCAB = 64, 96, 128
KEYS = {"block_count": 2, "embedding_length": H, "context_length": 512, "attention.head_count": 4}
Shapes = dict[str, tuple[int, ...]]
ENDS: Shapes = {"token_embd.weight": (VOCAB, H), "output_norm.weight": (H,), "output.weight": (VOCAB, H)}


def layer(i: int) -> Shapes:
    names = {"attn_norm": (H,), "attn_q": (H, H), "attn_k": (H, H), "attn_v": (H, H), "attn_output": (H, H)}
    names |= {"ffn_norm": (H,), "ffn_gate": (FF, H), "ffn_up": (FF, H), "ffn_down": (H, FF)}
    return {f"blk.{i}.{name}.weight": shape for name, shape in names.items()}


def write(path: Path, shapes: Shapes, architecture: str = "llama", general: str = "model", **fields: Any) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(general)
    for key, value in fields.items():
        key = key.replace("__", ".")
        (writer.add_uint16 if key.startswith("split.") else writer.add_uint32)(key, value)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def model(path: Path, **more: Any) -> Path:
    return write(path, ENDS | layer(0) | layer(1), **{f"llama__{k}": v for k, v in KEYS.items()}, **more)


def split(folder: Path, stem: str = "big") -> list[Path]:
    """The same model in three parts; as published ones, all but the first say no more than their place."""
    parts: Sequence[Shapes] = (ENDS, layer(0), layer(1))
    total = sum(len(p) for p in parts)
    return [
        write(
            folder / f"{stem}-{i + 1:05d}-of-00003.gguf",
            shapes,
            **({f"llama__{k}": v for k, v in KEYS.items()} if i == 0 else {}),
            split__no=i,
            split__count=3,
            **{"split.tensors.count".replace(".", "__"): total},
        )
        for i, shapes in enumerate(parts)
    ]


def load(path: Path | str) -> Transformer:
    found = load_model(path)
    assert isinstance(found, Transformer)
    return found


def test_any_part_answers_over_all_parts(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = load(model(tmp_path / "whole" / "m.gguf"))
    (tmp_path / "parts").mkdir()
    for path in (*split(tmp_path / "parts"), tmp_path / "parts"):
        found = load(path)
        assert (found.name, found.blocks) == ("big", whole.blocks)
        assert found.weight_bytes_exact == whole.weight_bytes_exact
        assert found.metadata["files"] == "3"


def test_missing_parts_are_named(tmp_path: Path) -> None:
    first, second, third = split(tmp_path)
    second.unlink()
    with pytest.raises(FileFormatError, match=r"1 of 3 parts are missing: big-00002-of-00003\.gguf"):
        load(third)
    renamed = first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(FileFormatError, match=r"part 1 of 3, and its name does not say so .*-00001-of-00003\.gguf"):
        load(renamed)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    _, second, third = split(tmp_path)
    second.write_bytes(third.read_bytes())
    with pytest.raises(FileFormatError, match="does not say that it is part 2 of 3"):
        load(third)


def test_a_folder_is_its_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    with pytest.raises(FileFormatError, match=r"no config\.json"):
        load(folder)
    model(folder / "a-Q4_K_M.gguf")
    write(folder / "a.imatrix.gguf", {"blk.0.attn_q.weight": (H, H)}, general="imatrix")
    assert load(folder).name == load(folder / "a-Q4_K_M.gguf").name == "a-q4-k-m"
    monkeypatch.chdir(tmp_path)
    assert load("my-model").name == "a-q4-k-m"
    model(folder / "a-Q8_0.gguf")
    with pytest.raises(InvalidInputError, match=r"has 2 models .*name one: a-Q4_K_M, a-Q8_0"):
        load(folder)


def test_a_tower_beside_the_model_is_counted_and_never_taken_for_it(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf")
    alone = load(path)
    for name, size in (("mmproj-F16.gguf", 3), ("mmproj-F32.gguf", 6)):
        tower = write(
            tmp_path / name, {"v.patch_embd.weight": (size, H)}, "clip", "mmproj", clip__vision__projection_dim=H
        )
    write(tmp_path / "mmproj-other.gguf", {"v.x.weight": (1, H)}, "clip", "mmproj", clip__vision__projection_dim=2 * H)
    both = load(path)
    assert alone.weight_bytes_exact and both.weight_bytes_exact
    assert both.weight_bytes_exact == {**alone.weight_bytes_exact, "tower": 3 * H * 2}
    assert parameter_count(both).total == parameter_count(alone).total
    assert load(tmp_path).weight_bytes_exact == both.weight_bytes_exact
    answer = run(Scenario(model=path, machine="rtx-4090"))
    assert any("mmproj-F16.gguf: the tower's" in note for note in answer.notes)
    held = {**both.weight_bytes_exact, "embedding": 0.0}  # which llama.cpp leaves with the host
    assert float(answer.result["device_weights_bytes"]) == sum(held.values())
    with pytest.raises(UnsupportedError, match=r"vision or audio tower of a model, not a model .*m\.gguf"):
        load(tower)
    with pytest.raises(UnsupportedError, match="an adapter, not a model"):
        load(write(tmp_path / "lora.gguf", {"blk.0.attn_q.weight.lora_a": (4, H)}, general="adapter"))


@pytest.mark.parametrize("machine", ["h100", "mi300x", "epyc-9654", "m2-ultra", "tpu-v5e", "jetson-orin-nano"])
def test_files_in_gguf_run_in_llama_cpp_unless_somebody_says(tmp_path: Path, machine: str) -> None:
    path = model(tmp_path / "m.gguf")
    answer = run(Scenario(model=path, machine=machine, prompt=64, output=8))
    assert answer.result.about["engine"] == "llama.cpp"
    named = run(Scenario(model=path, machine="h100", prompt=64, output=8, engine="vllm"))
    assert named.result.about["engine"] == "vllm"


def test_block_formats_have_the_bits_of_ggml() -> None:
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        name = kind.name.lower()
        if name in format_names() and get_format(name).packed:
            assert get_format(name).bits == 8 * size / block, name
    files = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0"}
    files |= {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "MXFP4"}
    assert {name.lower() for name in files} <= set(format_names())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_parts_give_a_model_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("gguf")
    parts = split(folder)
    hit = parts[data.draw(st.integers(0, 2))]
    content = bytearray(hit.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content), 1500) - 1))] = data.draw(st.integers(0, 255))
    hit.write_bytes(content)
    try:
        found = load(data.draw(st.sampled_from([*parts, folder])))
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert parameter_count(found).total > 0


def test_a_blob_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Ollama calls the files of models by their hashes."""
    blob = model(tmp_path / "m.gguf").rename(tmp_path / "sha256-6a0746a1ec1a")
    assert load(str(blob)).family == "llama"
    assert load(blob).family == "llama"
