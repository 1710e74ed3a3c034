"""The machine probe, the file it writes, and the constants it fits: exact counts, valid files, recovered constants."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measure.conftest import SHORT

from waferline.cli import run as command
from waferline.errors import DoesNotFitError, FileFormatError, RefusedError
from waferline.evidence.side_by_side.known import Known, constants_of, predicted, time_with
from waferline.formats import Precision
from waferline.machines.hardware import load_hardware
from waferline.measure.caches import Cache, caches
from waferline.measure.calibrate import Calibration, targets
from waferline.measure.constants import fit
from waferline.measure.contract import Measurement, required
from waferline.measure.fingerprint import fingerprint
from waferline.measure.machine import Level, MachineProfile, profile_json, roof, thread_counts
from waferline.measure.machine_file import (
    machine_record,
    machine_yaml,
    read_machine,
    save_machine,
    this_machine,
    this_machine_path,
)
from waferline.measure.operators import OperatorRequest, operator_of
from waferline.measure.probes import run
from waferline.predict.efficiency.profile import records
from waferline.workloads.operator import Operator


def test_probes_count_exactly_what_they_did(profile: MachineProfile) -> None:
    for m in profile.measurements():
        assert m.check.error == 0.0
        assert m.best_s <= m.median_s
    for by_threads in profile.peaks.values():
        assert roof(by_threads[1], "flops") >= by_threads[1].rate("flops")


def test_two_threads_read_twice_as_much_a_call() -> None:
    one, two = (required(run.read_bandwidth(2**16, n, SHORT)) for n in (1, 2))
    assert two.work["bytes"] == 2 * one.work["bytes"]


def test_a_probe_that_would_not_fit_is_refused_first() -> None:
    with pytest.raises(DoesNotFitError):
        run.read_bandwidth(2**50, 1)


@given(st.integers(1, 512))
def test_thread_counts_rise_from_one_to_all(most: int) -> None:
    counts = thread_counts(most)
    assert counts[0] == 1
    assert counts[-1] == most
    assert list(counts) == sorted(set(counts))


def test_caches_of_this_machine() -> None:
    found = caches()
    assert all(c.bytes > 0 and c.shared_by >= 1 for c in found)
    assert [c.bytes for c in found] == sorted(c.bytes for c in found)
    assert Cache("L2", 2**20, 4).total_bytes(6) == 2 * 2**20


def test_the_fingerprint_names_the_hardware() -> None:
    f = fingerprint()
    assert f.cores >= 1
    assert len(f.digest) == 12
    assert "numba" in dict(f.versions)


def test_the_file_is_a_hardware_file_that_predict_takes(profile: MachineProfile, tmp_path: Path) -> None:
    path = tmp_path / "me.yaml"
    save_machine(machine_record(profile), path)
    device, section = read_machine(path)
    assert section == {}
    assert device.kind == "cpu"
    slowest = min(level.bandwidth_bytes_per_s(1) for level in profile.levels)
    assert device.bandwidth_bytes_per_s == pytest.approx(slowest, rel=1e-5)  # the file keeps six digits
    assert device.peak("int8") == pytest.approx(profile.peak_flops("int8", 1), rel=1e-5)
    op = operator_of(OperatorRequest("gemv", (4096, 4096)), Known(device, {}).precision("q4_k"))
    told = predicted(Known(device, {}), op)
    assert told["expected_s"] >= told["light_s"] > 0
    assert profile_json(profile)["peak_flops"]["fp32"]["1"]["best"] > 0


def test_calibrations_travel_through_the_file(profile: MachineProfile, tmp_path: Path) -> None:
    known = Known(_device(profile, tmp_path), {})
    op, true = (
        _gemm(1, known),
        {"bandwidth_efficiency": 0.8, "compute_efficiency": 0.4, "exposed": 0.7, "floor_s": 8e-6},
    )
    base = {**constants_of(known.device, op), **true}
    cases = [(x, time_with(known.device, x, base)) for x in (_gemm(m, known) for m in (1, 4, 16, 64, 512))]
    fitted = fit(cases, lambda o, c: time_with(known.device, o, c), constants_of(known.device, op))
    record = machine_record(profile, [Calibration("gemm/q4_k", fitted, (profile.launch,) * 5)])
    path = tmp_path / "calibrated.yaml"
    path.write_text(machine_yaml(record))
    device, section = read_machine(path)
    told = predicted(Known(device, records(section)), _gemm(200, known))
    assert told["tier"] == "calibrated"
    assert told["expected_s"] == pytest.approx(time_with(device, _gemm(200, known), base), rel=0.1)
    assert told["low90_s"] <= told["expected_s"] <= told["high90_s"]
    assert yaml.safe_load(path.read_text())["efficiency"]["records"]["gemm/q4_k"]["residual"][0][0] == math.inf


def _device(profile: MachineProfile, folder: Path):  # type: ignore[no-untyped-def]
    save_machine(machine_record(profile), folder / "plain.yaml")
    return read_machine(folder / "plain.yaml")[0]


def _gemm(m: int, known: Known) -> Operator:
    return operator_of(OperatorRequest("gemm", (2048, 2048), "q4_k", m), known.precision("q4_k"))


@given(bandwidth=st.floats(0.2, 0.95), compute=st.floats(0.05, 0.9), floor=st.floats(1e-6, 5e-5))
@settings(max_examples=12, deadline=None)
def test_fit_recovers_what_made_the_times(bandwidth: float, compute: float, floor: float) -> None:
    """On a formula of its own, so that the fit is tested and not predict."""

    def time(op: Operator, c: Mapping[str, float]) -> float:
        memory_s = float(op.weight_bytes) / 30e9 / c["bandwidth_efficiency"]
        return max(memory_s, float(op.flops) / 1e12 / c["compute_efficiency"]) + c["floor_s"]

    precision = Precision("q4_k", "int8", "fp16", "q4_k")
    shapes = [(4096, 4096, 1), (256, 1024, 1), (2048, 2048, 256), (1024, 1024, 1024)]
    ops = [operator_of(OperatorRequest("gemm", (n, k), "q4_k", m), precision) for n, k, m in shapes]
    true = {"bandwidth_efficiency": bandwidth, "compute_efficiency": compute, "floor_s": floor, "other": 1.0}
    start = {"bandwidth_efficiency": 0.5, "compute_efficiency": 0.5, "floor_s": 5e-6, "other": 1.0}
    fitted = fit([(op, time(op, true)) for op in ops], time, start)
    assert fitted.worst_error < 0.05
    assert fitted.c["other"] == 1.0
    low, near_low, near_high, high = fitted.residual
    assert low <= near_low < 0 < near_high <= high


def test_calibration_covers_every_operator_kind_first() -> None:
    keys = [t.key for t in targets(2)]
    assert keys[0] == "gemm/q4_k"
    assert keys[1:6] == ["decode_attention", "prefill_attention", "norm", "elementwise", "softmax"]
    assert len(keys) == len(set(keys))


def test_a_machine_never_measured_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: MachineProfile
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RefusedError, match="waferline measure machine") as caught:
        this_machine()
    assert caught.value.exit_code == 4
    save_machine(machine_record(profile), this_machine_path())
    assert this_machine().name == f"this-{fingerprint().digest}"


def test_a_measured_machine_is_audited_against_its_sheet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: MachineProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert command(["audit", "xeon-8480"]) == 4  # never measured
    save_machine(machine_record(profile), this_machine_path())
    assert command(["audit", "xeon-848"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert command(["audit", "xeon-8480", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    here, sheet = this_machine(), load_hardware("xeon-8480")
    rows = {row["figure"]: row for row in data["rows"]}
    assert rows["memory bandwidth"]["sheet"] == sheet.bandwidth_bytes_per_s  # DDR5 of the whole socket
    assert rows["memory bandwidth"]["share"] == here.bandwidth_bytes_per_s / sheet.bandwidth_bytes_per_s
    peak = rows["peak fp32"]
    assert peak["sheet"] / here.units == pytest.approx(sheet.peak_flops["fp32"] / sheet.units)
    assert command(["audit", "xeon-8480"]) == 0
    assert "share" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_or_read_is_named(tmp_path: Path, profile: MachineProfile) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(FileFormatError, match="cannot be written"):
        save_machine(machine_record(profile), blocked / "me.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nefficency: {}\n")
    with pytest.raises(FileFormatError, match="efficency"):
        read_machine(bad)


def test_noise_between_levels_never_breaks_the_file(profile: MachineProfile) -> None:
    """A far level that read faster than a near one (a disturbed probe) is cut, not written as measured."""
    near, far = profile.levels
    swapped = MachineProfile(
        fingerprint=profile.fingerprint, threads=1, clock_hz=profile.clock_hz,
        levels=(Level("L1", near.capacity_bytes, far.by_threads), Level("memory", far.capacity_bytes, near.by_threads)),
        peaks=profile.peaks, fork_join=profile.fork_join, launch=profile.launch, seconds=1.0,
    )  # fmt: skip
    bandwidths = [level["bandwidth_bytes_per_s"] for level in machine_record(swapped)["memory"]]
    assert bandwidths == sorted(bandwidths, reverse=True)


@pytest.mark.slow
def test_the_whole_probe() -> None:
    from waferline.measure.machine import probe_machine

    told: list[str] = []
    found = probe_machine(told.append)
    assert all(isinstance(m, Measurement) for m in found.measurements())
    assert found.levels[-1].name == "memory"
    assert "main memory" in told
