"""Published names as catalogue names: models, machines, engines, formats; or a refusal that names the unknown one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from waferline.catalog.yaml_file import read_file
from waferline.errors import UnknownNameError, WaferlineError
from waferline.evidence.machines import machine
from waferline.evidence.networks import Form, network
from waferline.evidence.request import Refusal
from waferline.evidence.rows import REFERENCES, Row
from waferline.formats import get_format
from waferline.machines.hardware import assumed_variant
from waferline.predict.engine import default_engine, family_of, get_engine
from waferline.workloads.counts import parameter_count
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec, Transformer

_LAYOUT = re.compile(r"(_r[48]|_x[48]|_[48]_[48])$")  # rows interleaved for the matrix kernel: the same bits
_INTERLEAVES = re.compile(r"PR \d|repack on")  # builds of CPU kernels that a row sets against those before them
_SIZES = re.compile(r"(?P<model>.+?)-(?P<total>\d+(?:\.\d+)?)b(?:-a(?P<active>\d+(?:\.\d+)?)b)?")
_ROUNDED = 0.06  # how far a size in a name may lie from the count: makers leave a prediction layer out or embeddings
_UNSTATED = ("", "unstated")
_COUNTED = "counted:"
MASKED = "masked:"  # an encoder with the head that scores its vocabulary at every token
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
    """The structure of a published model. `counted:` names one by its counts, with the size and the passes of a row; `masked:`
    an encoder that fills masked words."""
    if name in _UNSTATED:
        return Refusal("model", "the row does not say which model")
    if name.startswith(_COUNTED):
        called, size, steps, form = name.removeprefix(_COUNTED).split(":")
        net = network(called, size=int(size), steps=float(steps), form=cast(Form, form))
        return net or Refusal("model", f"the model '{called}' is not in the catalogue")
    if name.startswith(MASKED):
        model = model_spec(name.removeprefix(MASKED))
        return replace(model, has_head=True) if isinstance(model, Transformer) else model
    known = _published_models().get(_called(name))
    try:
        if known is not None:
            return load_model({**known["config"], "_name_or_path": name})
        return load_model(_called(name))
    except UnknownNameError:
        return Refusal("model", f"the model '{name}' is not in the catalogue")
    except WaferlineError as error:
        return Refusal("model", f"the model '{name}': {error}")


def counted_name(name: str, *, size: int, steps: float, form: Form) -> str:
    """What `model_spec` takes for a network by its counts."""
    return f"{_COUNTED}{name}:{size}:{steps:g}:{form}"


def _called(name: str) -> str:
    """The catalogue's name of a published one: itself, or the first rule of `model_rules` whose words are all in it."""
    table: Mapping[str, str] = names()["models"]
    if name in table:
        return table[name]
    try:
        load_model(name)
    except WaferlineError:
        for words, meant in names()["model_rules"].items():
            if all(word in name for word in words.split()):
                return str(meant)
        return _without_size(name)
    return name


def _without_size(name: str) -> str:
    """A name that says the sizes of a model beside the catalogue's name for it, as that one: where the sizes are its own."""
    said = _SIZES.fullmatch(name)
    try:
        model = load_model(said["model"]) if said else None
    except WaferlineError:
        return name
    if said is None or not isinstance(model, Transformer):
        return name
    count = parameter_count(model)
    sizes = ((said["total"], count.total), (said["active"], count.active_per_token))
    agree = all(text is None or abs(own / (float(text) * 1e9) - 1.0) < _ROUNDED for text, own in sizes)
    return str(said["model"]) if agree else name


@cache
def hardware_name(slug: str, source: str = "") -> tuple[str, str] | Refusal:
    """(catalogue name, what was assumed) of a published machine; source: who published it, where that may tell its variant."""
    if slug in _UNSTATED or "unnamed" in slug:
        return Refusal("hardware", "the row does not say which machine it ran on")
    owned = next((v for s, v in names()["variants"].items() if source.startswith(s) and slug in v), None)
    if owned is not None:
        return owned[slug], f"the source does not say which {slug}: {owned[slug]}, as its laboratory has"
    try:
        device = machine(slug)
    except UnknownNameError:
        return Refusal("hardware", f"the machine '{slug}' is not in the catalogue")
    variant = assumed_variant(slug)
    return device.name, f"the source does not say which {slug}: {variant}" if variant else ""


