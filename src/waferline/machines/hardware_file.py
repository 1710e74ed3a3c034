"""Reading a hardware file: YAML (or JSON) text to a checked record, with one-line errors."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from waferline.catalog import yaml_file
from waferline.errors import FileFormatError
from waferline.machines.schema import parse_hardware


def _duplicates(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """Keys given twice in one mapping and their line, which YAML would settle silently by taking the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _duplicates(item)


def read_hardware_file(path: Path) -> dict[str, Any]:
    """The checked record of a hardware file; a file that cites nothing is cited as its own source.

    Raises: FileFormatError when it cannot be read, is malformed, gives a key twice or breaks the schema.
    """
    data = yaml_file.read_file(path)
    twice = next(_duplicates(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)), None)
    if twice:
        raise FileFormatError(f"key '{twice[0]}' is given twice (again at line {twice[1]})", where=str(path))
    hardware = parse_hardware(data, str(path))
    record = hardware.record()
    if not record["citations"]:
        date = datetime.date.fromtimestamp(path.stat().st_mtime).isoformat()
        own = {"title": f"user file {path.name}", "url": str(path), "date": date, "covers": list(hardware.sections())}
        record["citations"] = [own]
    return record
