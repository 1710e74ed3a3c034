"""A published row as a request to a prediction model, or the reason why it cannot be one. No row is dropped."""

from __future__ import annotations

import re
from collections.abc import Callable

from waferline.evidence import notes
from waferline.evidence.metrics import ANSWERS, ENERGY, TRAINING, is_predicted
from waferline.evidence.names import hardware_name, model_spec, names
from waferline.evidence.request import Refusal, Request
from waferline.evidence.rows import KINDS, PHASES, Row
from waferline.evidence.scenario_serving import serving_request
from waferline.evidence.scenario_single import counts_as_one_pass, network_training_request, single_request
from waferline.evidence.scenario_training import completed, training_request
from waferline.workloads.spec import Transformer

Check = Callable[[Row], Refusal | None]
_PREDICTED = frozenset({metric for _, metric in ANSWERS} | {*TRAINING, ENERGY})


def _kind(row: Row) -> Refusal | None:
    if completed(row) is not row:  # "expected performance" of scripts that say how it is obtained again
        return None
    return None if row.kind == KINDS[0] else Refusal("kind", f"a {row.kind} value, not a measurement")


def _speculative(row: Row) -> Refusal | None:
    said = "speculative" in row.suspect or "MTP" in row.suspect
    return Refusal("speculative decoding", "speculative decoding is not modelled") if said else None


def _quantity(row: Row) -> Refusal | None:
    """What papers print beside the times and rates of passes."""
    if row.metric in _PREDICTED:
        return None
    told = f"{row.metric} | {row.unit} | {row.operation}"
    other = next((rule["is"] for rule in names()["other_quantities"] if re.search(rule["of"], told)), None)
    return None if other is None else Refusal("metric", f"{row.metric}: {other}")


def _phase(row: Row) -> Refusal | None:
    if row.phase in PHASES:
        return None
    told = f"the phase '{row.phase}' is not predicted" if row.phase else f"{row.metric}: of which pass is not stated"
    return Refusal("phase", told)


def _metric(row: Row) -> Refusal | None:
    if is_predicted(row.phase, row.metric):
        return None
    return Refusal("metric", f"{row.metric} is not a predicted metric of {row.phase}")


def _devices(row: Row) -> Refusal | None:
    if not notes.disaggregated(row) and notes.with_devices(row)[0].devices is None:
        return Refusal("devices", "the number of devices is not stated")
    if "offload" in row.notes.lower() and "CPU offload=True" in row.notes:
        return Refusal("offload", "weights or optimizer state on the host are not modelled")
    return None


# In this order: the first reason is the one that is told.
CHECKS: tuple[Check, ...] = (_kind, _speculative, _quantity, _phase, _metric, _devices)


def _translates(row: Row, model: Transformer) -> bool:
    """Whether an encoder-decoder model was timed by the tokens that it generates."""
    return model.kind == "encoder-decoder" and row.metric == "output_tokens_per_s"


def request_of(row: Row) -> Request | Refusal:
    """What to ask for `row`. Text is resolved to catalogue names; numbers are taken as they are stated."""
    for check in CHECKS:
        refusal = check(row)
        if refusal is not None:
            return refusal
    hardware = hardware_name(row.hardware, row.source)
    if isinstance(hardware, Refusal):
        return hardware
    model = model_spec(row.model)
    if isinstance(model, Refusal):
        if not counts_as_one_pass(row):
            return model
        return (network_training_request if row.phase == "train" else single_request)(row, model, *hardware)
    if row.phase == "train":
        trains = training_request if isinstance(model, Transformer) else network_training_request
        return trains(row, model, *hardware)
    if isinstance(model, Transformer) and model.has_head and (model.kind == "decoder" or _translates(row, model)):
        return serving_request(row, model, *hardware)
    return single_request(row, model, *hardware)
