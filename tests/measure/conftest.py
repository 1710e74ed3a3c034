"""A machine profile that several rooms of tests need."""

from __future__ import annotations

import pytest

from waferline.measure.conditions import clock_hz
from waferline.measure.contract import required
from waferline.measure.engine import Plan
from waferline.measure.fingerprint import fingerprint
from waferline.measure.machine import Level, MachineProfile
from waferline.measure.probes import run

SHORT = Plan(repeats=5, warmups=1, least_s=0.0, most_s=10.0)


@pytest.fixture(scope="session")
def profile() -> MachineProfile:
    """A small but real profile: two memory levels and both peaks on one thread."""
    near = required(run.read_bandwidth(16 * 2**10, 1, SHORT))
    far = required(run.read_bandwidth(64 * 2**20, 1, SHORT))
    return MachineProfile(
        fingerprint=fingerprint(),
        threads=1,
        clock_hz=clock_hz(),
        levels=(Level("L1", 32 * 2**10, {1: near}), Level("memory", 2**33, {1: far})),
        peaks={fmt: {1: required(run.peak(fmt, 1, SHORT))} for fmt in ("fp32", "int8")},
        fork_join=required(run.fork_join(1, SHORT)),
        launch=required(run.launch(SHORT)),
        seconds=1.0,
    )
