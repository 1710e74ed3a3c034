"""Towers in `mmproj-*.gguf`: the tensors of a small tower against the same tower read from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.workloads.test_gguf_files import model as write_model

from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.families.towers import with_towers
from waferline.workloads.load import load_model as load
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import StreamNet, Tower

D, INNER, LAYERS, HEADS, HIDDEN = 32, 128, 4, 4, 64  # HIDDEN: of the model of test_gguf_files
Shapes = dict[str, tuple[int, ...]]


def mmproj(path: Path, kind: str, shapes: Shapes, **fields: Any) -> Path:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_string("clip.projector_type", kind)
    usual = {
        "image_size": 112,
        "patch_size": 14,
        "embedding_length": D,
        "feed_forward_length": INNER,
        "block_count": LAYERS,
    }
    usual |= {"attention.head_count": HEADS, "projection_dim": HIDDEN}
    for key, value in (usual | fields).items():
        writer.add_uint32(f"clip.vision.{key}", value)
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, np.float16 if len(shape) > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def layers(*, gated: bool, bias: bool, norm_bias: bool) -> Shapes:
    out: Shapes = {}
    for i in range(LAYERS):
        shapes = {f"attn_{x}": (D, D) for x in "qkv"} | {
            "attn_out": (D, D),
            "ffn_up": (INNER, D),
            "ffn_down": (D, INNER),
        }
        shapes |= {"ffn_gate": (INNER, D)} if gated else {}
        for name, (n, k) in shapes.items():
            out[f"v.blk.{i}.{name}.weight"] = (n, k)
            out |= {f"v.blk.{i}.{name}.bias": (n,)} if bias else {}
        for name in ("ln1", "ln2"):
            out[f"v.blk.{i}.{name}.weight"] = (D,)
            out |= {f"v.blk.{i}.{name}.bias": (D,)} if norm_bias else {}
    return out


def dense(name: str, n: int, k: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (n, k)} | ({f"{name}.bias": (n,)} if bias else {})


_VISION = {"hidden_size": D, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
_VISION |= {"num_attention_heads": HEADS, "patch_size": 14}
# The same tower twice: as llama.cpp's converter names it, and as transformers configures it.
CASES: dict[str, tuple[str, Shapes, dict[str, int], dict[str, Any]]] = {
    "gemma3": (
        "gemma3",
        layers(gated=False, bias=True, norm_bias=True)
        | {"v.patch_embd.weight": (D, 3, 14, 14), "v.patch_embd.bias": (D,), "v.position_embd.weight": (64, D)}
        | {"v.post_ln.weight": (D,), "v.post_ln.bias": (D,), "mm.soft_emb_norm.weight": (D,)}
        | {"mm.input_projection.weight": (D, HIDDEN)},
        {},
        {
            "model_type": "gemma3",
            "mm_tokens_per_image": 4,
            "vision_config": {**_VISION, "image_size": 112, "vision_use_head": False, "model_type": "siglip_vision_model"},
        },
    ),
    "qwen2.5-vl": (
        "qwen2.5vl_merger",
        layers(gated=True, bias=True, norm_bias=False)
        | {"v.patch_embd.weight": (D, 3, 14, 14), "v.patch_embd.weight.1": (D, 3, 14, 14), "v.post_ln.weight": (D,)}
        | dense("mm.0", 4 * D, 4 * D)
        | dense("mm.2", HIDDEN, 4 * D),
        {"n_wa_pattern": 4, "spatial_merge_size": 2},
        {
            "model_type": "qwen2_5_vl",
            "vision_config": {
                **_VISION, "depth": LAYERS, "num_heads": HEADS, "out_hidden_size": HIDDEN, "fullatt_block_indexes": [3],
                "window_size": 112,
            },
        },
    ),
    "mistral3": (
        "pixtral",
        layers(gated=True, bias=False, norm_bias=False)
        | {"v.patch_embd.weight": (D, 3, 14, 14), "v.pre_ln.weight": (D,), "v.token_embd.img_break": (HIDDEN,)}
        | {"mm.input_norm.weight": (D,), "mm.patch_merger.weight": (D, 4 * D)}
        | dense("mm.1", HIDDEN, D, bias=False)
        | dense("mm.2", HIDDEN, HIDDEN, bias=False),
        {"spatial_merge_size": 2},
        {
            "model_type": "mistral3",
            "spatial_merge_size": 2,
            "vision_config": {**_VISION, "image_size": 1024, "head_dim": D // HEADS, "model_type": "pixtral"},
        },
    ),
}  # fmt: skip


def macs(net: StreamNet) -> dict[str, int]:
    """Multiplications of one input over rows, before and behind the layers and in them."""
    rows, sums = net.grid.rows(), {"layers": 0, "beside": 0, "scores": 0}
    for stage in net.stages:
        each = stage.count * sum(m.count * m.k * m.n * rows[m.rows] for m in stage.matrices)
        sums["layers" if stage.scores else "beside"] += each
        for s in stage.scores:
            seen = min(rows[s.keys], s.window or rows[s.keys])
            sums["scores"] += stage.count * s.heads * s.head_dim * rows[s.queries] * seen
    return sums


def towers(tmp_path: Path, case: str) -> tuple[Tower, Tower]:
    kind, shapes, fields, config = CASES[case]
    path = write_model(tmp_path / "m.gguf")
    mmproj(tmp_path / "mmproj-F16.gguf", kind, shapes, **fields)
    spec = load(path)
    assert isinstance(spec, Transformer)
    assert not any("not timed" in note for note in spec.notes), spec.notes
    (read,) = spec.towers
    (described,) = with_towers(spec, config, "config").towers
    if case == "mistral3":  # llama.cpp takes fewer tokens of a large image than the published processor
        return read.at(448, 560), described.at(448, 560)
    return read, described


@pytest.mark.parametrize("case", CASES)
def test_a_tower_is_the_same_through_both_doors(tmp_path: Path, case: str) -> None:
    read, described = towers(tmp_path, case)
    assert macs(read.net) == macs(described.net)
    assert read.tokens == described.tokens
    breaks = HIDDEN if case == "mistral3" else 0  # a row of the decoder's table, which llama.cpp keeps with the tower
    assert read.params - breaks == described.params


def test_an_image_costs_time_and_the_file_is_in_memory(tmp_path: Path) -> None:
    kind, shapes, fields, _ = CASES["qwen2.5-vl"]
    path = write_model(tmp_path / "m.gguf")
    alone = run(Scenario(model=path, machine="rtx-4090", prompt=64)).result
    mmproj(tmp_path / "mmproj-F16.gguf", kind, shapes, **fields)
    plain, seen = (run(Scenario(model=path, machine="rtx-4090", prompt=64, images=images)) for images in (None, 2))
    held = sum(int(np.prod(s)) * (2 if len(s) > 1 else 4) for s in shapes.values())
    assert float(plain.result["device_weights_bytes"]) - float(alone["device_weights_bytes"]) == held
    assert float(seen.result["device_weights_bytes"]) == float(plain.result["device_weights_bytes"])
    assert float(seen.result["ttft_s"]) > float(plain.result["ttft_s"]) == pytest.approx(float(alone["ttft_s"]))

    assert any(f"{round(1024 / 28) ** 2:,} tokens of the prompt" in note for note in seen.notes), seen.notes


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("resampler", {}, "projectors of type 'resampler' are not read"),
        ("gemma3", {"v.sam.blk.0.attn.qkv.weight": (D, D)}, "its tensor v.sam.blk.0.attn.qkv.weight has no place"),
        ("gemma3", {"v.blk.0.cross.weight": (D, D)}, "its tensor v.blk.0.cross.weight has no place"),
    ],
)
def test_what_is_no_plain_tower_says_why_it_is_not_timed(tmp_path: Path, kind: str, more: Shapes, why: str) -> None:
    path = write_model(tmp_path / "m.gguf")
    mmproj(tmp_path / "mmproj-F16.gguf", kind, CASES["gemma3"][1] | more)
    spec = load(path)
    assert isinstance(spec, Transformer)
    assert not spec.towers
    assert any(f"its pass is not timed: {why}" in note for note in spec.notes), spec.notes
