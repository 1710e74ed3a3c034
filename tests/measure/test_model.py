"""A model really run: engaged, checked, its operators adding up; files and lengths that cannot be are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kernels.random_gguf import RandomModel, write_random_gguf

from waferline.errors import DoesNotFitError, FileFormatError, InvalidInputError
from waferline.evidence.side_by_side.known import Known
from waferline.evidence.side_by_side.model import predicted_model
from waferline.measure.contract import Measurement
from waferline.measure.model import ModelResult, measure_model
from waferline.measure.rows import evidence_rows


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", RandomModel())


@pytest.fixture(scope="module")
def result(gguf: Path) -> ModelResult:
    return measure_model(gguf, prompt=20, output=6, threads=1)


def test_both_phases_are_measured_and_checked(result: ModelResult) -> None:
    for outcome in (result.prefill, result.decode):
        assert isinstance(outcome, Measurement), outcome
        assert outcome.check.error <= outcome.check.tolerance
    assert result.decode.rate("output_tokens") > 0
    assert result.prefill.rate("prompt_tokens") > result.decode.rate("output_tokens")


def test_the_operators_of_a_step_add_up_to_the_step(result: ModelResult) -> None:
    assert {"attn_qkv", "attention", "ffn_down", "output"} <= set(result.decode_operators_s)
    assert isinstance(result.decode, Measurement)
    mean_s = sum(result.decode.seconds) / len(result.decode.seconds)
    assert 0 < sum(result.decode_operators_s.values()) < 5 * mean_s


def test_records_say_model_phase_and_formats(result: ModelResult) -> None:
    prefill, decode = evidence_rows([result.prefill.to_json(), result.decode.to_json()])
    assert (prefill["metric"], decode["metric"]) == ("prompt_tokens_per_s", "output_tokens_per_s")
    assert (decode["model"], decode["phase"], decode["weight_format"]) == ("tiny", "decode", "q4_k")
    assert prefill["input_tokens"] == 20


def test_predict_can_be_asked_the_same(result: ModelResult, gguf: Path) -> None:
    from waferline.machines.hardware import load_hardware

    told = predicted_model(Known(load_hardware("xeon-8480"), {}), gguf, {"weights": "q4_k", "head": "q6_k"}, result)
    for phase in ("prefill", "decode"):
        assert told[phase]["expected_s"] == pytest.approx(sum(told[phase]["operators_s"].values()))
        assert set(told[phase]["operators_s"]) <= {*result.prefill_operators_s, *result.decode_operators_s}


def test_impossible_lengths_and_files_are_named(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        measure_model(gguf, prompt=0)
    with pytest.raises(InvalidInputError):
        measure_model(gguf, output=-1)
    with pytest.raises(DoesNotFitError, match="context"):
        measure_model(gguf, prompt=250, output=20)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[:5000])
    with pytest.raises(FileFormatError):
        measure_model(cut)
    with pytest.raises(FileFormatError):
        measure_model(tmp_path / "absent.gguf")
