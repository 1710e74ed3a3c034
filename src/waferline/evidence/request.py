"""What a published row asks of a prediction model, or why it cannot be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from waferline.evidence.machines import machine
from waferline.machines.device import Device

Door = Literal["serving", "training", "single", "simulated", "wafer"]
SIMULATED: Door = "simulated"
Load = Literal["static", "closed", "burst", "full"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No prediction is made: `reason` is one line, `kind` groups reasons in summaries."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One row as a question. Text fields that agree are asked together, in one vectorised call.

    load: `static` (a batch and nothing else), `closed` (`batch` clients that send a request when theirs is done) or
    `full` (every request queued: the batch is what memory allows, `batch` is a limit or infinite).
    answer: name of the reader that turns predicted times into the row's metric.
    assumed: what the row does not state and is taken by default, one line each. guesses: the kinds among them that widen the
    interval (`data/guesses.yaml`).
    """

    door: Door
    model: str
    hardware: str
    precision: str
    answer: str
    engine: str
    kv: str | None = None
    load: Load = "static"
    variant: str = ""  # training: recomputation; single node: phase; wafer: its grid of cores
    sharding: str = ""
    trains: str = ""  # weights, or adapters
    passes: float = 1.0  # optimizer steps of what was timed
    inputs: float = 0.0  # that a rate counts in a batch of a network; 0: as many as the batch has samples
    batch: float = 1.0
    input_tokens: float = 1.0
    output_tokens: float = 0.0
    micro_batch: float = 1.0
    virtual_stages: float = 1.0
    slices: float = 1.0
    context_parallel: float = 1.0  # devices that share one sequence; the model is asked for the devices of one
    tp: float = 1.0
    pp: float = 1.0
    ep: float = 1.0
    dp: float = 1.0
    beams: int = 1  # of a search that generates each answer
    steps: int = 0  # of a diffusion model
    image_size: str = ""
    run: tuple[tuple[str, str], ...] = ()  # cells of the serving run that is simulated
    either_way: float = 1.0  # factor that what is assumed of it leaves open
    threads: int = 0  # of a CPU that work; 0: all
    sockets: int = 1  # of a CPU that work as one machine
    assumed: tuple[str, ...] = field(default=())
    guesses: tuple[str, ...] = field(default=())

    def with_sizes(self, sizes: Mapping[str, float]) -> Request:
        """The same question with these numbers."""
        changes: dict[str, Any] = dict(sizes)
        return replace(self, **changes)

    @property
    def group(self) -> tuple[str, ...]:
        """Everything that one call of a model holds fixed."""
        kv = self.kv or ""
        return (
            self.door,
            self.model,
            self.hardware,
            self.precision,
            kv,
            self.engine,
            self.load,
            self.variant,
            f"{self.sharding} {self.trains}",
            f"{self.threads} {self.sockets} {self.steps} {self.image_size} {self.beams}",
            *(f"{name}={text}" for name, text in self.run),
        )

    @property
    def machine(self) -> Device:
        """The machine at work. Raises: UnknownNameError."""
        return machine(self.hardware, self.threads, self.sockets)

    @property
    def devices(self) -> float:
        return self.tp * self.pp * self.dp * self.context_parallel
