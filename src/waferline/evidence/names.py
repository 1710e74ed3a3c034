"""Published names as catalogue names: models, machines, engines, formats; or a refusal that names the unknown one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.errors import UnknownNameError, WaferlineError
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row
from waferline.formats import get_format
from waferline.machines.hardware import assumed_variant, load_hardware
from waferline.predict.engine import default_engine, get_engine
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec

_DATA = Path(__file__).parent / "data"


@cache
def names() -> Mapping[str, Any]:
    """The tables of `data/names.yaml`."""
    return read_file(_DATA / "names.yaml")


@cache
def _published_models() -> Mapping[str, Any]:
    """Models of published tables that no catalogue needs, as configurations: `data/models.yaml`."""
    return read_file(_DATA / "models.yaml")["models"]


@cache
def model_spec(name: str) -> ModelSpec | Refusal:
    """The structure of a published model."""
    known = _published_models().get(name)
    try:
        if known is not None:
            return load_model({**known["config"], "_name_or_path": name})
        return load_model(names()["models"].get(name, name))
    except UnknownNameError:
        return Refusal("model", f"the model '{name}' is not in the catalogue")
    except WaferlineError as error:
        return Refusal("model", f"the model '{name}': {error}")


@cache
def hardware_name(slug: str) -> tuple[str, str] | Refusal:
    """(catalogue name, what was assumed) of a published machine."""
    try:
        device = load_hardware(slug)
    except UnknownNameError:
        return Refusal("hardware", f"the machine '{slug}' is not in the catalogue")
    variant = assumed_variant(slug)
    return device.name, f"the source does not say which {slug}: {variant}" if variant else ""


def engine_name(row: Row, hardware: str) -> tuple[str, str]:
    """(engine profile, what was assumed) of the engine a row names."""
    key = row.engine.lower()
    table: Mapping[str, str] = names()["engines"]
    found = table.get(key) or next((v for k, v in table.items() if key.startswith(k)), None)
    if found is None:
        profile = default_engine(load_hardware(hardware)).name
        return profile, f"engine '{row.engine or 'not stated'}' taken as {profile}"
    said = f"engine {row.engine} taken as {found}" if key in names()["approximate"] else ""
    older: Mapping[str, str] = next(
        (t for source, t in names()["older_engines"].items() if row.source.startswith(source)), {}
    )
    return get_engine(older.get(found, found), row.engine_version).name, said


def precision_of(row: Row, engine: str) -> tuple[str, str | None, str] | Refusal:
    """(precision, KV format, what was assumed) of a row's formats."""
    unknown = names()["unknown_formats"]
    if not row.weight_format or row.weight_format in unknown:
        return Refusal("format", f"weight format {row.weight_format or 'not stated'}")
    pair = names()["formats"].get(row.weight_format, {"weights": row.weight_format})
    weights, activations = pair["weights"], row.activation_format or pair.get("activations", "")
    if "gemm=fp8_block" in row.notes:
        weights = "fp8_block"
    own = names()["engine_formats"].get(engine, {}).get(weights)
    try:
        weights = get_format(own or weights).name
        parts = [f"w={weights}"] + ([f"head={weights}"] if own else [])
        if activations:
            parts.append(f"a={get_format(activations).name}")
    except UnknownNameError as error:
        return Refusal("format", str(error))
    assumed = "" if activations else "activations in the usual format for these weights"
    return ",".join(parts), *_kv(row, weights, engine, assumed)


def _kv(row: Row, weights: str, engine: str, assumed: str) -> tuple[str | None, str]:
    if row.kv_format:
        return get_format(row.kv_format).name, assumed
    taken = names()["kv_default"].get(engine, {}).get("fp8" if weights.startswith("fp8") else weights)
    said = f"KV cache in the engine's default, {taken or '16 bit'}"
    return taken, f"{assumed}; {said}" if assumed else said
