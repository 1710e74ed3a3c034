"""What a benchmark's rules say of its rows and the rows do not: `data/benchmarks.yaml`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from waferline.catalog.yaml_file import read_file
from waferline.evidence.rows import Row


@dataclass(frozen=True, slots=True)
class Text:
    """Mean tokens of the prompts and answers of a data set, each answer searched with so many beams.

    at_once: sequences that run on average where the whole set would run at once, until its longest answer ends.
    """

    named: str
    prompt: float
    output: float
    beams: int = 1
    at_once: float = float("inf")


@dataclass(frozen=True, slots=True)
class Limit:
    """Seconds that a scenario allows: for a token after the first, for a whole request."""

    named: str
    tpot_s: float = float("inf")
    request_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Training:
    """How a benchmark trains: tokens of a sequence (`used`: without its padding), what has gradients, what a run needs.

    samples: to the target quality, by global batch.
    """

    length: float = 0.0
    used: float = 0.0
    trains: str = "weights"
    samples: Mapping[int, float] = field(default_factory=dict)

    def to_converge(self, batch: float) -> float | None:
        """Samples of a run at a global batch: between two batches along the logarithm, beyond them those of the last one."""
        if not self.samples:
            return None
        batches = sorted(self.samples)
        return float(np.interp(math.log(batch), np.log(batches), [self.samples[b] for b in batches]))


@cache
def _rules() -> Mapping[str, Any]:
    return read_file(Path(__file__).parent / "data" / "benchmarks.yaml")


def _found(row: Row, section: str) -> dict[str, Any] | None:
    for rule in _rules()[section]:
        if rule["named"] in row.notes and rule.get("model", "") in row.model:
            return {key: value for key, value in rule.items() if key not in ("model", "source")}
    return None


def text(row: Row) -> Text | None:
    """The texts that the row's benchmark feeds a model; None where it names none that is known."""
    found = _found(row, "texts")
    return None if found is None else Text(**found)


def in_step(row: Row) -> bool:
    """Whether the requests of a closed load stay in step: all of exactly the same lengths, before an engine that reads prompts
    first, so that they end together and the next ones come all at once (`simulate serving` tells the same of such a load)."""
    return any(place in row.locator for rule in _rules()["in_step"] for place in rule["places"])


def metric(row: Row) -> str:
    """What the row's value is, which a table's heading may have called another thing."""
    for rule in _rules()["metrics"]:
        fits = rule["named"] in row.notes and rule["model"] in row.model and row.source.startswith(rule["source"])
        if fits and row.metric == rule["metric"]:
            return str(rule["is"])
    return row.metric


def limit(row: Row) -> Limit | None:
    """The latency that the row's scenario allows while requests come as fast as it holds; None for another scenario."""
    found = _found(row, "limits")
    return None if found is None else Limit(**found)


def training(row: Row) -> Training:
    """How the row's benchmark trains; nothing that is known for another."""
    for rule in _rules()["training"]:
        if row.source.startswith(rule["source"]) and rule["model"] in row.model:
            epochs = {batch: n * rule["epoch"] for batch, n in rule.get("epochs", {}).items()}
            return Training(
                float(rule.get("length", 0.0)),
                float(rule.get("used", 0.0)),
                rule.get("trains", "weights"),
                rule.get("samples", epochs),
            )
    return Training()
