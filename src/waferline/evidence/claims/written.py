"""Claims out of a YAML file: a list of sentences or mappings, or `{defaults: ..., claims: [...]}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waferline.catalog.yaml_file import read_file
from waferline.errors import FileFormatError, InvalidInputError, unknown
from waferline.evidence.claims.claim import METRICS, Claim
from waferline.evidence.claims.sentence import claims_of
from waferline.units import to_si

_TEXT = ("model", "machine", "precision", "kv", "engine")
_NUMBERS = ("devices", "batch", "tp")
_LENGTHS = {"prompt": "input_tokens", "context": "input_tokens", "output": "output_tokens"}
_KEYS = {*_TEXT, *_NUMBERS, *_LENGTHS, "clients", "name"}
_BARE = {name.removesuffix("_s") if not name.endswith("per_s") else name: name for name in METRICS}  # ttft is ttft_s


def read_claims(path: Path) -> list[Claim]:
    """All claims of a file.

    Raises: FileFormatError naming the entry and what is wrong with it.
    """
    data = read_file(path)
    defaults: Mapping[str, Any] = {}
    if isinstance(data, Mapping):
        unexpected = set(data) - {"defaults", "claims"}
        if unexpected or not isinstance(data.get("claims"), list):
            raise FileFormatError(
                "a mapping has `claims`, a list, and may have `defaults`",
                where=str(path),
                hint=f"unexpected: {', '.join(sorted(map(str, unexpected)))}" if unexpected else None,
            )
        defaults, data = data.get("defaults") or {}, data["claims"]
    if not isinstance(data, list) or not isinstance(defaults, Mapping):
        raise FileFormatError("expected a list of claims, and defaults by key", where=str(path))
    claims: list[Claim] = []
    for index, entry in enumerate(data, 1):
        where = f"{path}, claim {index}"
        if isinstance(entry, str):
            claims += claims_of(entry)
        elif isinstance(entry, Mapping):
            claims += _from_mapping({**defaults, **entry}, where)
        else:
            raise FileFormatError(f"neither text nor a mapping: {entry!r}", where=where)
    return claims


def _from_mapping(entry: Mapping[str, Any], where: str) -> list[Claim]:
    values: dict[str, Any] = {key: str(entry[key]) for key in _TEXT if entry.get(key) is not None}
    for key in entry:
        if key not in _KEYS and _metric(key) is None:
            raise _unknown_key(key, where)
    for key, name in {**{n: n for n in _NUMBERS}, **_LENGTHS}.items():
        if entry.get(key) is not None:
            values[name] = _positive(key, entry[key], "", where)
    values["clients"] = bool(entry.get("clients", False))
    metrics = {str(_metric(key)): entry[key] for key in entry if _metric(key) is not None}
    text = str(entry.get("name") or ", ".join(f"{k} {v}" for k, v in entry.items()))
    if not metrics:
        return [Claim(text=text, **values)]
    return [
        Claim(text=text, metric=name, value=_positive(name, value, METRICS[name][1], where), **values)
        for name, value in metrics.items()
    ]


def _metric(key: str) -> str | None:
    if key in METRICS:
        return key
    return _BARE.get(key)


def _unknown_key(key: str, where: str) -> FileFormatError:
    return FileFormatError(str(unknown("key", key, {*_KEYS, *_BARE})), where=where)


def _positive(name: str, value: Any, unit: str, where: str) -> float:
    """A number above zero in SI; text may carry a unit."""
    try:
        number = float(to_si(name, value, unit)) if unit == "s" else float(value)
    except (TypeError, ValueError, InvalidInputError) as error:
        raise FileFormatError(f"{name} is not a quantity: {value!r}", where=where) from error
    if not 0 < number < float("inf"):
        raise FileFormatError(f"{name} must be above 0, got {value!r}", where=where)
    return number
