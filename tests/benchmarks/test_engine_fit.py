"""Which constants describe an engine, and whose they begin with."""

from __future__ import annotations

import pytest
from benchmarks.fit.engine_fit import POOLED, names_of, run_by


@pytest.mark.parametrize(
    ("engine", "runs"), [("ollama", "llama.cpp"), ("lm-studio", "llama.cpp"), ("mlx-server", "mlx")]
)
def test_an_engine_that_runs_another_begins_with_its_constants(engine: str, runs: str) -> None:
    assert run_by(engine) == runs and names_of(engine) == names_of(runs)


@pytest.mark.parametrize("engine", ["llama.cpp", "vllm", "autoawq"])
def test_others_begin_with_none(engine: str) -> None:
    """AutoAWQ runs PyTorch, but replays no eager model: other constants describe it."""
    assert run_by(engine) is None


def test_only_engines_of_checkpoints_in_bfloat16_emulate_it() -> None:
    assert "emulation" in names_of("mlx") and not {"emulation"} & (
        names_of("llama.cpp").keys() | names_of(POOLED).keys()
    )
