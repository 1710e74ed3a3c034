"""One vocabulary of operator kinds: what is lowered is timed, trained and priced, or ends in an error that says what to add."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import get_args

import pytest

from waferline.errors import UnsupportedError
from waferline.formats import resolve
from waferline.machines.hardware import load_hardware
from waferline.predict.efficiency.coefficients import op_kinds
from waferline.predict.kinds import KINDS, backward_share
from waferline.predict.roofline import machine_for, time_operator
from waferline.workloads.build import Builder
from waferline.workloads.lower import lower_decode, lower_forward, lower_prefill
from waferline.workloads.models import catalog_model, model_names
from waferline.workloads.operator import Operator, OpKind
from waferline.workloads.scenario import Parallel
from waferline.workloads.spec import Transformer

PRECISION = resolve("bf16", lambda fmt: fmt)
PARALLEL = Parallel(tp=2, dp=2, ep=4, pp=2)


def lowered(name: str, phase: str) -> list[Operator]:
    model = catalog_model(name)
    if phase == "forward":
        return lower_forward(model, batch=2, tokens=128, precision=PRECISION)
    if not isinstance(model, Transformer) or model.kind == "encoder":
        return []
    if phase == "prefill":
        return lower_prefill(model, batch=8, prompt=128, precision=PRECISION, parallel=PARALLEL)
    return lower_decode(model, batch=8, context=128, precision=PRECISION, parallel=PARALLEL)


@functools.cache
def emitted(phase: str) -> list[Operator]:
    """Every operator of every model of the catalogue in a phase."""
    return [op for name in model_names() for op in lowered(name, phase)]


def kinds(*phases: str) -> set[str]:
    return {op.kind for phase in phases for op in emitted(phase)}


def test_every_kind_that_any_model_is_lowered_to_is_named_and_none_else():
    assert kinds("prefill", "decode", "forward") == set(get_args(OpKind)) - {
        "look_up"
    }  # what a technique makes of products


def test_every_kind_has_a_row_and_constants():
    assert set(KINDS) == set(get_args(OpKind)) - {"collective"}  # timed by its operation, over links
    assert {kind.constants for kind in KINDS.values()} <= set(op_kinds())
    operations = {op.operation for op in (*emitted("prefill"), *emitted("decode")) if op.kind == "collective"}
    assert "all_reduce" in operations and operations <= set(op_kinds())


def test_every_kind_of_a_forward_pass_has_a_backward_share():
    assert all(backward_share(kind) > 0 for kind in kinds("forward"))


def test_a_kind_that_nothing_times_or_trains_says_what_to_add():
    unknown = replace(Builder(PRECISION).gemm("x", 1, 2, 3), kind="rotation")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"'rotation'.*add a row to waferline\.predict\.kinds"):
        time_operator(unknown, machine_for(load_hardware("h100"), None))
    with pytest.raises(UnsupportedError, match=r"'rotation'.*add a row to catalog/training\.yaml: backward"):
        backward_share("rotation")
