"""Check every packaged hardware file and write `hardware/index.json`: `python -m waferline.machines.build [--check]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from waferline.catalog import yaml_file
from waferline.catalog.names import compact
from waferline.errors import FileFormatError, WaferlineError
from waferline.machines.hardware import FOLDER, INDEX
from waferline.machines.hardware_file import read_hardware_file
from waferline.machines.schema import GROUPS

AMBIGUOUS = FOLDER / "ambiguous.yaml"


def _spoken_names(record: dict[str, Any]) -> list[str]:
    """What a machine answers to: its name, title, aliases and attribute, each also without the vendor."""
    given = [record["name"], record["title"], *record["aliases"], record["attribute"]]
    vendor = compact(record["vendor"])
    bare = [compact(n).removeprefix(vendor) for n in given]
    return [n for n in (*given, *bare) if n]


def _read_machines(folder: Path) -> dict[str, dict[str, Any]]:
    machines = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name == AMBIGUOUS.name:
            continue
        record = read_hardware_file(path)
        if record["citations"][0]["title"].startswith("user file"):
            raise FileFormatError("a packaged machine has to cite its sources", where=str(path))
        if record["name"] != path.stem:
            raise FileFormatError(f"name '{record['name']}' differs from the file name", where=str(path))
        machines[record["name"]] = record
    return machines


def _claim(keys: dict[str, str], spoken: str, name: str) -> None:
    owner = keys.setdefault(compact(spoken), name)
    if owner != name:
        raise FileFormatError(f"'{spoken}' is claimed by {owner} and {name}", where=str(FOLDER))


def _read_assumed(folder: Path, machines: dict[str, Any], keys: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Compact ambiguous name → `variant`, and `by_source`: source → variant."""
    assumed = {}
    for slug, entry in yaml_file.read_file(folder / AMBIGUOUS.name)["assumed"].items():
        by_source = {source: choice["variant"] for source, choice in entry.get("by_source", {}).items()}
        for variant in (entry["variant"], *by_source.values()):
            if variant not in machines:
                raise FileFormatError(f"'{slug}' assumes the unknown '{variant}'", where=str(AMBIGUOUS))
        if compact(slug) in keys:
            raise FileFormatError(f"'{slug}' is already the name of {keys[compact(slug)]}", where=str(AMBIGUOUS))
        vendor = compact(machines[entry["variant"]]["vendor"])
        for key in (compact(slug), compact(slug).removeprefix(vendor)):
            if key == compact(slug) or key not in keys:
                assumed[key] = {"variant": entry["variant"], "by_source": by_source}
    return assumed


def build_index(folder: Path = FOLDER) -> dict[str, Any]:
    """The index of all packaged machines: records, look-up keys, attributes and assumed variants.

    Raises: FileFormatError for a bad file, a name claimed twice, or an ambiguous slug whose variant does not exist.
    """
    machines = _read_machines(folder)
    keys: dict[str, str] = {}
    attributes: dict[str, dict[str, str]] = {group: {} for group in GROUPS}
    for name, record in machines.items():
        for spoken in _spoken_names(record):
            _claim(keys, spoken, name)
        if record["attribute"]:
            attributes[record["group"]][record["attribute"]] = name
    assumed = _read_assumed(folder, machines, keys)
    for name, record in machines.items():  # "apple-m1-max" where the alias is "m1-max"; ambiguous names stay so
        for alias in (*record["aliases"], record["attribute"]):
            full = compact(record["vendor"] + alias)
            if alias and full not in assumed:
                keys.setdefault(full, name)
    spoken_aliases = sorted({alias for r in machines.values() for alias in r["aliases"] if len(alias) <= 24})
    return {
        "attributes": {g: dict(sorted(a.items())) for g, a in attributes.items()},
        "spoken": spoken_aliases,
        "assumed": dict(sorted(assumed.items())),
        "keys": dict(sorted(keys.items())),
        "machines": machines,
    }


def index_text(index: dict[str, Any]) -> str:
    """The index as JSON with one machine a line, so that a change shows as the lines of the machines it touches."""
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # noqa: E731
    machines = ",\n".join(f"{dump(name)}:{dump(record)}" for name, record in index["machines"].items())
    head = ",\n".join(f"{dump(k)}:{dump(v)}" for k, v in index.items() if k != "machines")
    return f'{{{head},\n"machines":{{\n{machines}\n}}}}\n'


def main(arguments: list[str]) -> int:
    """Write the index, or with `--check` only say whether it is in step with the YAML files."""
    try:
        text = index_text(build_index())
    except WaferlineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if "--check" in arguments:
        in_step = INDEX.exists() and INDEX.read_text(encoding="utf-8") == text
        print(
            "index.json is in step" if in_step else "index.json is out of step: run python -m waferline.machines.build"
        )
        return 0 if in_step else 1
    INDEX.write_text(text, encoding="utf-8")
    print(f"{INDEX.name}: {text.count(chr(10)) - 6} lines, {len(text) // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
