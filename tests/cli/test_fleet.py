"""`waferline fleet` and `waferline queue`, as typed."""

from __future__ import annotations

import json

import pytest

from waferline.cli import run


def test_a_fleet_tells_its_failures_energy_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "h100", "--devices", "16384", "--days", "54", "--region", "us-central1"]) == 0
    out = capsys.readouterr().out
    assert "419" in out  # interruptions of the run that the rate was published of
    assert "electricity" in out
    assert run(["fleet", "h100", "--devices", "8", "--region", "france", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["sustainability"]["it_energy_kwh"] == pytest.approx(8 * 0.7 * 24 * 30)


def test_a_queue_tells_percentiles_and_overload(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "--rate", "8/s", "--service", "1s", "--replicas", "10", "--slo", "2s"]) == 0
    assert "41 %" in capsys.readouterr().out  # Erlang C of ten servers and eight Erlang
    assert run(["queue", "--rate", "20/s", "--service", "100ms"]) == 0
    assert "overloaded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "fleet h1000",
        "fleet h100 --devices 0",
        "fleet h100 --days -1",
        "fleet h100 --region atlantis",
        "fleet h100 --operator nobody",
        "fleet h100 --region france --device-price 30000",
        "queue --rate 8/s --service soon",
        "queue --rate 8/s --service 0s",
        "queue --rate 8/s --service 1s --replicas 0",
        "queue --rate 8/s --service 1s --cv -1",
    ],
)
def test_what_cannot_be_is_refused_in_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2
    assert "Traceback" not in capsys.readouterr().err
