"""The schedulers of serving engines, from `catalog/schedulers.yaml`, and their rules on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, UnsupportedError, unknown
from waferline.machines.device import Device
from waferline.predict.engine import Engine
from waferline.predict.versions import earlier
from waferline.simulate.serving.state import Rules
from waferline.workloads.step_tables import StepTables

_UNLIMITED = 1e9  # sequences, where an engine has no limit: memory ends first
_USUAL = {"reserve": 0.0, "reserve_least": 0.0, "reserve_steps": 0.0, "reserve_tokens": 1e9, "watermark": 0.0}
_FLAGS = ("evict_fewest", "wait_for_all")


@dataclass(frozen=True, slots=True)
class Client:
    """Seconds around a request that no step takes: before the queue, after the last token, and for each token."""

    before_s: float
    after_s: float
    token_s: float


@dataclass(frozen=True, slots=True)
class Scheduler:
    """How an engine fills its steps; `rules` as in `catalog/schedulers.yaml`. policy: the variant, by the engine's name."""

    engine: str
    policy: str
    rules: Mapping[str, Any]
    client: Client
    sources: tuple[Mapping[str, str], ...]
    drafting: Mapping[str, Any] = field(default_factory=dict)

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
        """Whether a step is filled while the one before runs."""
        return bool(self.rules.get("overlap", False))

    @property
    def pipelined(self) -> bool:
        """Whether stages of a pipeline work on steps of their own at once; else one step passes through all of them."""
        return bool(self.rules.get("pipelined", False))

    @property
    def front_s(self) -> float:
        """Work of the process in front of the engine, a request."""
        return float(self.rules.get("front_s", 0.0))

    @property
    def chunk_s(self) -> float:
        """The same, a token that is sent."""
        return float(self.rules.get("chunk_s", 0.0))

    def on_host(self, steps: StepTables, layers: float) -> StepTables:
        """Steps with what this engine's host adds to them: for each decode, and for each of `layers` where prompts are read."""
        launch = float(self.rules.get("layer_s", 0.0)) * layers * (np.arange(steps.rows_s.size) > 0)
        token_s = float(self.rules.get("token_in_loop_s", 0.0))
        return steps._replace(rows_s=steps.rows_s + launch, sequence_s=steps.sequence_s + token_s)

    def graphs(self, device: Device) -> tuple[int, ...] | None:
        """Decode batches that are captured as graphs; None for the usual ones."""
        rows = self.rules.get("graphs")
        if rows is None:
            return None
        most = next(r["most"] for r in rows["most"] if device.capacity_bytes < float(r.get("below_bytes", "inf")))
        sizes = [*rows["first"], *(s for a, b, step in rows["then"] for s in range(a, b, step))]
        return tuple(s for s in sizes if s <= most)

    def most_sequences(self, engine: Engine, device: Device, drafts: str | None) -> int:
        """Sequences that run at once when nobody says, with the technique `drafts` or none."""
        most = engine.limits(device).sequences
        return int(min(most, _UNLIMITED if drafts is None else self.drafting.get("sequences", _UNLIMITED)))

    def on(
        self,
        engine: Engine,
        device: Device,
        *,
        sequences: int | None = None,
        tokens: int | None = None,
        drafts: str | None = None,
    ) -> Rules:
        """The rules on a device; `sequences` and `tokens` of a step where the user sets them. drafts: the technique that does."""
        limits = engine.limits(device)
        given: dict[str, Any] = {name: float(self.rules.get(name, usual)) for name, usual in _USUAL.items()}
        given |= {name: bool(self.rules.get(name, False)) for name in _FLAGS}
        return Rules(
            max_sequences=self.most_sequences(engine, device, drafts) if sequences is None else sequences,
            max_tokens=int(limits.chunk_tokens) if tokens is None else tokens,
            mixed=bool(self.rules["mixed"]),
            chunked=bool(self.rules["chunked"]),
            decodes_first=bool(self.rules["decodes_first"]),
            ahead=self.overlap and (drafts is None or drafts in self.drafting.get("ahead", ())),
            pass_tokens=int(self.rules.get("pass_tokens", 1 << 60)),
            **given,
        )


@cache
def _table() -> Mapping[str, Mapping[str, Scheduler]]:
    """Engine → policy → its scheduler; the first is the usual one."""
    raw, found = read_packaged("schedulers.yaml"), {}
    for name, row in raw["schedulers"].items():
        sources = tuple(raw["sources"][s] for s in row["sources"])
        client = Client(**row["client"])
        variants = {row.get("policy", "usual"): {}, **row.get("policies", {})}
        found[name] = {
            policy: Scheduler(name, policy, row["rules"] | changes, client, sources, row.get("drafting", {}))
            for policy, changes in variants.items()
        }
    return found


def scheduler_of(engine: str, policy: str | None = None) -> Scheduler:
    """Raises: UnsupportedError for an engine without a scheduler; InvalidInputError, UnknownNameError for a policy."""
    if engine not in _table():
        raise UnsupportedError(
            f"the scheduler of engine {engine} is not known", hint="known: " + ", ".join(sorted(_table()))
        )
    variants = _table()[engine]
    if policy is None:
        return next(iter(variants.values()))
    if policy not in variants:
        if len(variants) == 1:
            raise InvalidInputError(f"policy '{policy}' would not be read: {engine} has one scheduler")
        raise unknown(f"policy of {engine}", policy, tuple(variants))
    return variants[policy]


def older_front_s(engine: str, version: str, model: str) -> float | None:
    """Work of the process in front of an older version of an engine, a request; None where it is the newest one's."""
    old = read_packaged("schedulers.yaml")["schedulers"].get(engine, {}).get("front_before")
    if (
        not version
        or old is None
        or not earlier(version, str(old["version"]))
        or model.startswith(tuple(old["but_for"]))
    ):
        return None
    return float(old["front_s"])
