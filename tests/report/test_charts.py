"""Charts: what is drawn is what was answered, every ending opens, and nothing is drawn from outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from waferline.cli.app import app
from waferline.errors import InvalidInputError, UnsupportedError
from waferline.predict.compare import compare
from waferline.predict.run import run
from waferline.predict.scenario import Scenario
from waferline.report.charts import check_ending, save
from waferline.report.charts.breakdown import breakdown
from waferline.report.charts.chart import Axis
from waferline.report.charts.comparison import comparison_chart
from waferline.report.charts.interactive import figure
from waferline.report.charts.prediction import prediction_chart
from waferline.report.charts.roofline import roofline
from waferline.report.charts.scatter import Group, scatter
from waferline.report.charts.theme import THEMES
from waferline.report.charts.timeline import Lane, Track, timeline

ANSWER = run(Scenario(model="llama-3-8b", machine="h100", batch=4))
ROWS = compare(Scenario(model="llama-3-8b", machine=None), ["h100", "m2-ultra", "cs3", "esp32-s3"])
CHARTS = {
    "answer": prediction_chart(ANSWER),
    "machines": comparison_chart(ROWS),
    "scatter": scatter("front", Axis(unit="s"), Axis(), [Group(name="front", x=[1, 2], y=[3, 5], joined=True)]),
    "timeline": timeline(
        "server", [Lane(title="queue", tracks=(Track(name="q", time_s=[0, 1], values=[2, 0]),), axis=Axis())]
    ),
}


def open_picture(path):
    """What stands in the file, read as its ending promises."""
    if path.suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    elif path.suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)  # needs nothing from anywhere


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("ending", [".png", ".svg", ".html"])
@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_in_every_ending(tmp_path, name, ending, dark):
    path = tmp_path / f"chart{ending}"
    save(CHARTS[name], path, dark=dark)
    open_picture(path)
    again = tmp_path / f"again{ending}"
    save(CHARTS[name], again, dark=dark)
    assert again.read_bytes() == path.read_bytes()


def test_points_of_the_roofline_are_the_operators_and_lie_under_the_roof():
    panel = roofline(ANSWER).panels[0]
    roof = next(s for s in panel.series if s.kind == "line")
    slope, peak = roof.y[0] / roof.x[0], roof.y[-1]
    assert slope == pytest.approx(3.35e12)  # NVIDIA: 3.35 TB/s
    assert peak == pytest.approx(989.4e12)  # and 989.4 TFLOP/s of dense BF16
    points = [(x, y) for s in panel.series if s.kind == "points" for x, y in zip(s.x, s.y, strict=True)]
    drawn = [row for row in ANSWER.result.operators if float(row.flops) > 0]
    assert len(points) == len(drawn)
    for (x, y), row in zip(points, drawn, strict=True):
        assert x * float(row.bytes) == pytest.approx(float(row.flops))
        assert y <= peak


def test_bars_of_a_phase_add_up_to_its_time():
    for panel, key in zip(breakdown(ANSWER).panels, ("ttft_s", "itl_s"), strict=True):
        assert sum(panel.series[0].x) == pytest.approx(float(ANSWER.result[key]))


def test_machines_show_every_answer_and_name_every_refusal():
    chart = comparison_chart(ROWS)
    for row in ROWS:
        assert any(row.hardware in name for name in chart.panels[0].y.names) == (row.answer is not None)
        assert (row.hardware in chart.note) == (row.answer is None)


@pytest.mark.parametrize(
    ("name", "error"), [("x.pdf", InvalidInputError), ("png", InvalidInputError), ("", InvalidInputError)]
)
def test_an_ending_that_nothing_draws_is_refused(name, error):
    with pytest.raises(error, match="svg"):
        check_ending(name)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("waferline.report.charts.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'waferline\[plot\]'"):
        save(CHARTS["scatter"], "x.png")


def _luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_what_wcag_asks(dark):
    """WCAG 2.2: 3:1 for parts of a picture (1.4.11), 4.5:1 for text (1.4.3)."""
    theme = THEMES[dark]

    def contrast(colour):
        light, deep = sorted((_luminance(colour), _luminance(theme.ground)), reverse=True)
        return (light + 0.05) / (deep + 0.05)

    assert min(map(contrast, theme.palette)) >= 3
    assert min(contrast(theme.ink), contrast(theme.quiet)) >= 4.5


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "llama-3-8b", "--on", "h100"),
        ("predict", "llama-3-8b", "--on", "h100", "--batch", "1,8"),
        ("predict", "resnet-50", "--on", "h100", "--phase", "infer"),
        ("compare", "llama-3-8b", "--on", "h100,m2-ultra"),
    ],
)
def test_commands_draw(tmp_path, arguments):
    path = tmp_path / "picture.svg"
    outcome = CliRunner().invoke(app, [*arguments, "--plot", str(path)], catch_exceptions=False)
    assert outcome.exit_code == 0
    open_picture(path)


def test_text_of_others_is_text(tmp_path):
    nasty = "<script>alert(1)</script>"
    chart = scatter(
        nasty, Axis(title=nasty), Axis(), [Group(name=nasty, x=[1], y=[1], text=[nasty]), Group(name="b", x=[1], y=[2])]
    )
    assert nasty not in str(figure(chart))
    save(chart, tmp_path / "x.html")
    assert nasty not in (tmp_path / "x.html").read_text(encoding="utf-8")