def engine_name(row: Row, hardware: str, *, one_pass: bool = False) -> tuple[str, str]:
    """(engine profile, what was assumed) of the engine a row names; `one_pass`: for a network that generates no tokens."""
    key = row.engine.lower()
    table: Mapping[str, str] = names()["engines"]
    found = table.get(key) or next((v for k, v in table.items() if key.startswith(k)), None)
    found = _of_column(row) or found
    if found is None:
        usual = default_engine(machine(hardware))
        profile = "static" if one_pass and usual.step_s else usual.name  # a compiled program has no host in its loop
        return profile, f"engine '{row.engine or 'not stated'}' taken as {profile}"
    found = names()["compiled_on"].get(family_of(machine(hardware)), {}).get(found, found)
    said = f"engine {row.engine} taken as {found}" if key in names()["approximate"] else ""
    on_cpu = machine(hardware).kind == "cpu"
    if on_cpu and row.source.startswith("MLPerf") and not key.startswith(REFERENCES):
        found = names()["submitted_on_cpus"].get(found, found)
    if one_pass:
        return get_engine(found).one_pass or found, said
    on_cores = on_cpu and _INTERLEAVES.match(row.engine_version) is not None
    if _LAYOUT.search(row.weight_format) or "rtr=1" in row.notes or on_cores:
        found = names()["repacked"].get(found, found)
    older: Mapping[str, str] = next(
        (t for source, t in names()["older_engines"].items() if row.source.startswith(source)), {}
    )
    return get_engine(older.get(found, found), row.engine_version).name, said


def _of_column(row: Row) -> str | None:
    """The engine of the column of a comparison that a row stands in, where it is another than the table's own."""
    column = row.locator.rsplit(", ", 1)[-1]
    rules: Mapping[str, Mapping[str, str]] = names()["columns"]
    mine = next((columns for source, columns in rules.items() if row.source.startswith(source)), {})
    return next((engine for name, engine in mine.items() if column.startswith(name)), None)


def precision_of(row: Row, engine: str) -> tuple[str, str | None, str] | Refusal:
    """(precision, KV format, what was assumed) of a row's formats."""
    stated, usual = row.weight_format, ""
    if not stated or stated in names()["unknown_formats"]:
        stated = usual_format(row)
        if not stated:
            return Refusal("format", f"weight format {row.weight_format or 'not stated'}")
        usual = f"weight format not stated: taken as {stated}"
    pair = names()["formats"].get(stated, {"weights": stated})
    weights, activations = pair["weights"], row.activation_format or pair.get("activations", "")
    if activations and engine in names()["cast_ahead"]:
        weights = activations
    calibrated = names()["calibrated"]
    if not activations and weights in calibrated["formats"] and (engine in calibrated["engines"] or _counts_alone(row)):
        activations = weights
    if "gemm=fp8_block" in row.notes:
        weights = "fp8_block"
    own = names()["engine_formats"].get(engine, {}).get(weights)
    try:
        weights = get_format(own or _plain(weights)).name
        parts = [f"w={weights}"] + ([f"head={weights}"] if own else [])
        if activations:
            parts.append(f"a={get_format(activations).name}")
        assumed = usual or ("" if activations else "activations in the usual format for these weights")
        return ",".join(parts), *_kv(row, weights, engine, assumed)
    except UnknownNameError as error:
        return Refusal("format", str(error))


def _counts_alone(row: Row) -> bool:
    """Whether activations are whole numbers where weights are: on accelerators that compute in nothing else, and on
    microcontrollers, whose runtimes take quantised networks alone (TensorFlow Lite Micro, CMSIS-NN)."""
    found = hardware_name(row.hardware)
    device = None if isinstance(found, Refusal) else machine(found[0])
    if device is None or device.kind not in ("npu", "mcu"):
        return False
    return device.kind == "mcu" or all(name.startswith("int") for name in device.peak_flops)


def _plain(name: str) -> str:
    """A block format without how its rows are laid out (`q4_k_r4`), and a mixture as the format that leads it."""
    leading = name.split(" mix")[0].strip()
    return _LAYOUT.sub("", leading)


def usual_format(row: Row) -> str:
    """The format that a program takes by itself, by the first rule of `usual_formats` that the row fits; "" without one."""
    for rule in names()["usual_formats"]:
        fits = (
            row.engine.lower().startswith(rule.get("engine", ""))
            and any(word in row.model for word in rule.get("models", (rule.get("model", ""),)))
            and rule.get("source", "") in row.source
            and rule.get("named", "") in row.notes
            and any(word in row.hardware for word in rule.get("machines", ("",)))
        )
        if fits:
            return str(rule["format"])
    return ""


def _kv(row: Row, weights: str, engine: str, assumed: str) -> tuple[str | None, str]:
    if row.kv_format:
        pair = names()["formats"].get(row.kv_format.lower(), {"weights": row.kv_format})
        return get_format(pair["weights"]).name, assumed
    taken = names()["kv_default"].get(engine, {}).get("fp8" if weights.startswith("fp8") else weights)
    said = f"KV cache in the engine's default, {taken or '16 bit'}"
    return taken, f"{assumed}; {said}" if assumed else said
