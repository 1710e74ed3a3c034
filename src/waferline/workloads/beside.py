"""What lies beside a configuration: a quantisation section in a file of its own, and the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from waferline.catalog.text_file import parse_json, read_text
from waferline.errors import FileFormatError, UnsupportedError
from waferline.formats.precision import Precision
from waferline.formats.safetensors import read_header
from waferline.formats.tensors import TensorInfo
from waferline.workloads.quantization.section import SECTIONS
from waferline.workloads.spec import Transformer
from waferline.workloads.weights import weight_elements

_INDEX = "model.safetensors.index.json"
_TORCH_INDEX = "pytorch_model.bin.index.json"  # of files that are not opened; its total counts all the same
_MAX_INDEX_BYTES = 1 << 26  # a mixture of 384 experts in 61 layers has some 20 MB
# Files that hold the quantisation of a configuration that has none, and the method where the file does not name it.
_SECTION_FILES = (
    ("hf_quant_config.json", "modelopt"),
    ("quantize_config.json", "gptq"),
    ("quant_config.json", "awq"),
    ("quantization_config.json", ""),
)
_TOWERS = (
    "visual.",
    "vision",
    "audio",
    "multi_modal_projector",
    "mm_projector",
    "image_newline",
    "embed_vision",
    "aligner",
    "connector",
    "mlp1",
    "embed_audio",
)
_QUANTISED = (
    ".qweight",
    ".weight_packed",
    ".weight_scale",
    ".weight_scale_inv",
    ".scales",
    ".weight_scale_2",
    ".absmax",
)
_MAX_BYTES = 1e15
_APART = 0.03  # of the bytes of the structure: beyond it, files and structure are said to disagree
_WIDE_BYTES = 2


def with_section(data: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """`data` with the quantisation section of a file beside it, where it has none of its own.

    Raises: FileFormatError for a file of that name that is not what it should be.
    """
    inner = [v for v in data.values() if isinstance(v, Mapping)]
    if any(data.get(key) for key in SECTIONS):
        return data
    nested = any(d.get(key) for d in inner for key in SECTIONS)
    # A decoder's own section may be what the checkpoint was before ModelOpt quantised it anew (nvidia/Kimi-K2.5-NVFP4).
    for name, method in _SECTION_FILES[: 1 if nested else None]:
        path = folder / name
        if path.is_file():
            section = parse_json(read_text(path, _MAX_INDEX_BYTES), str(path))
            if not isinstance(section, Mapping):
                raise FileFormatError("expected a mapping", where=str(path))
            named = not method or any(k in section for k in ("quant_method", "quantization"))
            made = dict(section) if named else {**section, "quant_method": method}
            bare = {k: _without_section(v) if nested else v for k, v in data.items()}
            return {**bare, "quantization_config": made}
    return data


def _without_section(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in SECTIONS} if isinstance(value, Mapping) else value


def with_stored_sizes(model: Transformer, folder: Path) -> Transformer:
    """`model` with the bytes of its weights as the files beside its configuration hold them, and a note that says so.

    Raises: UnsupportedError when the files hold quantised tensors of which the configuration says nothing.
    """
    index = _index(folder / _INDEX)
    files, missing = _files(folder, index)
    if not files:
        total = (index or _index(folder / _TORCH_INDEX)).get("metadata", {}).get("total_size")
        sized = isinstance(total, int | float) and not isinstance(total, bool) and 0 < total < _MAX_BYTES
        return _as_indexed(model, float(total)) if sized else model
    tensors = [t for path in files for t in read_header(path)]
    if missing:
        note = f"{len(missing)} of {len(missing) + len(files)} files of weights are not here: sizes are those of the structure"
        return replace(model, notes=(*model.notes, note))
    found = next((t.name for t in tensors if t.name.endswith(_QUANTISED)), None)
    if found is not None and model.weight_format is None:
        raise UnsupportedError(
            f"the files hold quantised tensors ({found}) and the configuration does not say how", where=str(folder)
        )
    return _measured(model, tensors, len(files))


def _index(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    data = parse_json(read_text(path, _MAX_INDEX_BYTES), str(path))
    if not isinstance(data, Mapping) or not isinstance(data.get("weight_map", {}), Mapping):
        raise FileFormatError("expected a mapping with a 'weight_map'", where=str(path))
    return data if isinstance(data.get("metadata", {}), Mapping) else {**data, "metadata": {}}


def _files(folder: Path, index: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
    """(files of weights that are here, those that the index names and that are not)."""
    named = sorted({str(name) for name in index.get("weight_map", {}).values()})
    if named:
        here = [folder / name for name in named if "/" not in name and (folder / name).is_file()]
        return here, [name for name in named if folder / name not in here]
    every = sorted(folder.glob("*.safetensors"))
    usual = [path for path in every if path.name.startswith("model")]
    return usual or [p for p in every if not p.name.startswith(("adapter", "consolidated"))], []


def _measured(model: Transformer, tensors: Iterable[TensorInfo], files: int) -> Transformer:
    parts = dict.fromkeys(weight_elements(model), 0.0)
    counted = {part for part, n in weight_elements(model).items() if n or part != "tower"}
    left, narrowed = 0.0, False
    for tensor in tensors:
        part = _part(tensor.name, model)
        held = float(tensor.nbytes)
        if model.weight_format is None and held > _WIDE_BYTES * tensor.weights:
            held, narrowed = float(_WIDE_BYTES * tensor.weights), True
        if part not in counted:
            left += held
        else:
            parts[part] += held
    notes = [f"weights: as stored in {files} file{'s' if files > 1 else ''}, {sum(parts.values()) / 1e9:.4g} GB"]
    if narrowed:
        notes.append("the files keep 32 bits a weight: engines load them in 16")
    if left:
        notes.append(
            f"{left / 1e9:.3g} GB more in these files are no part of the decoder (towers, multi-token prediction)"
        )
    notes += _disagreement(model, sum(parts.values()))
    return replace(model, weight_bytes_exact=parts, notes=(*model.notes, *notes))


def _part(name: str, model: Transformer) -> str:
    """The part of the model that a tensor belongs to; "" for layers beyond its own (multi-token prediction)."""
    bare = name.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
    if name.startswith("mtp.") or ".mtp." in name:
        return ""
    if any(bare.startswith(t) or name.startswith(t) for t in _TOWERS):
        return "tower"
    layer = next((int(p) for p in bare.split(".") if p.isdigit()), None)
    if layer is None:
        return next((part for part, words in _ENDS if any(w in name for w in words)), "blocks")
    if layer >= sum(b.count for b in model.blocks) and not model.encoder:
        return ""
    routed = any(word in name for word in (".experts.", ".experts_", ".switch_mlp.")) and "shared_expert" not in name
    return "experts" if routed else "blocks"


_ENDS = (
    ("head", ("lm_head", "embed_out")),
    (
        "embedding",
        ("embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings", "embed_in", "shared.", "embeddings"),
    ),
    ("head", ("output.",)),
)


def _as_indexed(model: Transformer, total: float) -> Transformer:
    """The total that an index gives, spread over the parts as the structure spreads it."""
    parts = _structure(model)
    whole = sum(parts.values())
    if model.weight_format is None and abs(total / 2 - whole) <= _APART * whole:
        note = "the files keep 32 bits a weight, as their index says: engines load them in 16"
        return replace(model, notes=(*model.notes, note))
    if abs(total - whole) > _APART * whole:
        return replace(model, notes=(*model.notes, *_disagreement(model, total, "their index says")))
    share = total / whole
    note = f"weights: {total / 1e9:.4g} GB, as the index of their files says"
    return replace(model, weight_bytes_exact={p: n * share for p, n in parts.items()}, notes=(*model.notes, note))


def _structure(model: Transformer) -> Mapping[str, float]:
    from waferline.workloads.stored import part_bytes  # NumPy, for folders that hold weights alone

    body = model.weight_format or "bf16"
    return part_bytes(model, Precision(body, body, "bf16", body if model.stored is None else model.stored.head))


def _disagreement(model: Transformer, held: float, says: str = "the files hold") -> Iterator[str]:
    whole = sum(_structure(model).values())
    if abs(held - whole) > _APART * whole:
        yield f"{says} {held / 1e9:.4g} GB, the structure makes {whole / 1e9:.4g} GB"
