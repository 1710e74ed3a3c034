"""`solve` is `predict` turned round, `sensitivity` its derivative, and a front has any number of objectives."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import waferline as wl
from waferline.cli import run

ASKED = wl.Scenario(model="llama-3-8b", machine="h100")


@pytest.mark.parametrize(
    ("field", "goal", "name", "limit"),
    [("batch", "tpot<=20ms", "itl_s", 0.020), ("prompt", "ttft<=1s", "ttft_s", 1.0)],
)
def test_the_largest_value_holds_and_one_more_does_not(field, goal, name, limit):
    found = wl.solve(field, [goal], ASKED)
    at = lambda value: float(wl.run(wl.Scenario(model="llama-3-8b", machine="h100", **{field: value})).result[name])  # noqa: E731
    assert found.edge == "largest" and at(int(found.value)) <= limit < at(int(found.value) + 1)
    assert found.at[name] == pytest.approx(at(int(found.value)))


def test_memory_ends_a_batch_that_no_time_ends():
    found = wl.solve("batch", ["tpot<=1000s"], ASKED)
    most = float(wl.run(wl.Scenario(model="llama-3-8b", machine="h100", batch=1)).result["max_batch_size"])
    assert found.value == pytest.approx(most, rel=0.02)


def test_a_part_of_the_machine_is_solved_as_a_factor():
    now = float(wl.run(ASKED).result["itl_s"])
    found = wl.solve("bandwidth", [f"tpot<={now * 0.9}s"], ASKED)
    assert found.edge == "smallest" and found.value > 1.0 and found.at["itl_s"] <= now * 0.9
    assert found.at["itl_s"] == pytest.approx(now * 0.9, rel=0.01)


def test_elasticities_add_up_and_say_where_to_invest():
    row = wl.sensitivity(ASKED).elasticities["itl_s"]
    assert sum(v for part, v in row.items() if part != "capacity") == pytest.approx(-1.0)
    assert min(row, key=lambda p: row[p]) == "bandwidth" and row["links"] == 0.0


def test_commands_answer_as_data_and_refuse_in_one_line(capsys):
    line = ["solve", "batch", "llama-3-8b", "--on", "h100", "--json", "--for"]
    assert run([*line, "tpot<=1us"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert data["value"] is None and data["nearest"] == 1.0
    for bad, word in (
        ("tpot=20ms", "form"),
        ("speed<=3", "unknown field"),
        ("tpot<=20GB", "second"),
        ("tpot<=-1ms", "below 0"),
    ):
        assert run([*line[:-2], "--for", bad]) == 2 and word in capsys.readouterr().err
    assert run(["solve", "colour", *line[2:-2], "--for", "tpot<=1s"]) == 2
    assert "unknown field to solve for" in capsys.readouterr().err
    assert run(["sensitivity", "llama-3-8b", "--on", "h100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["invest"]["itl_s"] == "bandwidth"


def test_a_front_of_three_objectives_is_what_nothing_beats(tmp_path, capsys):
    random = np.random.default_rng(0)
    columns = {name: random.random(200) for name in ("itl_s", "mfu", "cost")}
    file = tmp_path / "points.parquet"
    pq.write_table(pa.table(columns), file)
    line = ["frontier", str(file), "--x", "itl_s", "--y", "max:mfu", "--and", "min:cost"]
    picture = tmp_path / "front.html"
    assert run([*line, "--json", "--plot", str(picture)]) == 0
    front = json.loads(capsys.readouterr().out)["front"]
    scores = np.column_stack([columns["itl_s"], -columns["mfu"], columns["cost"]])
    beaten = [np.any(np.all(scores <= s, axis=1) & np.any(scores < s, axis=1)) for s in scores]
    assert sorted(r["itl_s"] for r in front) == sorted(columns["itl_s"][~np.array(beaten)])
    assert picture.stat().st_size > 1000
    assert run(["frontier", str(file), "--x", "itl_s", "--y", "best:mfu"]) == 2
