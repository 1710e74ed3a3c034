"""An engine measured on this machine: its own benchmark, and its constants fitted to predict's formula, kept by its name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waferline.errors import InvalidInputError, RefusedError
from waferline.evidence.side_by_side.machine import measure_this_machine
from waferline.machines.hardware import load_hardware
from waferline.measure.llama_bench import PROGRAM, Reading, llama_bench
from waferline.measure.machine_file import record_of, save_machine, this_machine_path
from waferline.predict.calibrate import Calibration, Observation, calibrate
from waferline.predict.chosen_precision import choose_precision
from waferline.predict.engine import get_engine
from waferline.workloads.load import load_model

MEASURED = "llama.cpp"  # the one engine whose own benchmark is known


def measure_engine(
    name: str,
    model: Path | None,
    also: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Run the engine's own benchmark on `model` and keep its constants in this machine's file, beside those of others.

    The machine's roofs are measured first where they never were. Raises: RefusedError, UnknownNameError, FileFormatError.
    """
    engine = get_engine(name)
    if engine.name != MEASURED:
        raise RefusedError(f"no benchmark of {engine.title} is known here", hint=f"engines: {MEASURED}")
    if model is None:
        raise InvalidInputError(f"which model shall {engine.title} run?", hint="name a GGUF file with --model")
    spec = load_model(str(model))
    readings, build = llama_bench(model, progress)
    path = this_machine_path()
    if not path.exists():
        measure_this_machine(0.0, progress=progress)
    record = record_of(path)
    others = {key: value for key, value in record.get("engines", {}).items() if key != engine.name}
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "machine.yaml"
        save_machine({**record, "engines": others}, bare)  # constants start from the catalogue's, not from the last fit
        progress("constants")
        precision = str(choose_precision(spec, load_hardware(str(bare)), None)[0])
        found = calibrate([_observation(r, str(model), str(bare), precision) for r in readings])
    profile, source = found.profile, f"{PROGRAM}, {build}, on {spec.title}, {readings[0].threads} threads"
    own = {
        "source": source,
        "constants": dict(profile.constants),
        "residual": {key: list(q) for key, q in profile.residual.items()},
        "card": dict(profile.card),
    }
    places = [path, *also]
    for place in places:
        save_machine({**record, "engines": {**others, engine.name: own}}, place)
    return _data(found, readings, source, places)


def _observation(r: Reading, model: str, machine: str, precision: str) -> Observation:
    metric = "prompt_tokens_per_s" if r.prompt else "decoded_tokens_per_s"
    return Observation(
        model=model,
        hardware=machine,
        engine=MEASURED,
        precision=precision,
        metric=metric,
        value=r.tokens_per_s,
        batch=1.0,
        input_tokens=float(r.prompt or max(r.depth, 1)),
        output_tokens=float(r.output),
    )


def _data(found: Calibration, readings: Sequence[Reading], source: str, places: Sequence[Path]) -> dict[str, Any]:
    return {
        "engine": found.profile.engine,
        "machine": found.profile.hardware,
        "source": source,
        "readings": [r.to_json() for r in readings],
        "constants": dict(found.profile.constants),
        "split": found.split,
        "errors": {name: getattr(found, name) for name in ("before", "after", "held_out")},
        "saved": [str(place) for place in places],
    }
