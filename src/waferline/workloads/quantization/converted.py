"""Checkpoints as an engine of another form has them: what llama.cpp's files hold of a model that ships quantised."""

from __future__ import annotations

from dataclasses import replace

from waferline.remember import by_identity
from waferline.workloads.quantization.resolve import in_formats, without_formats
from waferline.workloads.quantization.scheme import Scheme, Storage, named
from waferline.workloads.spec import Transformer

# gpt-oss-20b as llama.cpp loads it: 72 tensors in MXFP4 (the experts), 98 in Q8_0 (attention, embedding, head), 289 in F32
# (norms, biases, routers), 11.27 GiB; https://github.com/ggml-org/llama.cpp/discussions/15396.
_REST = Storage("q8_0", "int8")


@by_identity
def as_gguf(model: Transformer) -> Transformer:
    """`model` as llama.cpp's files keep it, where its own checkpoint is in MXFP4; any other model as it is."""
    if model.stored is None or model.stored.method != "mxfp4":
        return model
    experts = tuple(named(["experts"], Storage(str(model.weight_format)), model.name))
    made = in_formats(without_formats(model), Scheme("gguf", _REST, experts, head=_REST, embedding=_REST), model.name)
    note = f"llama.cpp's files of it keep the experts in {model.weight_format} and all else in q8_0"
    return replace(made, metadata={**model.metadata, "container": "gguf"}, notes=(*model.notes, note))
