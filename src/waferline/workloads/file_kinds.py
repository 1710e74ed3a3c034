"""Kinds of files that hold a model, as data: what each is read for, what it needs, and what is assumed of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind. `suffixes`: endings of its files; `reads`: what answers are made from; `assumes`: what the file cannot say.

    `extra`: of the package, without which the file is refused with what to install.
    """

    title: str
    suffixes: tuple[str, ...]
    reads: str
    assumes: str = ""
    extra: str | None = None


CONFIGURATION = FileKind(
    "Hugging Face configuration",
    (".json",),
    "the structure that `model_type` gives it; in a folder also the quantisation section and the weights' sizes beside it",
    "what the class of the `model_type` assumes where the file is silent",
)
GGUF = FileKind(
    "GGUF file, any part of a split one, or a folder with one model",
    (".gguf",),
    "the structure from the tensors of all parts, bytes and formats as stored; a tower (mmproj) beside it"
    " is in memory and timed with --images",
    "llama.cpp runs it; windows of architectures whose files do not say them; towers of other kinds"
    " than llama.cpp's plain ones are in memory and not timed",
)
OWN = FileKind("model in the catalogue's own form", (".yaml", ".yml"), "layers as they are written")
ONNX = FileKind(
    "ONNX network",
    (".onnx",),
    "every operator: multiply-accumulates, weights as stored, activations alive at once in the file's order",
    "an open first size is a batch of one; norms, activation functions and sums are fused to the step before; no sparsity",
    "onnx",
)
TFLITE = FileKind(
    "TFLite network",
    (".tflite",),
    "every operator of the first subgraph: multiply-accumulates, weights as stored, activations alive at once in order",
    "nothing is fused that the file does not fuse; no sparsity",
    "onnx",
)
TORCH = FileKind(
    "PyTorch program (torch.export), or a module with the shape of its inputs",
    (".pt2",),
    "every ATen operator of the exported graph: multiply-accumulates, weights as stored, activations alive at once",
    "fixed shapes; norms, activation functions and sums are fused to the step before; no sparsity",
    "torch",
)
FILE_KINDS = (CONFIGURATION, GGUF, OWN, ONNX, TFLITE, TORCH)
