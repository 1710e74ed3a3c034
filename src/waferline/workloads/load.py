"""One door for models: a catalogue name, a `config.json`, a directory with one, a GGUF or YAML file, a mapping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from waferline.catalog.names import slug
from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, InvalidInputError
from waferline.workloads.huggingface import from_config
from waferline.workloads.models import catalog_model
from waferline.workloads.spec import ConvNet, ModelSpec, Source, Transformer
from waferline.workloads.written import written_model

_CONFIG = "config.json"
_MAX_CONFIG_BYTES = 16 << 20  # the longest published configurations have some 100 kB
_FILES = (".json", ".gguf", ".yaml", ".yml")


def load_model(source: str | Path | Mapping[str, Any] | ModelSpec) -> ModelSpec:
    """The model that `source` names or holds.

    `source`: a catalogue name (`llama-3-8b`), the path of a Hugging Face `config.json` or of a directory with one, a
    `.gguf` file, a `.yaml` file in the catalogue's form, a configuration as a mapping, or a model (returned as it is).
    Raises: UnknownNameError, FileFormatError, InvalidInputError or UnsupportedError, each naming what and where.
    """
    if isinstance(source, Transformer | ConvNet):
        return source
    if isinstance(source, Mapping):
        return _from_mapping(source, "mapping")
    if not isinstance(source, str | Path):
        raise InvalidInputError(f"a model is a name, a path or a mapping, not {type(source).__name__}")
    path = Path(source)
    if isinstance(source, Path) or path.suffix.lower() in _FILES or _is_model_folder(path):
        return _from_path(path)
    return catalog_model(str(source))


def _is_model_folder(path: Path) -> bool:
    """A directory is meant when it holds a configuration, or when the text cannot be a bare name."""
    return path.is_dir() and ((path / _CONFIG).is_file() or len(path.parts) > 1)


def _from_path(path: Path) -> ModelSpec:
    if path.is_dir():
        inside = path / _CONFIG
        if not inside.is_file():
            raise FileFormatError(f"directory has no {_CONFIG}", where=str(path))
        return _named(_from_json(inside), path.resolve().name)
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        from waferline.workloads.gguf_model import from_gguf  # the gguf package takes a while to import

        return from_gguf(path)
    if suffix in (".yaml", ".yml"):
        data = read_file(path)
        if not isinstance(data, Mapping):
            raise FileFormatError("expected a mapping", where=str(path))
        return _named(_from_mapping(data, str(path)), path.stem)
    if suffix != ".json":
        raise FileFormatError("not a model file", where=str(path), hint="config.json, a directory, .gguf or .yaml")
    own = path.name == _CONFIG and path.resolve().parent.name
    return _named(_from_json(path), own or path.stem)


def _named(spec: ModelSpec, fallback: str) -> ModelSpec:
    """A model without a name of its own takes that of its file or directory."""
    return spec if spec.name else replace(spec, name=slug(fallback) or "model", title=fallback)


def _from_json(path: Path) -> ModelSpec:
    return _from_mapping(read_json(path), str(path))


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object from a file.

    Raises: FileFormatError when it cannot be read, is no JSON (with line and column) or no object.
    """
    where = str(path)
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise FileFormatError(f"longer than {_MAX_CONFIG_BYTES >> 20} MiB, not a configuration", where=where)
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError:
        raise FileFormatError("not UTF-8 text", where=where) from None
    except json.JSONDecodeError as error:
        text = f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise FileFormatError(text, where=where) from None
    except RecursionError:
        raise FileFormatError("malformed JSON: nested too deeply", where=where) from None
    if not isinstance(data, Mapping):
        raise FileFormatError(f"expected a JSON object, found {type(data).__name__}", where=where)
    return data


def _from_mapping(data: Mapping[str, Any], where: str) -> ModelSpec:
    """A configuration, or a model in the catalogue's own form (told apart by its keys)."""
    if {"config", "transformer", "convnet"} & data.keys() and "model_type" not in data:
        from waferline.workloads.model_schema import check_model  # pydantic, for files of users alone

        check_model(data, where)
        return model_from_facts(data, where)
    name = data.get("_name_or_path")
    base = name.rstrip("/").rsplit("/", 1)[-1] if isinstance(name, str) else ""
    return from_config(data, slug(base), where)


def model_from_facts(facts: Mapping[str, Any], where: str) -> ModelSpec:
    """The model of a catalogue file: a published configuration or layers written out, with names and sources."""
    spec = written_model(facts, where)
    if spec is None:
        spec = from_config(facts["config"], facts["name"], f"{where}: config")
    named: dict[str, Any] = {
        "name": facts["name"],
        "title": facts["title"],
        "family": facts.get("family") or spec.family,
        "aliases": tuple(facts.get("aliases") or ()),
        "sources": tuple(Source(s["title"], s["url"], str(s["date"])) for s in facts.get("sources", ())),
        "published_params": facts.get("published_params"),
        "metadata": dict(spec.metadata) | {k: str(v) for k, v in (facts.get("metadata") or {}).items()},
    }
    if isinstance(spec, ConvNet):
        return replace(spec, published_macs=facts.get("published_macs"), **named)
    return replace(spec, published_active_params=facts.get("published_active_params"), **named)
