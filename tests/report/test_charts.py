"""Charts: what they show is what the answer says, and what is written is a page or a picture, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from waferline.cli import run
from waferline.errors import InvalidInputError
from waferline.predict.compare import compare
from waferline.predict.scenario import Answer, Scenario
from waferline.predict.scenario import run as ask
from waferline.report.charts import Chart, Panel, Series, check_ending, save
from waferline.report.charts.views import comparison_chart, points_chart, prediction_chart, time_chart


@pytest.fixture(scope="module")
def answer() -> Answer:
    return ask(Scenario(model="mixtral-8x7b", machine="h100", devices=2, batch=8))


def test_the_bars_of_a_phase_add_up_to_its_time(answer: Answer) -> None:
    for phase, field in (("prefill", "ttft_s"), ("decode", "itl_s")):
        bars = [row["seconds"] for row in time_chart(answer).data if row["phase"] == phase]
        assert sum(bars) == pytest.approx(float(answer.result[field]))


def test_points_of_the_roofline_are_the_operators(answer: Answer) -> None:
    points = [row for row in prediction_chart(answer).data if "flops_per_byte" in row]
    assert {"moe.experts", "attention.core"} <= {row["operator"] for row in points}
    assert all(row["seconds"] >= row["light_s"] for row in points)


@pytest.mark.parametrize("ending", ["html", "png", "svg"])
@pytest.mark.parametrize("dark", [False, True])
def test_each_ending_is_written_as_what_it_says(answer: Answer, ending: str, dark: bool, tmp_path: Path) -> None:
    path = tmp_path / f"chart.{ending}"
    save(prediction_chart(answer), path, dark=dark)
    start = path.read_bytes()[:200].lstrip().lower()
    assert start.startswith({"html": b"<!doctype html", "png": b"\x89png", "svg": b"<?xml"}[ending])
    if ending == "html":
        assert b"<script src" not in path.read_bytes()  # a page that needs nothing else


def test_machines_side_by_side_and_fronts() -> None:
    rows = compare(Scenario(model="llama-3-8b", machine=None), ["h100", "l4"])
    chart = comparison_chart(rows)
    assert [row["machine"] for row in chart.data] == ["nvidia-h100-sxm-80gb", "nvidia-l4"]
    front = points_chart({"a": [1.0, 2.0, 3.0], "b": [3.0, 2.0, 1.0]}, "a", "b", best=[0, 2])
    assert [row["a"] for row in front.data] == [1.0, 3.0]


def test_the_command_line_draws_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "llama-3-8b", "--on", "h100", "--plot", str(tmp_path / "a.svg")]) == 0
    assert run(["compare", "llama-3-8b", "--on", "h100,l4", "--plot", str(tmp_path / "b.png")]) == 0
    assert run(["predict", "resnet-50", "--on", "a100", "--plot", str(tmp_path / "c.html")]) == 0
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.svg", "b.png", "c.html"))
    capsys.readouterr()
    assert run(["predict", "llama-3-8b", "--on", "h100", "--plot", str(tmp_path / "a.gif")]) == 2
    assert ".html, .png, .svg" in capsys.readouterr().err
    assert run(["predict", "llama-3-8b", "--on", "h100", "--batch", "1,8", "--plot", str(tmp_path / "a.png")]) == 2
    assert run(["predict", "llama-3-8b", "--on", "h100", "--plot", str(tmp_path / "no" / "a.png")]) == 2
    with pytest.raises(InvalidInputError):
        check_ending("chart")
    empty = Chart("nothing", (Panel("x", "y", (Series("s", [], []),)),))
    save(empty, tmp_path / "empty.png")
