"""What a study declares and compares with: YAML and CSV files of `catalog/studies`, each value with its source."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from typing import Any

from waferline.catalog import ROOT
from waferline.catalog.yaml_file import read_packaged

FOLDER = ROOT / "studies"
Facts = Mapping[str, Any]


def facts(name: str) -> Facts:
    """`catalog/studies/NAME.yaml` as data; the caller must not change it."""
    data: Facts = read_packaged(f"{FOLDER.name}/{name}.yaml")
    return data


@cache
def fact_rows(name: str) -> tuple[dict[str, str], ...]:
    """`catalog/studies/NAME.csv` as one mapping a line; lines that start with `#` say where the figures are from."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))
