"""A model from files in GGUF: every weight of the structure is a tensor of the files, every byte theirs.

The structure is read from the tensors, so it cannot disagree with them; the header says what they cannot: how many heads,
how many experts a token takes, which layers slide, how long a context was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from reprlib import repr as shown

from waferline.catalog.names import slug
from waferline.errors import FileFormatError, UnsupportedError, nearest
from waferline.formats.gguf_set import GGUFSet, open_set
from waferline.formats.tensors import TensorInfo
from waferline.workloads.counts import parameter_count
from waferline.workloads.gguf.architectures import ARCHITECTURES, UNREAD, Architecture
from waferline.workloads.gguf.header import Header
from waferline.workloads.gguf.stack import ENCODER, POSITIONS, STACKS, read_stack
from waferline.workloads.gguf.stored import is_weight, main_format, stored, stored_bytes, with_formats
from waferline.workloads.gguf.tower import vision_tower
from waferline.workloads.spec import MixtureOfExperts, Transformer
from waferline.workloads.streams import Tower

_MAX_MISMATCH = 0.005  # scales of quantisers ride along in some files; more than this is another structure


def from_gguf(path: str | Path) -> Transformer:
    """The model of a GGUF file, of the parts of a split one, or of the one model in a folder.

    Raises: FileFormatError (not GGUF, truncated, corrupt, parts missing, tensors that do not add up to the described
    model), InvalidInputError (a folder with several models), UnsupportedError (an architecture that is not known, or a
    file that is no model).
    """
    files = open_set(Path(path))
    name = files.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise FileFormatError("no 'general.architecture' in the header", where=files.where)
    if name in UNREAD:
        raise UnsupportedError(f"architecture '{name}' is not read: {UNREAD[name]}", where=files.where)
    if name not in ARCHITECTURES:
        close = nearest(name, ARCHITECTURES)
        hint = f"nearest: {', '.join(close)}" if close else f"{len(ARCHITECTURES)} are known, such as llama, qwen3"
        raise UnsupportedError(f"architecture {shown(name)} is not supported", where=files.where, hint=hint)
    spec = _transformer(files, Header(files.metadata, name, files.where), ARCHITECTURES[name])
    _check(spec, files)
    return _named(spec, files, name)


def _transformer(files: GGUFSet, header: Header, architecture: Architecture) -> Transformer:
    tensors = {t.name: t for t in files.tensors if is_weight(t)}
    table = tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise FileFormatError("no 'token_embd.weight' matrix", where=files.where)
    if table.shape[1] != header.size("embedding_length"):
        raise FileFormatError(
            f"'token_embd.weight' has rows of {table.shape[1]}, the header says {header.size('embedding_length')}",
            where=files.where,
        )
    hidden, final = header.size("embedding_length"), [t for t in tensors.values() if "output_norm." in t.name[:17]]
    main, encoder, decoder = (read_stack(tensors, header, architecture, stack) for stack in STACKS)
    alone = not (main.layers or decoder.layers)
    if alone:
        main, encoder = encoder, main  # the encoder of T5 alone
    if not (main.layers or decoder.layers):
        raise FileFormatError("no layers", where=files.where)
    top_bias = all(f"{t.name.removesuffix('.weight')}.bias" in tensors for t in final if t.name.endswith(".weight"))
    norm_bias = top_bias and all(stack.norm_bias for stack in (main, encoder, decoder))
    blocks = (decoder if decoder.layers else main).blocks(norm_bias, hidden)
    blocks = with_formats(blocks, files.tensors, "dec.blk" if decoder.layers else ENCODER if alone else "blk")
    mixture = any(isinstance(b.ffn, MixtureOfExperts) for b in blocks)
    spec = Transformer(
        name="",
        title="",
        family=architecture.experts if mixture and architecture.experts else architecture.model_type,
        hidden_size=hidden,
        vocab_size=table.shape[0],
        blocks=blocks,
        encoder=with_formats(encoder.blocks(norm_bias, hidden), files.tensors, ENCODER),
        kind=architecture.kind,
        tied_embeddings="output.weight" not in tensors,
        has_head=architecture.kind != "encoder",
        learned_positions=_rows(tensors, "position_embd.weight"),
        token_types=_rows(tensors, "token_types.weight"),
        embedding_norm="token_embd_norm.weight" in tensors,
        norm_bias=norm_bias,
        norm_weight=not architecture.bare_norms,
        final_norm=bool(final) or architecture.bare_norms > 0,
        head_bias="output.bias" in tensors,
        max_positions=header.whole("context_length") or 0,
        extra_params=main.unused + encoder.unused + decoder.unused,
    )
    return _with_the_rest(spec, tensors)


def _rows(tensors: Mapping[str, TensorInfo], name: str) -> int:
    return tensors[name].matrix()[0] if name in tensors else 0


def _with_the_rest(spec: Transformer, tensors: Mapping[str, TensorInfo]) -> Transformer:
    """Adds what stands outside the layers and has no place of its own: tables, poolers, projections of inputs."""
    sums: dict[str, int] = {}
    for name, tensor in tensors.items():
        if ".blk." in f".{name}" and not name.endswith(POSITIONS):
            continue
        part = next((p for start, p in _OUTSIDE if name.startswith(start)), "position_params")
        sums[part] = sums.get(part, 0) + tensor.weights
    return replace(
        spec,
        lookup_params=sums.get("lookup_params", 0),
        extra_params=spec.extra_params + sums.get("extra_params", 0),
        position_params=sums.get("position_params", 0),
    )


# Start of a tensor's name → where its parameters are counted; empty: a part of the structure of its own.
_OUTSIDE = (
    ("token_embd", ""),
    ("output", ""),
    ("enc.output_norm", ""),
    ("dec.output_norm", ""),
    ("position_embd", ""),
    ("token_types", ""),
    ("per_layer_token_embd", "lookup_params"),
    ("cls", "extra_params"),  # poolers and classifiers: one token a sequence
    ("dense_", "extra_params"),
)


def _check(spec: Transformer, files: GGUFSet) -> None:
    """Refuses files whose tensors are not those of the structure that was read. Empty tensors say no size to compare."""
    if not all(t.weights for t in files.tensors):
        return
    held = sum(t.weights for t in files.tensors if is_weight(t))
    count = parameter_count(spec)
    if abs(held - count.total - count.extra) > _MAX_MISMATCH * count.total:
        raise FileFormatError(
            f"the tensors hold {held} parameters, the header describes {count.total + count.extra}", where=files.where
        )


def _named(spec: Transformer, files: GGUFSet, architecture: str) -> Transformer:
    """The model with its name, its formats and bytes as stored, and what the files say of themselves."""
    title, main = files.metadata.get("general.name"), main_format(files)
    file = files.files[0].path.name
    metadata = {"architecture": architecture, "container": "gguf", "file": file, "model_type": spec.family}
    if len(files.files) > 1:
        metadata["files"] = str(len(files.files))
    notes: list[str] = []
    towers: tuple[Tower, ...] = ()
    if files.projector is not None:
        tower, untimed = vision_tower(files.projector)
        towers = () if tower is None else (tower,)
        size = sum(t.nbytes for t in files.projector.tensors) / 1e6
        said = f"; its pass is not timed: {untimed}" if untimed else ""
        notes.append(f"{files.projector.path.name}: the tower's {size:.1f} MB are in memory{said}")
    if spec.extra_params:
        metadata["not_counted"] = f"{spec.extra_params} parameters that llama.cpp does not use for tokens"
    return replace(
        spec,
        name=slug(files.stem) or "model",
        title=title if isinstance(title, str) and title else files.stem,
        weight_format=main,
        stored=stored(files, main),
        weight_bytes_exact=stored_bytes(files),
        metadata=metadata,
        notes=tuple(notes),
        towers=towers,
    )
