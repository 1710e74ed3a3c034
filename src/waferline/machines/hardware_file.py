"""Reading a hardware file: YAML (or JSON) text to a checked record, with one-line errors."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.machines.schema import parse_hardware


def read_hardware_file(path: Path) -> dict[str, Any]:
    """The checked record of a hardware file; a file that cites nothing is cited as its own source.

    Raises: FileFormatError when it cannot be read, is malformed, gives a key twice or breaks the schema.
    """
    hardware = parse_hardware(read_file(path), str(path))
    record = hardware.record()
    if not record["citations"]:
        date = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
        own = {"title": f"user file {path.name}", "url": str(path), "date": date, "covers": list(hardware.sections())}
        record["citations"] = [own]
    return record
