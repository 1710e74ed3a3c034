"""The schedulers of serving engines, from `catalog/schedulers.yaml`, and their rules on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import UnsupportedError
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.simulate.serving.state import Rules

_UNLIMITED = 1e9  # sequences, where an engine has no limit: memory ends first
_USUAL = {"reserve": 0.0, "reserve_least": 0.0, "reserve_steps": 0.0, "reserve_tokens": 1e9, "watermark": 0.0}


@dataclass(frozen=True, slots=True)
class Client:
    """Seconds around a request that no step takes: before the queue, after the last token, and for each token."""

    before_s: float
    after_s: float
    token_s: float


@dataclass(frozen=True, slots=True)
class Scheduler:
    """How an engine fills its steps; `rules` as in `catalog/schedulers.yaml`."""

    engine: str
    rules: Mapping[str, Any]
    client: Client
    sources: tuple[Mapping[str, str], ...]

    @property
    def block(self) -> int:
        """Tokens of a block of the KV cache."""
        return int(self.rules["block"])

    @property
    def graphed(self) -> int:
        """Rows up to which prompts run inside graphs."""
        return int(self.rules.get("graphed", 0))

    @property
    def overlap(self) -> bool:
        """Whether the host time of sequences hides behind the step before."""
        return bool(self.rules.get("overlap", False))

    def on(self, engine: Engine, device: Device, *, sequences: int | None = None, tokens: int | None = None) -> Rules:
        """The rules on a device; `sequences` and `tokens` of a step where the user sets them."""
        limits = engine.limits(device)
        given = {name: self.rules.get(name, usual) for name, usual in _USUAL.items()}
        return Rules(
            max_sequences=int(min(limits.sequences, _UNLIMITED)) if sequences is None else sequences,
            max_tokens=int(limits.chunk_tokens) if tokens is None else tokens,
            mixed=bool(self.rules["mixed"]),
            chunked=bool(self.rules["chunked"]),
            decodes_first=bool(self.rules["decodes_first"]),
            evict_fewest=bool(self.rules.get("evict_fewest", False)),
            **{name: float(value) for name, value in given.items()},
        )


@cache
def _table() -> Mapping[str, Scheduler]:
    raw = read_packaged("schedulers.yaml")
    return {
        name: Scheduler(name, row["rules"], Client(**row["client"]), tuple(raw["sources"][s] for s in row["sources"]))
        for name, row in raw["schedulers"].items()
    }


def scheduler_of(engine: str) -> Scheduler:
    """Raises: UnsupportedError for an engine whose scheduler nobody wrote down."""
    if engine not in _table():
        raise UnsupportedError(
            f"the scheduler of engine {engine} is not known", hint="known: " + ", ".join(sorted(_table()))
        )
    return _table()[engine]
