"""A claim as a record: model, machine, formats, sizes, and one metric with its value."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.evidence.claims.sheet import SHEET
from waferline.evidence.rows import Row
from waferline.machines.hardware import load_hardware
from waferline.predict.engine import default_engine

# Metrics a claim may name, with the unit people write: (SI unit, phase, metric of the published schema, per user).
PER_USER_RATE = "user_tokens_per_s"
METRICS: dict[str, tuple[str, str]] = {
    "output_tokens_per_s": ("decode", "1/s"),
    PER_USER_RATE: ("decode", "1/s"),
    "prompt_tokens_per_s": ("prefill", "1/s"),
    "total_tokens_per_s": ("generate", "1/s"),
    "ttft_s": ("prefill", "s"),
    "tpot_s": ("decode", "s"),
    "latency_s": ("generate", "s"),
    "samples_per_s": ("generate", "1/s"),
    "mfu": ("train", ""),
}
SHORT_CONTEXT_TOKENS = 128.0  # taken where no length is stated: the shorter, the kinder to the claim
SHORT_OUTPUT_TOKENS = 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed. Empty text and None are *not stated*; `text` is the clause it was read from.

    clients: `batch` counts users that are served, not sequences that are in memory at once.
    """

    text: str
    model: str = ""
    machine: str = ""
    metric: str = ""
    value: float = float("nan")
    devices: float = 1.0
    counted: bool = True  # false where a plural says that there are several machines and nothing how many
    precision: str = ""
    shipped: str = ""  # format that the checkpoint is published in, where that is not 16 bit: read where none is stated
    kv: str = ""
    batch: float | None = None
    clients: bool = False
    input_tokens: float | None = None
    output_tokens: float | None = None
    engine: str = ""
    tp: float | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What has to be stated before anything can be said."""
        told = {"model": "a model of the catalogue", "machine": "a machine of the catalogue", "metric": "a figure"}
        if self.metric in SHEET:  # of the machine alone
            told = {"machine": told["machine"]}
        return tuple(text for name, text in told.items() if not getattr(self, name))

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the claim does not state and is taken in its favour."""
        said = []
        if self.batch is None and self.metric in _ALONE:
            said.append("batch not stated: taken as 1")
        if self.input_tokens is None and self.metric != "mfu":
            said.append(f"context not stated: taken as {SHORT_CONTEXT_TOKENS:.0f} tokens")
        if not self.counted:
            said.append(f"number of devices not stated: taken as {self.devices:.0f}")
        if not self.engine:
            said.append(f"engine not stated: taken as {default_engine(load_hardware(self.machine)).name}")
        if not self.precision:
            said.append(f"number format not stated: taken as {self.shipped or '16 bit'}")
        return tuple(said)

    def row(self) -> Row:
        """The claim in the published schema, so that it is asked the way measurements are."""
        phase = METRICS[self.metric][0]
        batch = 1.0 if self.batch is None and self.metric in _ALONE else self.batch
        if (self.clients or batch is None) and self.metric != "mfu":
            phase = "serve"
        alone = self.metric == PER_USER_RATE
        weights, _, activations = (self.precision or self.shipped).partition(",a=")
        outputs = self.output_tokens
        return Row(
            id="claim",
            hardware=self.machine,
            model=self.model,
            phase=phase,
            metric="tpot_s" if alone else self.metric,
            value=1.0 / self.value if alone else self.value,
            devices=self.devices,
            weight_format=weights.removeprefix("w=") or "fp16",
            activation_format=activations,
            kv_format=self.kv,
            batch=batch,
            input_tokens=SHORT_CONTEXT_TOKENS if self.input_tokens is None else self.input_tokens,
            output_tokens=_default_outputs(phase) if outputs is None else outputs,
            tp=self.devices if self.tp is None else self.tp,
            pp=1.0,
            ep=1.0,
            dp=self.devices / self.tp if self.tp else 1.0,
            engine=self.engine,
            notes="max load" if batch is None else "",
        )


_ALONE = frozenset({PER_USER_RATE, "ttft_s", "tpot_s", "latency_s"})  # a single user where no batch is stated


def _default_outputs(phase: str) -> float:
    return {"prefill": 0.0, "decode": 1.0}.get(phase, SHORT_OUTPUT_TOKENS)
