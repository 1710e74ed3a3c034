"""Builds the index of packaged facts into the wheel, so that an installation that may not be written needs no YAML either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INDEX = "src/waferline/catalog/facts.index"


class FactsIndex(BuildHookInterface):
    """Runs `waferline.catalog.index`, which needs nothing but PyYAML; an editable install keeps its own index."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            environment = os.environ | {"PYTHONPATH": str(Path(self.root, "src"))}
            subprocess.run([sys.executable, "-m", "waferline.catalog.index"], check=True, env=environment)
            build_data["force_include"][str(Path(self.root, INDEX))] = INDEX.removeprefix("src/")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        Path(self.root, INDEX).unlink(missing_ok=True)  # a checkout makes its own, with the times of its files
