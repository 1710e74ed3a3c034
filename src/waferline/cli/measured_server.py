"""What `waferline measure server` needs beside the client: loads from options, guidellm files, and predict's answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waferline.measure.server import Load

_REQUESTS_EACH, _FEWEST = 8, 16  # a stream's requests, and a load's


def loads_of(concurrency: str, rate: str | None, requests: int | None) -> list[Load]:
    """One load for each number of a comma-separated option. Raises: InvalidInputError for what is no number."""
    from waferline.measure.server import Load

    if rate is not None:
        return [Load(requests or max(_FEWEST, int(30 * r)), rate_per_s=r) for r in _numbers("rate", rate, float)]
    streams = _numbers("concurrency", concurrency, int)
    return [Load(requests or max(_FEWEST, _REQUESTS_EACH * n), concurrency=n) for n in streams]


def _numbers(name: str, text: str, kind: Any) -> list[Any]:
    from waferline.errors import InvalidInputError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInputError(f"'{text}'", where=name, hint="numbers such as 1,4,16") from None


def guidellm_data(path: str) -> dict[str, Any]:
    """A guidellm file in the shape of our own results."""
    from waferline.measure.server.guidellm import read_guidellm

    records: list[dict[str, Any]] = [
        {"name": _load_name(s["load"]), "summary": s, "conditions": {"warnings": []}, "predicted": None}
        for s in read_guidellm(Path(path))
    ]
    return {"url": path, "results": records}


def _load_name(load: Mapping[str, Any]) -> str:
    if load["concurrency"]:
        return f"guidellm, concurrency {load['concurrency']}"
    return f"guidellm, {load['strategy']}" + (f" {load['rate_per_s']:g}/s" if load["rate_per_s"] else "")


def predicted_serving(
    model: str, on: str | None, precision: str | None, record: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Predict's TTFT, TPOT and throughput for a closed loop; None for an open one, whose batch nobody knows."""
    from waferline.cli.measured import known_machine
    from waferline.predict.scenario import Scenario, run

    subject = record["detail"]["evidence"]
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
