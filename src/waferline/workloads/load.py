"""One door for models: a catalogue name, a `config.json`, a GGUF file, a directory with either, a YAML file, a mapping."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from waferline.catalog.names import slug
from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, InvalidInputError, UnknownNameError
from waferline.formats.gguf_header import is_gguf
from waferline.formats.gguf_set import holds_gguf
from waferline.workloads.file_kinds import FILE_KINDS, GGUF, ONNX, TFLITE, TORCH
from waferline.workloads.huggingface import from_config
from waferline.workloads.model_file import model_from_facts
from waferline.workloads.models import catalog_model
from waferline.workloads.spec import ConvNet, ModelSpec, Transformer
from waferline.workloads.streams import StreamNet

_CONFIG = "config.json"
_DENOISER = "transformer/config.json"
_FILES = tuple(suffix for kind in FILE_KINDS for suffix in kind.suffixes)
_NETWORKS = (*ONNX.suffixes, *TFLITE.suffixes, *TORCH.suffixes)


def load_model(source: Any, *, input_shape: str | None = None, assume: str | None = None) -> ModelSpec:
    """The model that `source` names or holds.

    `source`: a catalogue name (`llama-3-8b`), the path of a Hugging Face `config.json` or of a directory with one, a
    `.gguf` file (any part of a split one) or a directory with one model in GGUF, a network as `.onnx`, `.tflite` or `.pt2`
    file or as a PyTorch module, a `.yaml` file in the catalogue's form, a configuration as a mapping, or a model (returned
    as it is). `input_shape`: sizes that a network leaves open, such as `1x3x224x224` or `pixels=1x3x224x224,mask=1x77`.
    `assume`: "llama-like" reads a configuration of an unknown `model_type` as a Llama.
    Raises: UnknownNameError, FileFormatError, InvalidInputError or UnsupportedError, each naming what and where.
    """
    is_path = isinstance(source, str | os.PathLike)
    if is_path and os.fspath(source).lower().endswith(_NETWORKS):
        return _from_network(Path(source), input_shape)
    if _is_module(source):
        return _network_reader(".pt2")(source, input_shape)
    if input_shape is not None:
        raise InvalidInputError(
            "input_shape would not be read: only networks from files leave the sizes of inputs open",
            hint=f"these are {', '.join(_NETWORKS)} files and PyTorch modules",
        )
    if isinstance(source, ModelSpec):
        if assume is not None:
            raise _unread()
        return source
    if isinstance(source, Mapping):
        return _from_mapping(source, "mapping", assume)
    if not is_path:
        raise InvalidInputError(f"a model is a name, a path or a mapping, not {type(source).__name__}")
    if not isinstance(source, str) or source.lower().endswith(_FILES) or _is_model_folder(source):
        return _from_path(Path(source), assume)
    if assume is not None:
        raise _unread()
    if is_gguf(Path(source)):  # Ollama's blobs are called by their hash
        return _from_gguf(Path(source))
    return _by_name(source)


def _unread() -> InvalidInputError:
    return InvalidInputError("assume would not be read: it is for configurations of an unknown model_type")


def _by_name(name: str) -> ModelSpec:
    """A catalogue model, or one of its variants: a repository's name that says a format."""
    try:
        return catalog_model(name)
    except UnknownNameError:
        from waferline.workloads.variants import variant  # for names that the catalogue does not have alone

        found = variant(name)
        if found is None:
            raise
        return found


def _from_network(path: Path, input_shape: str | None) -> ModelSpec:
    if path.exists() and not path.is_file():
        raise FileFormatError("cannot be read: not a regular file", where=str(path))
    return _network_reader(path.suffix.lower())(path, input_shape)


def _network_reader(suffix: str) -> Callable[[Any, str | None], ConvNet]:
    """What reads networks of this ending, imported when one is asked for: most questions are about a catalogue model."""
    kind = {".onnx": "onnx", ".tflite": "tflite", ".pt2": "torch"}[suffix]
    reader = import_module(f"waferline.workloads.networks.{kind}_model")
    return getattr(reader, f"from_{kind}")


def _is_module(source: object) -> bool:
    """Whether `source` is a PyTorch module or an exported program, told without importing PyTorch."""
    bases = {f"{c.__module__}.{c.__qualname__}" for c in type(source).__mro__}
    return bool(bases & {"torch.nn.modules.module.Module", "torch.export.exported_program.ExportedProgram"})


