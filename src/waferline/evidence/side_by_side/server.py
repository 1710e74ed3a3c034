"""A server's figures beside predict's, and guidellm's figures in the shape of our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waferline.evidence.side_by_side.known import known_machine
from waferline.measure.server.guidellm import read_guidellm
from waferline.measure.server.run import ServerResult
from waferline.predict.run import run
from waferline.predict.scenario import Scenario


def guidellm_data(path: str) -> dict[str, Any]:
    """A guidellm file in the shape of our own results. Raises: FileFormatError."""
    records: list[dict[str, Any]] = [
        {"name": _load_name(s["load"]), "summary": s, "conditions": {"warnings": []}, "predicted": None}
        for s in read_guidellm(Path(path))
    ]
    return {"url": path, "results": records}


def _load_name(load: Mapping[str, Any]) -> str:
    if load["concurrency"]:
        return f"guidellm, concurrency {load['concurrency']}"
    return f"guidellm, {load['strategy']}" + (f" {load['rate_per_s']:g}/s" if load["rate_per_s"] else "")


def server_beside(result: ServerResult, model: str | None, on: str | None, precision: str | None) -> dict[str, Any]:
    """A load's record, with what predict says of `model` on the machine `on` where a model is named."""
    record = result.to_json()
    told = _predicted(model, on, precision, record["detail"]["evidence"]) if model and result.engaged else None
    return {**record, "predicted": told}


def _predicted(
    model: str, on: str | None, precision: str | None, subject: Mapping[str, Any]
) -> dict[str, float] | None:
    """Predict's TTFT, TPOT and throughput for a closed loop; None for an open one, whose batch nobody knows."""
    if subject["batch"] is None:
        return None
    scenario = Scenario(
        model=model,
        machine=known_machine(on).device,
        precision=precision,
        batch=int(subject["batch"]),
        prompt=round(subject["input_tokens"]),
        output=int(subject["output_tokens"]),
    )
    result = run(scenario).result
    itl_s = float(result["itl_s"])
    return {
        "ttft_s": float(result["ttft_s"]),
        "itl_s": itl_s,
        "tpot_s": itl_s,
        "output_tokens_per_s": float(result["throughput_tokens_per_s"]),
    }
