"""Every example runs as it stands, is short, and prints what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
MOST_LINES = 60
SAYS = {
    "calibrate_to_own_runs": "by the profile",
    "capacity_plan": "plan: 1 x nvidia-l",
    "claim_from_press_release": "infeasible (bandwidth)",
    "machine_from_datasheet": "acme-n2: TPOT",
    "sweep_on_dask": "fastest in total",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_an_example_runs(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert SAYS[name] in capfd.readouterr().out
