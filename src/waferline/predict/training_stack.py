"""Training frameworks as facts: their kernels and hosts, and how much longer operators take than measured alone."""

from __future__ import annotations

from dataclasses import dataclass

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import sqrt
from waferline.errors import unknown
from waferline.formats import Precision
from waferline.machines.device import Device
from waferline.predict.engine import get_engine, issued_in
from waferline.predict.kinds import backward_share
from waferline.predict.phase import Phase
from waferline.predict.roofline import Machine, Timed, time_operator
from waferline.workloads.build import Builder

ATTENTION = ("prefill_attention", "mla_prefill")
_FILE = "training_stacks.yaml"
_ANY = "any"
# The framework whose published steps are of such a job, by the bits of what is multiplied: constants stay with formats they ran in.
# Blocks of 8 bits and fewer have scales beside them.
_USUAL = {16: "llm-foundry", 8: "megatron-bridge"}
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Stack:
    """Factors on expected operator times, with the residual quantiles (log measured / predicted) of the rows left out.

    kernel: what attention's core is called in `training.yaml`. issue_s: what its host takes to issue an operator.
    """

    name: str
    operators: float = 1.0
    attention: float = 1.0
    log_q: tuple[float, ...] = ()
    kernel: str = ""
    issue_s: float = 0.0

    def attention_s(self, phase: Phase, machine: Machine, precision: Precision, again: float) -> Floats:
        """Expected seconds of attention's core in all passes of one micro-batch by the framework's kernels, its factor included.

        again: forward passes that are computed once more.
        """
        facts = read_packaged("training.yaml")["attention"]
        slower = facts["slower"].get(self.kernel, {}).get(machine.device.architecture, 1.0)
        total: Floats = 0.0
        for t in phase.timed:
            if t.operator.kind in ATTENTION:
                back = backward_share(t.operator.kind)
                passes = slower * (1.0 + back / facts["backward_rate"] + again) / (1.0 + back + again)
                each = passes * t.expected_s
                if self.kernel == _WHOLE:
                    each = each * _unmasked(t) + _scores_s(t, machine, precision, back, again)
                total = total + t.operator.count * each
        return self.attention * total

    def host_s(self, phase: Phase) -> Floats:
        """Seconds in which the framework's host issues the operators of all passes of one micro-batch, beside the device."""
        return self.issue_s * sum(t.operator.count * issued_in(t.operator, t.expected_s) for t in phase.timed)


def _unmasked(t: Timed) -> Floats:
    """Arithmetic over all pairs of query and key, over that of the pairs that a causal mask leaves."""
    s = t.operator.shape
    return 4.0 * s["batch"] * s["heads"] * s["head_dim"] * s["q_len"] * s["kv_len"] / t.operator.flops


def _scores_s(t: Timed, machine: Machine, precision: Precision, back: float, again: float) -> Floats:
    """Seconds in which the scores of one execution are written to memory and read again, shared evenly among its passes."""
    s, passes = t.operator.shape, read_packaged("training.yaml")["attention"]["score_passes"]
    moved = (passes["forward"] * (1.0 + again) + passes["backward"]) / (1.0 + back + again)
    elements = s["batch"] * s["heads"] * s["q_len"] * s["kv_len"]
    op = Builder(precision).streaming("attention.scores", "elementwise", elements, passes=moved)
    return time_operator(op, machine).expected_s


def stack_names() -> list[str]:
    return sorted(read_packaged(_FILE)["stacks"])


def usual_recompute(name: str) -> str:
    """The activation recomputation that a framework's published runs use where they name none; empty where that is not known."""
    return str(read_packaged("training.yaml")["frameworks"].get(name, {}).get("recompute", ""))


def get_stack(name: str | None, device: Device, bits: float, *, fitted: bool = True) -> Stack:
    """Framework `name` on a device; without a name the usual one for numbers of `bits`. fitted: False leaves its factors at 1.

    Raises: UnknownNameError with the nearest valid names.
    """
    stacks = read_packaged(_FILE)["stacks"]
    if name is None:
        usual = _USUAL[16 if bits >= 16 else 8]
        name = usual if usual in stacks else "none"
    if name not in stacks:
        raise unknown("training stack", name, stacks)
    facts = read_packaged("training.yaml")["frameworks"].get(name, {})
    host = facts.get("host")
    issue_s = get_engine(host).running_on(device).issue_s if host else 0.0
    bare = Stack(name, kernel=facts.get("attention", ""), issue_s=issue_s)
    if not fitted:
        return bare
    row = stacks[name].get(device.architecture, stacks[name][_ANY])
    factors = {"operators": float(row["operators"]), "attention": float(row["attention"])}
    return Stack(name, **factors, log_q=tuple(row.get("log_q", ())), kernel=bare.kernel, issue_s=issue_s)


def beside_host(device_s: Floats, host_s: Floats) -> Floats:
    """Seconds of a pass whose host issues ahead of the device: the root of the squares, as where engines schedule ahead."""
    return sqrt(device_s * device_s + host_s * host_s)