def _is_model_folder(text: str) -> bool:
    """A directory is meant when it holds a model, or when the text cannot be a bare name."""
    if not text.strip() or not os.path.isdir(text):  # noqa: PTH112  Path.is_dir raises for a name too long for a path
        return False
    return (
        Path(text, _CONFIG).is_file()
        or Path(text, _DENOISER).is_file()
        or len(Path(text).parts) > 1
        or holds_gguf(Path(text))
    )


def _from_path(path: Path, assume: str | None) -> ModelSpec:
    if os.path.isdir(path):  # noqa: PTH112
        inside = path / _CONFIG
        if not inside.is_file() and (path / _DENOISER).is_file():  # a diffusers pipeline
            inside = path / _DENOISER
        if not inside.is_file():
            if holds_gguf(path) and assume is None:
                return _from_gguf(path)
            raise FileFormatError(f"directory has no {_CONFIG}", where=str(path))
        return _named(_with_second(_from_folder(inside, assume), path), path.resolve().name)
    suffix = path.suffix.lower()
    if suffix in GGUF.suffixes or is_gguf(path):
        if assume is not None:
            raise _unread()
        if path.exists() and not path.is_file():
            raise FileFormatError("cannot be read: not a regular file", where=str(path))
        return _from_gguf(path)
    if suffix not in _FILES:
        raise FileFormatError(
            "not a model file", where=str(path), hint=f"config.json, a directory, {', '.join(_FILES[1:])}"
        )
    if path.name == _CONFIG:
        return _named(_from_folder(path, assume), _folder(path.resolve()).name or path.stem)
    return _named(_from_mapping(_mapping(path), str(path), assume), path.stem)


def _with_second(spec: ModelSpec, folder: Path) -> ModelSpec:
    """Wan 2.2 keeps two transformers of one size and takes them one after the other: the second is said not to be counted."""
    if not isinstance(spec, StreamNet) or not (folder / "transformer_2").is_dir():
        return spec
    said = f"a second transformer, which takes over for part of the steps; {spec.metadata.get('not_counted', '')}"
    return replace(spec, metadata={**spec.metadata, "not_counted": said})


def _folder(config: Path) -> Path:
    """The folder that a configuration names its model by: of the whole pipeline, where it is a diffusion transformer's."""
    return config.parent.parent if config.match(_DENOISER) else config.parent


def _from_gguf(path: Path) -> ModelSpec:
    from waferline.workloads.gguf.model import from_gguf  # the gguf package takes a while to import

    return from_gguf(path)


def _from_folder(config: Path, assume: str | None) -> ModelSpec:
    """A configuration, with what lies beside it."""
    from waferline.workloads.beside import with_section, with_stored_sizes  # NumPy, for files of users alone

    data, folder = _mapping(config), config.parent
    spec = _from_mapping(with_section(data, folder), str(config), assume)
    return with_stored_sizes(spec, folder) if isinstance(spec, Transformer) else spec


def _mapping(path: Path) -> Mapping[str, Any]:
    data = read_file(path)
    if not isinstance(data, Mapping):
        raise FileFormatError(f"expected a mapping, found {type(data).__name__}", where=str(path))
    return data


def _named(spec: ModelSpec, fallback: str) -> ModelSpec:
    """A model without a name of its own takes that of its file or directory."""
    return spec if spec.name else replace(spec, name=slug(fallback) or "model", title=fallback)


def _from_mapping(data: Mapping[str, Any], where: str, assume: str | None = None) -> ModelSpec:
    """A configuration, or a model in the catalogue's own form (told apart by its keys)."""
    if {"config", "transformer", "convnet", "learner"} & data.keys() and not {
        "model_type",
        "_class_name",
    } & data.keys():
        if assume is not None:
            raise _unread()
        from waferline.workloads.model_schema import check_model  # pydantic, for files of users alone

        check_model(data, where)
        return model_from_facts(data, where)
    name = data.get("_name_or_path")
    base = name.rstrip("/").rsplit("/", 1)[-1] if isinstance(name, str) else ""
    return from_config(data, slug(base), where, assume)
