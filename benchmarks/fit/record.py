"""Fitted constants as files of the catalogue: one record a line, under the head that the file has."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_PLAIN = re.compile(r"[\w+/][\w.+/ -]*")  # text that YAML may read as itself, unquoted
NEW = 'date: today\nsource: ""  # whose rows, under which licence\nsplit: ""  # what was left out\n'  # the head of a new file


def number(x: float, digits: int) -> str:
    """A number as YAML 1.1 reads it: it takes 1e-06 for text unless the mantissa has a point."""
    if x != x or abs(x) == float("inf"):
        return ".nan" if x != x else ".inf" if x > 0 else "-.inf"
    mantissa, e, exponent = f"{x:.{digits}g}".partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}" if e else mantissa


def flow(value: object, digits: int = 4) -> str:
    """Plain data on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(k)}: {flow(v, digits)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(v, digits) for v in value) + "]"
    if isinstance(value, int | float):
        return number(value, digits)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text, ensure_ascii=False)


def block(value: Mapping[str, Any], depth: int, digits: int = 4, indent: str = "") -> list[str]:
    """Plain data as lines, the outer `depth` levels one key a line."""
    lines = []
    for key, inner in value.items():
        if depth > 0 and isinstance(inner, Mapping) and inner:
            lines += [f"{indent}{flow(key)}:", *block(inner, depth - 1, digits, indent + "  ")]
        else:
            lines.append(f"{indent}{flow(key)}: {flow(inner, digits)}")
    return lines


def write(path: Path, name: str, records: Mapping[str, Any], depth: int, digits: int = 4) -> None:
    """Put `records` under the key `name`, and today's date; comments, source and split of the file stay as they are."""
    text = path.read_text(encoding="utf-8") if path.exists() else NEW
    head, _, _ = text.partition(f"\n{name}:\n")
    head = re.sub(r"^date: .*$", f"date: {datetime.date.today().isoformat()}", head, flags=re.M)
    lines = [head.rstrip(), f"{name}:", *block(records, depth, digits, "  ")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
