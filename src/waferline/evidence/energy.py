"""Published energy and power: each row predicted from the power of its phases, or refused with a reason.

A row is one value of one metric; rows of one run (`run_id`) share a served steady state, whose load is its concurrency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from waferline.catalog.table_file import number_in, records_of
from waferline.errors import WaferlineError
from waferline.evidence import notes
from waferline.evidence.names import engine_name, hardware_name, model_spec, precision_of
from waferline.evidence.outcome import Outcome
from waferline.evidence.report import Report
from waferline.evidence.request import Refusal
from waferline.evidence.rows import Row
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.power import energy_quantiles, idle_power_w, power_quantiles, served_energy_quantiles
from waferline.predict.result import Result
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.workloads.spec import Transformer
from waferline.workloads.streams import StreamNet

MARKS = ("metric", "machine", "scope", "concurrency")  # columns that tell such a file from others
_ASSUMED_OUTPUT = 500  # tokens, where a row does not state them
_WHOLE = ("board", "wall", "system", "node", "chassis")  # what else the meter saw
_IN_TURN = ("pytorch",)  # engines that place whole layers where nobody says otherwise (Accelerate's device_map)
_OF_SAMPLES = ("energy_j_per_image", "energy_j_per_video", "energy_j_per_sample")
_OF_LENGTHS = ("latency_s", "energy_j_per_request", "energy_j_per_batch")
Cells = Mapping[str, str]


def read_energy(path: str | Path) -> list[Cells]:
    """The rows of a `.csv` or `.csv.gz`. Raises: FileFormatError."""
    return [cells for _, cells in records_of(Path(path))]


def check_energy(rows: Sequence[Cells], progress: Callable[[int], None] | None = None) -> Report:
    """Every row predicted or refused."""
    outcomes = []
    for cells in rows:
        outcomes.append(_outcome(cells))
        if progress is not None:
            progress(1)
    return Report(tuple(outcomes))


def row_of(cells: Cells) -> Row:
    value = number_in(cells, "value")
    return Row(
        id=cells.get("id") or "", hardware=cells.get("machine") or "", model=cells.get("model") or "",
        phase=cells.get("phase") or "", metric=cells.get("metric") or "", value=float("nan") if value is None else value,
        source=cells.get("source") or "", url=cells.get("url") or "", engine=cells.get("engine") or "",
        engine_version=cells.get("engine_version") or "", devices=number_in(cells, "devices"),
        weight_format=cells.get("precision") or "", suspect=cells.get("suspect") or "", notes=cells.get("notes") or "",
    )  # fmt: skip


def _outcome(cells: Cells) -> Outcome:
    row = row_of(cells)
    if np.isnan(row.value):
        return Outcome(row=row, refused="no value", refused_kind="cell")
    question = question_of(cells, row)
    if isinstance(question, Refusal):
        return Outcome(row=row, refused=question.reason, refused_kind=question.kind)
    scenario, told = question
    try:
        waiting = int(row.devices or 1) - int(scenario.tp * (scenario.dp or 1)) if scenario.tp else 0
        found = predicted(scenario, row.metric, row.phase, max(waiting, 0))
    except WaferlineError as error:
        return Outcome(row=row, refused=str(error), refused_kind="engine")
    if isinstance(found, Refusal):
        return Outcome(row=row, refused=found.reason, refused_kind=found.kind, assumed=told)
    value, low, high = found
    return Outcome(row=row, predicted=value, low90=low, high90=high, tier="predicted", assumed=told)


def question_of(cells: Cells, row: Row) -> tuple[Scenario, tuple[str, ...]] | Refusal:
    """What a row asks, and what was assumed of it."""
    scope = (cells.get("scope") or "").lower()
    if row.metric.startswith(("power", "energy")) and any(word in scope for word in _WHOLE):
        return Refusal("scope", f"the meter saw more than the devices: {scope}")
    spec = model_spec(row.model)
    if isinstance(spec, Refusal):
        return spec
    machine = hardware_name(row.hardware)
    if isinstance(machine, Refusal):
        return machine
    if isinstance(spec, StreamNet) and spec.steps:
        return _images_of(cells, row, spec, machine)
    if not isinstance(spec, Transformer) or not spec.has_head:
        return Refusal("model", f"{spec.name} generates no tokens: power of its passes is not held against rows")
    if row.metric in _OF_LENGTHS and row.phase not in ("prefill", "decode") and not cells.get("output"):
        return Refusal("lengths", "output length not stated")
    batch = number_in(cells, "batch") or number_in(cells, "concurrency")
    if batch is None:
        return Refusal("load", "neither batch nor concurrency is stated")
    engine, why = engine_name(row, machine[0])
    precision = precision_of(row, engine)
    if isinstance(precision, Refusal):
        return precision
    prompt, output = number_in(cells, "prompt"), number_in(cells, "output")
    told = [machine[1], why, precision[2]]
    work = notes.task(cells.get("notes") or "")
    images = notes.IMAGES.get(work) if any(t.kind == "image" for t in spec.towers) else None
    if prompt is None:
        prompt = notes.ASSUMED_PROMPT if images else notes.PROMPTS.get(work, notes.ASSUMED_PROMPT)
        told.append(f"prompts of {prompt} tokens" + (f" and {images} image" if images else ""))
    told += [f"outputs of {_ASSUMED_OUTPUT} tokens"] if output is None else []
    devices, dp = int(row.devices or 1), int(number_in(cells, "dp") or 1)
    tp = max(devices // dp, 1)
    in_turn = engine in _IN_TURN and not cells.get("tp")
    at_work: Device | str = machine[0]
    if in_turn and tp > 1:
        told.append(f"layers divided among {tp} devices, which work in turn")
        at_work, tp = _as_one(load_hardware(machine[0]), tp), 1
    ep = int(number_in(cells, "ep") or 1)
    scenario = Scenario(
        model=spec, machine=at_work, precision=precision[0], engine=engine, batch=max(round(batch), dp),
        prompt=round(prompt), output=round(output or _ASSUMED_OUTPUT), tp=tp, threads=notes.threads(row) or None,
        dp=dp if dp > 1 else None, ep=ep if 1 < ep <= tp * dp else None,
        load="closed" if "steady" in row.phase else None, images=images,
    )  # fmt: skip
    return scenario, tuple(text for text in told if text)


def _as_one(device: Device, count: int) -> Device:
    """Devices of which one works at a time: one, with the memory of all."""
    *caches, memory = device.memory
    return device.with_(memory=(*caches, replace(memory, capacity_bytes=memory.capacity_bytes * count)))


def _images_of(
    cells: Cells, row: Row, spec: StreamNet, machine: tuple[str, str]
) -> tuple[Scenario, tuple[str, ...]] | Refusal:
    """Images or videos of a diffusion model, whose rows all devices share."""
    said, batch = cells.get("notes") or "", number_in(cells, "batch")
    if batch is None:
        return Refusal("load", "batch not stated")
    engine, why = engine_name(row, machine[0], one_pass=True)
    precision = precision_of(row, engine)
    if isinstance(precision, Refusal):
        return precision
    scenario = Scenario(
        model=spec, machine=machine[0], precision=precision[0], engine=engine, batch=round(batch),
        devices=int(row.devices or 1), ring=notes.count("ring", said), image_size=notes.image_size(said) or None,
        frames=notes.count("frames", said) if spec.grid.frame_stride > 1 else None, steps=notes.count("steps", said),
    )  # fmt: skip
    return scenario, tuple(text for text in (machine[1], why, precision[2]) if text)


def predicted(scenario: Scenario, metric: str, phase: str, waiting: int = 0) -> tuple[float, float, float] | Refusal:
    """(expected, 5 %, 95 %) of the metric in SI units: time, power of all devices, or energy of a token, a request or a batch.

    waiting: devices that hold a part of the model and idle while another works.
    """
    r = run(scenario).result
    timed = metric.endswith("_per_s") or metric in ("latency_s", "tpot_s")
    if "decode_power_w" not in r and "power_w" not in r and not timed:
        return Refusal("machine", f"the power limit of {load_hardware(scenario.machine).name} is not known")
    if "latency_s" in r:
        return _of_pass(r, load_hardware(scenario.machine), metric)
    batch, output, loaded = float(scenario.batch), float(scenario.output), "loaded_ttft_s" in r
    prefill_s, decode_s = float(r["ttft_s"]), float(r["itl_s"]) * max(output - 1.0, 0.0)
    prefill_s, decode_s = (0.0 if phase == "decode" else prefill_s, 0.0 if phase == "prefill" else decode_s)
    device = load_hardware(scenario.machine)
    idle = waiting * (idle_power_w(device) or 0.0) if waiting else 0.0
    p, d = (
        idle + float(r[f"{part}_power_w"]) if "decode_power_w" in r else float("nan") for part in ("prefill", "decode")
    )
    power = (prefill_s * p + decode_s * d) / max(prefill_s + decode_s, 1e-12)
    rate = float(r["loaded_throughput_tokens_per_s"]) if loaded else batch * output / (prefill_s + decode_s)
    # How far times may be off, and with power, energy.
    token = "loaded_tpot" if loaded else "itl"
    of_time = [np.log(float(r[f"{token}_{end}_s"] / r[f"{token}_s"])) for end in ("low90", "high90")]
    of_power = power_quantiles(device.kind)
    of_energy = (served_energy_quantiles if loaded else energy_quantiles)(device.kind, of_time)
    values: dict[str, tuple[float, Sequence[Any]]] = {
        "power_w": (power, of_power),
        "power_mean_fraction_of_tdp": (
            power / (float(r["devices"]) + waiting) / (device.tdp_w or float("nan")),
            of_power,
        ),
        "power_peak_fraction_of_tdp": (
            max(p, d) / (float(r["devices"]) + waiting) / (device.tdp_w or float("nan")),
            of_power,
        ),
        "energy_j_per_output_token": (power / rate, of_energy),
        "energy_j_per_request": (power / rate * output, of_energy),
        "energy_j_per_batch": (power / rate * output * batch, of_energy),
        "energy_j_per_token": (power / rate * output / (output + float(scenario.prompt)), of_energy),
        "total_tokens_per_j": (
            rate * (output + float(scenario.prompt)) / output / power,
            [-of_energy[1], -of_energy[0]],
        ),
        "output_tokens_per_s": (rate, [-of_time[1], -of_time[0]]),
        "total_tokens_per_s": (rate * (output + float(scenario.prompt)) / output, [-of_time[1], -of_time[0]]),
        "decode_tokens_per_s": (batch / float(r[f"{token}_s"]), [-of_time[1], -of_time[0]]),
        "tpot_s": (float(r[f"{token}_s"]), of_time),
        "latency_s": (prefill_s + decode_s, of_time),
    }
    return _interval(values, metric)


def _of_pass(r: Result, device: Device, metric: str) -> tuple[float, float, float] | Refusal:
    """The same of a network of one pass, whose energy is of an image or a video."""
    of_time = [np.log(float(r[f"latency_{end}_s"] / r["latency_s"])) for end in ("low90", "high90")]
    of_power, of_energy = power_quantiles(device.kind), energy_quantiles(device.kind, of_time)
    values: dict[str, tuple[float, Sequence[Any]]] = {
        "power_w": (float(r["power_w"]), of_power),
        "latency_s": (float(r["latency_s"]), of_time),
        **{name: (float(r["energy_j_per_sample"]), of_energy) for name in _OF_SAMPLES},
    }
    return _interval(values, metric)


def _interval(values: Mapping[str, tuple[float, Sequence[Any]]], metric: str) -> tuple[float, float, float] | Refusal:
    if metric not in values:
        return Refusal("metric", f"no answer has {metric}")
    value, (low, high) = values[metric]
    return value, value * float(np.exp(low)), value * float(np.exp(high))
