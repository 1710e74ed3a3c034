"""GGUF files: structure from the header, bytes exactly as stored, damage refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import FileFormatError, UnsupportedError, WaferlineError
from waferline.formats import get_format, resolve
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.lower import lower_decode
from waferline.workloads.spec import LatentAttention, MixtureOfExperts, Transformer
from waferline.workloads.weights import as_shipped

H, FFN, LAYERS, HEADS, KV, VOCAB, EXPERTS = 64, 128, 2, 4, 2, 96, 4
Q4_0, Q8_0, F16, F32 = (gguf.GGMLQuantizationType[name] for name in ("Q4_0", "Q8_0", "F16", "F32"))
Shapes = dict[str, tuple[int, ...]]


def attention(prefix: str, width: int = H // HEADS) -> Shapes:
    return {
        f"{prefix}.attn_q.weight": (HEADS * width, H),
        f"{prefix}.attn_k.weight": (KV * width, H),
        f"{prefix}.attn_v.weight": (KV * width, H),
        f"{prefix}.attn_output.weight": (H, HEADS * width),
        f"{prefix}.attn_norm.weight": (H,),
        f"{prefix}.ffn_norm.weight": (H,),
    }


def dense(prefix: str) -> Shapes:
    names = (("ffn_gate", (FFN, H)), ("ffn_up", (FFN, H)), ("ffn_down", (H, FFN)))
    return {f"{prefix}.{name}.weight": shape for name, shape in names}


def experts(prefix: str) -> Shapes:
    names = (("ffn_gate_exps", (FFN, H)), ("ffn_up_exps", (FFN, H)), ("ffn_down_exps", (H, FFN)))
    return {f"{prefix}.{name}.weight": (EXPERTS, *shape) for name, shape in names} | {
        f"{prefix}.ffn_gate_inp.weight": (EXPERTS, H)
    }


def ends(tied: bool = False) -> Shapes:
    table = {"token_embd.weight": (VOCAB, H), "output_norm.weight": (H,)}
    return table if tied else table | {"output.weight": (VOCAB, H)}


def latent(prefix: str) -> Shapes:
    """Multi-head latent attention: query rank 32, latent 32, rotary 16, keys 32 and values 16 wide."""
    return {
        f"{prefix}.attn_q_a.weight": (32, H),
        f"{prefix}.attn_q_a_norm.weight": (32,),
        f"{prefix}.attn_q_b.weight": (HEADS * 32, 32),
        f"{prefix}.attn_kv_a_mqa.weight": (32 + 16, H),
        f"{prefix}.attn_kv_a_norm.weight": (32,),
        f"{prefix}.attn_kv_b.weight": (HEADS * (16 + 16), 32),
        f"{prefix}.attn_output.weight": (H, HEADS * 16),
        f"{prefix}.attn_norm.weight": (H,),
        f"{prefix}.ffn_norm.weight": (H,),
    }


def layers(*parts: Callable[[str], Shapes]) -> Shapes:
    return {name: s for i in range(LAYERS) for part in parts for name, s in part(f"blk.{i}").items()}


def common(**more: Any) -> dict[str, Any]:
    return {
        "block_count": LAYERS,
        "embedding_length": H,
        "feed_forward_length": FFN,
        "context_length": 512,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV,
    } | {key.replace("__", "."): value for key, value in more.items()}


def write(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Shapes,
    *,
    types: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    file_type: int | None = None,
) -> Path:
    """A file with matrices of q4_0 (experts q8_0) and float32 norms, unless `types` says otherwise."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    if file_type is not None:
        writer.add_file_type(file_type)
    for key, value in fields.items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(key if key.startswith("split.") else f"{architecture}.{key}", value)
    writer.add_array("tokenizer.ggml.tokens", [f"token {i}" for i in range(VOCAB)])
    for name, shape in tensors.items():
        default = F32 if len(shape) == 1 else Q8_0 if "_exps" in name else F16 if "embd" in name else Q4_0
        kind = (types or {}).get(name, default)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if kind in (F16, F32):
            writer.add_tensor(name, np.zeros(shape, np.float16 if kind == F16 else np.float32))
        else:
            writer.add_tensor(name, np.zeros((*shape[:-1], shape[-1] // block * size), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(tmp_path / "Tiny-Llama.Q4_0.gguf", "llama", common(), ends() | layers(attention, dense), file_type=2)


def load(path: Path) -> Transformer:
    model = load_model(path)
    assert isinstance(model, Transformer)
    return model


def elements(shapes: Shapes) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def test_structure_and_name(llama: Path) -> None:
    model = load(llama)
    assert (model.name, model.title, model.family) == ("tiny-llama.q4-0", "Tiny", "llama")
    assert parameter_count(model).total == elements(ends() | layers(attention, dense))
    assert model.weight_format == "q4_0"


def test_weight_bytes_are_those_of_the_file(llama: Path) -> None:
    stored = load(llama).weight_bytes_exact
    assert stored is not None
    reader = gguf.GGUFReader(llama)
    assert sum(stored.values()) == sum(int(t.n_bytes) for t in reader.tensors)
    assert stored["embedding"] == VOCAB * H * 2
    assert stored["head"] == VOCAB * H // 32 * 18  # 32 weights of q4_0 take 18 bytes
    assert stored["experts"] == 0


def test_one_tensor_in_another_format_shows_in_the_bytes(tmp_path: Path) -> None:
    shapes = ends() | layers(attention, dense)
    plain = load(write(tmp_path / "a.gguf", "llama", common(), shapes)).weight_bytes_exact
    mixed = load(
        write(tmp_path / "b.gguf", "llama", common(), shapes, types={"blk.1.ffn_down.weight": Q8_0})
    ).weight_bytes_exact
    assert plain and mixed
    assert mixed["blocks"] - plain["blocks"] == H * FFN // 32 * (34 - 18)


QWEN_NORMS = {f"blk.{i}.attn_{x}_norm.weight": (H // HEADS,) for i in range(LAYERS) for x in "qk"}
QWEN_BIAS = {
    f"blk.{i}.attn_{x}.bias": (n * H // HEADS,) for i in range(LAYERS) for x, n in (("q", HEADS), ("k", KV), ("v", KV))
}
GEMMA_NORMS = {f"blk.{i}.{x}.weight": (H,) for i in range(LAYERS) for x in ("post_attention_norm", "post_ffw_norm")}
FAMILIES = {
    "mixtral": ("llama", common(expert_count=EXPERTS, expert_used_count=2), ends() | layers(attention, experts)),
    "qwen2": ("qwen2", common(), ends() | QWEN_BIAS | layers(attention, dense)),
    "qwen3": ("qwen3", common(attention__key_length=H // HEADS), ends() | QWEN_NORMS | layers(attention, dense)),
    "qwen3_moe": (
        "qwen3moe",
        common(
            attention__key_length=H // HEADS, expert_count=EXPERTS, expert_used_count=2, expert_feed_forward_length=FFN
        ),
        ends() | QWEN_NORMS | layers(attention, experts),
    ),
    "gemma2": (
        "gemma2",
        common(attention__key_length=H // HEADS, attention__sliding_window=32),
        ends(tied=True) | GEMMA_NORMS | layers(attention, dense),
    ),
    "deepseek_v2": (
        "deepseek2",
        common(
            attention__q_lora_rank=32,
            attention__kv_lora_rank=32,
            attention__key_length=32,
            attention__value_length=16,
            rope__dimension_count=16,
            leading_dense_block_count=0,
            expert_count=EXPERTS,
            expert_used_count=2,
            expert_feed_forward_length=FFN,
        ),
        ends() | layers(latent, experts),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_architecture_holds_exactly_its_tensors(tmp_path: Path, family: str) -> None:
    architecture, fields, shapes = FAMILIES[family]
    model = load(write(tmp_path / "m.gguf", architecture, fields, shapes))
    assert model.family == family
    assert parameter_count(model).total == elements(shapes)
    assert model.tied_embeddings == ("output.weight" not in shapes)


def test_experts_and_latent_attention_are_seen(tmp_path: Path) -> None:
    architecture, fields, shapes = FAMILIES["deepseek_v2"]
    model = load(write(tmp_path / "m.gguf", architecture, fields, shapes))
    assert isinstance(model.blocks[0].mixer, LatentAttention)
    assert isinstance(model.blocks[0].ffn, MixtureOfExperts)
    assert model.weight_bytes_exact is not None
    assert model.weight_bytes_exact["experts"] == LAYERS * EXPERTS * 3 * H * FFN // 32 * 34


WIDE = {"embedding_length": 256, "feed_forward_length": 512, "attention.head_count": 4, "attention.head_count_kv": 2}


def mixture(path: Path, file_type: int, kinds: Mapping[str, str]) -> Transformer:
    """A model wide enough for blocks of 256, its matrices in the format of the first name they start with."""
    names = {"attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256), "attn_output": (256, 256)}
    names |= {"ffn_gate": (512, 256), "ffn_up": (512, 256), "ffn_down": (256, 512)}
    shapes = {f"blk.{i}.{n}.weight": shape for i in range(LAYERS) for n, shape in names.items()}
    shapes |= {f"blk.{i}.{n}_norm.weight": (256,) for i in range(LAYERS) for n in ("attn", "ffn")}
    shapes |= {"token_embd.weight": (VOCAB, 256), "output_norm.weight": (256,), "output.weight": (VOCAB, 256)}
    types = {
        name: gguf.GGMLQuantizationType[next(k for start, k in kinds.items() if start in name)]
        for name, shape in shapes.items()
        if len(shape) > 1
    }
    return load(write(path, "llama", common() | WIDE, shapes, types=types, file_type=file_type))


def test_the_format_is_that_of_the_tensors(tmp_path: Path) -> None:
    """A recipe is believed when the tensors are of it; `file_type` alone says nothing."""
    kind = gguf.LlamaFileType
    for file_type, kinds, expected in (
        (kind.MOSTLY_Q4_K_M, {"ffn_down": "Q6_K", "": "Q4_K"}, "q4_k_m"),
        (kind.MOSTLY_Q4_K_M, {"token_embd": "Q6_K", "": "Q3_K"}, "q3_k"),
        (kind.ALL_F32, {"": "Q3_K"}, "q3_k"),
        (kind.MOSTLY_F16, {"": "IQ2_XXS"}, "iq2_xxs"),
        (kind.MOSTLY_Q8_0, {"": "F16"}, "fp16"),
    ):
        model = mixture(tmp_path / "m.gguf", int(file_type), kinds)
        assert model.weight_format == expected
        precision = resolve(expected, lambda name: name)
        assert get_format(precision.kv).bits == 16


def test_each_operator_has_the_formats_of_its_tensors(tmp_path: Path) -> None:
    model = mixture(
        tmp_path / "m.gguf", 0, {"token_embd": "Q8_0", "output.w": "Q6_K", "attn_v": "F16", "ffn": "Q2_K", "": "Q4_K"}
    )
    assert model.stored is not None
    assert (model.weight_format, model.stored.embedding, model.stored.head) == ("q2_k", "q8_0", "q6_k")
    shares = {(op, fmt): share for op, fmt, share in model.blocks[0].formats}
    assert shares["ffn.down", "q2_k"] == 1.0
    assert (shares["attention.qkv", "q4_k"], shares["attention.qkv", "bf16"]) == (0.75, 0.25)
    assert dict(model.stored.activations)["q4_k"] == "int8"
    read = sum(
        float(op.count * op.weight_bytes)
        for op in lower_decode(
            model, batch=1, context=1, precision=as_shipped(model, resolve("q2_k", lambda name: name))
        )
    )
    held = model.weight_bytes_exact
    assert held is not None
    norms = (2 * LAYERS + 1) * 256 * 4
    assert read == pytest.approx(held["blocks"] + held["head"] - norms)


def test_equal_values_for_each_layer_are_one(tmp_path: Path) -> None:
    shapes = ends() | layers(attention, dense)
    fields = common() | {"attention.head_count_kv": [KV] * LAYERS}
    assert load(write(tmp_path / "m.gguf", "llama", fields, shapes)).blocks[0].count == LAYERS


@pytest.mark.parametrize(
    ("architecture", "fields", "error", "message"),
    [
        ("lama", common(), UnsupportedError, "nearest: llama"),
        ("llama", common() | {"split.count": 3}, FileFormatError, "part 1 of 3, and its name does not say so"),
        ("llama", common(block_count=3), FileFormatError, "the header says 3 layers, the tensors are of 2"),
        ("llama", common(block_count=0), WaferlineError, "'block_count' is 0"),
        ("llama", common(embedding_length=65), FileFormatError, "rows of 64, the header says 65"),
        ("llama", common() | {"attention.head_count_kv": [1, 2]}, FileFormatError, "layer 0: 64 rows of 'attn_q'"),
        ("llama", common() | {"attention.head_count_kv": [2]}, FileFormatError, "none for layer 1"),
    ],
)
def test_what_does_not_describe_the_tensors_is_refused(
    tmp_path: Path, architecture: str, fields: dict[str, Any], error: type[WaferlineError], message: str
) -> None:
    path = write(tmp_path / "m.gguf", architecture, fields, ends() | layers(attention, dense))
    with pytest.raises(error, match=message):
        load(path)


def test_no_file_cut_anywhere_loads(llama: Path, tmp_path: Path) -> None:
    data = llama.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 4, 8, 16, 24, 60, len(data) // 3, len(data) // 2, len(data) - 33):
        cut.write_bytes(data[:length])
        with pytest.raises(FileFormatError, match=r"cut\.gguf"):
            load(cut)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_header_bytes_give_a_model_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("gguf")
    shapes = {**ends(), **layers(attention, dense)}
    content = bytearray(write(folder / "m.gguf", "llama", common(), shapes).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 2500))] = data.draw(st.integers(0, 255))
    path = folder / "damaged.gguf"
    path.write_bytes(content)
    try:
        model = load(path)
    except WaferlineError as error:
        assert "\n" not in str(error)
    else:
        assert parameter_count(model).total > 0
