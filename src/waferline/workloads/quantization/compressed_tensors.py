"""compressed-tensors, as llm-compressor writes it and vLLM reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from reprlib import repr as shown

from waferline.errors import FileFormatError, UnsupportedError
from waferline.workloads.config_reader import ConfigReader
from waferline.workloads.quantization.scheme import WIDE, Rule, Scheme, Storage, named
from waferline.workloads.quantization.storage import cache_format, integer, kept, texts

_FLOAT4 = {16: "nvfp4", 32: "mxfp4"}
_DENSE = frozenset(
    ["dense", "int-quantized", "float-quantized", "naive-quantized", "pack-quantized", "mixed-precision"]
)
_DENSE |= {"nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"}
# Classes that stand for modules here; any other class with Linear in its name is a linear one.
_CLASSES = {"Embedding": "embedding", "Attention": "self_attn", "MLP": "mlp", "MoE": "mlp", "Experts": "experts"}


@dataclass(frozen=True, slots=True)
class _Group:
    targets: tuple[str, ...]
    storage: Storage


def read(c: ConfigReader) -> Scheme:
    """Ignored modules first, then targets by name in the order of their groups, then targets by class."""
    groups = list(_groups(c))
    ignored = list(kept(c, "ignore", "exclude_modules"))
    by_name: list[Rule] = []
    by_class: list[Rule] = []
    linear = WIDE
    embedding = WIDE
    for group in groups:
        plain = [t for t in group.targets if _is_class(t)]
        by_name += named([t for t in group.targets if not _is_class(t)], group.storage, c.where)
        for target in plain:
            part = _class(target, c.where)
            if part == "embedding":
                embedding = group.storage
            elif part == "linear":
                linear = group.storage if linear == WIDE else linear
            else:
                by_class += named([part], group.storage, c.where)
    notes = _sparsity(c)
    return Scheme(
        "compressed-tensors",
        linear,
        (*ignored, *by_name, *by_class),
        head=linear,
        embedding=embedding,
        kv=cache(c),
        notes=notes,
    )


def _groups(c: ConfigReader) -> Iterator[_Group]:
    section = c.section("config_groups")
    for name in section.names() if section is not None else ():
        assert section is not None
        group = section.section(name)
        if group is None:
            continue
        weights = group.section("weights")
        targets = tuple(texts(group, "targets"))
        if weights is None:
            continue  # activations or caches alone
        if not targets:
            raise FileFormatError("missing key 'targets'", where=group.where, hint='for example ["Linear"]')
        yield _Group(targets, _storage(group, weights))
        group.get("output_activations", "format")
        group.finish()


def _storage(group: ConfigReader, weights: ConfigReader) -> Storage:
    inputs = group.section("input_activations")
    return Storage(_weights(weights), None if inputs is None else _activations(inputs, weights))


def _weights(w: ConfigReader) -> str:
    bits, kind = w.size("num_bits"), number_kind(w)
    strategy = w.text("", "strategy")
    group = w.optional("group_size")
    if strategy not in ("", "tensor", "channel", "group", "block", "token", "tensor_group"):
        raise UnsupportedError(f"unknown strategy {shown(strategy)} of weights", where=w.where)
    if strategy in ("group", "tensor_group") and group is None:
        raise FileFormatError("missing key 'group_size'", where=w.where)
    symmetric = w.flag(True, "symmetric")
    w.get("dynamic", "observer", "observer_kwargs", "actorder", "scale_dtype", "zp_dtype", "quant_algo")
    block = w.items("block_structure")
    w.finish()
    if kind == "int":
        return integer(w.where, bits, None if strategy in ("channel", "tensor") else group, "_sym" if symmetric else "")
    if bits == 8:
        blocks = strategy == "block" or block is not None
        return "mxfp8" if group == 32 else "fp8_block" if blocks or group is not None else "fp8"
    if bits == 4 and (group or 16) in _FLOAT4:
        return _FLOAT4[group or 16]
    if bits == 16:
        return WIDE.weights
    raise UnsupportedError(f"no format for {bits}-bit float weights in groups of {group}", where=w.where)


def _activations(a: ConfigReader, weights: ConfigReader) -> str | None:
    bits, kind = a.size("num_bits"), number_kind(a)
    group = a.optional("group_size")
    known = {("int", 8): "int8", ("float", 8): "fp8", ("float", 4): _FLOAT4.get(group or 16), ("int", 4): "int4"}
    if bits >= 16:
        return None
    found = known.get((kind, bits))
    if found is None:
        raise UnsupportedError(f"no format for {bits}-bit {kind} activations", where=a.where)
    if found == "fp8" and group == 32:
        return "mxfp8"
    return found


def number_kind(c: ConfigReader) -> str:
    """int or float, from a section's `type`.

    Raises: FileFormatError when it says neither.
    """
    kind = c.text("", "type")
    if kind not in ("int", "float"):
        raise FileFormatError(f"'type' must be int or float, not {shown(kind)}", where=c.where)
    return kind


def cache(c: ConfigReader) -> str | None:
    """Format of the KV cache that `kv_cache_scheme` says; None when it says none."""
    scheme = c.section("kv_cache_scheme")
    return None if scheme is None else cache_format(scheme.where, scheme.size("num_bits"), number_kind(scheme))


def _is_class(target: str) -> bool:
    return not target.startswith("re:") and "." not in target and target[:1].isupper()


def _class(target: str, where: str) -> str:
    if "Linear" in target or target in ("Conv1D", "DecoderLayer") or target.endswith("DecoderLayer"):
        return "linear"
    part = next((p for ending, p in _CLASSES.items() if target.endswith(ending)), None)
    if part is None:
        raise UnsupportedError(
            f"target {shown(target)} is no class that is known",
            where=where,
            hint="Linear, Embedding, or a module's name",
        )
    return part


def _sparsity(c: ConfigReader) -> tuple[str, ...]:
    """Notes of a file that leaves zeros out, or packs them in a way that is not known."""
    sparse = c.section("sparsity_config")
    forms = [c.text("dense", "format"), sparse.text("dense", "format") if sparse is not None else "dense"]
    return tuple(f"format {form} is counted dense" for form in forms if form not in _DENSE)
