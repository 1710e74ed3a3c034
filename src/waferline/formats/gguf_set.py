"""The files of one model in GGUF: a file, the parts of a split one, or the one model in a folder, and its projector.

Parts are called `NAME-00001-of-00003.gguf` and say `split.no`, `split.count` and `split.tensors.count` (gguf-split in
llama.cpp). A projector (`mmproj-*.gguf`, architecture `clip`) holds the vision or audio tower that goes with a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waferline.errors import FileFormatError, InvalidInputError, UnsupportedError
from waferline.formats.gguf_header import GGUFField, first_fields, open_gguf
from waferline.formats.tensors import TensorFile, TensorInfo

SUFFIX = ".gguf"
PROJECTOR = "clip"
_PART = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_NO_MODELS = ("adapter", "imatrix", "mmproj")  # general.type of what lies beside models
_MOST_NAMED = 4
_PROJECTED = ("clip.vision.projection_dim", "clip.audio.projection_dim")  # width of the model that a tower feeds


@dataclass(frozen=True, slots=True)
class GGUFSet:
    """One model: its files in order, the tensors of all of them, and the first one's metadata.

    `stem` is the file's name without the number of the part; `projector` the tower that lies beside it.
    """

    stem: str
    files: tuple[TensorFile, ...]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Any]
    projector: TensorFile | None = None

    @property
    def where(self) -> str:
        return str(self.files[0].path)


def holds_gguf(folder: Path) -> bool:
    """Whether a folder has files in GGUF."""
    return any(True for _ in _inside(folder))


def open_set(path: Path) -> GGUFSet:
    """The model at `path`: a file, any part of a split one, or a folder with exactly one model.

    Raises: FileFormatError for files that are damaged or do not belong together, and for missing parts, which it names;
    InvalidInputError for a folder with several models or none; UnsupportedError for what is no model.
    """
    if path.is_dir():
        path = _only_model(path)
    file = open_gguf(path)
    kind = _kind(file.metadata)
    if kind:
        raise UnsupportedError(f"this is {_ARTICLE[kind]}, not a model", where=str(path), hint=_beside(path))
    files = _parts(file)
    tensors = tuple(t for f in files for t in f.tensors)
    if len({t.name for t in tensors}) < len(tensors):
        raise FileFormatError("two parts hold tensors of one name", where=str(path))
    declared = _number(files[0].metadata, "split.tensors.count")
    if declared and declared != len(tensors):
        raise FileFormatError(f"the parts hold {len(tensors)} tensors, the first says {declared}", where=str(path))
    metadata = {key: field.value for key, field in files[0].metadata.items()}
    width = metadata.get(f"{metadata.get('general.architecture')}.embedding_length")
    return GGUFSet(_stem(files[0].path), files, tensors, metadata, _projector(files[0].path.parent, width))


_ARTICLE = {
    "adapter": "an adapter",
    "imatrix": "an importance matrix",
    "mmproj": "the vision or audio tower of a model",
}


def _kind(fields: Mapping[str, GGUFField]) -> str:
    """What a file holds that is no model: adapter, imatrix or mmproj; empty for a model."""
    value = fields["general.type"].value if "general.type" in fields else None
    if value in _NO_MODELS:
        return str(value)
    architecture = fields["general.architecture"].value if "general.architecture" in fields else None
    return "mmproj" if architecture == PROJECTOR else ""


def _kind_of(path: Path) -> str:
    """As `_kind`, from the start of a file; a file that cannot be read counts as a model, and is refused as one."""
    try:
        return _kind(first_fields(path))
    except (FileFormatError, UnsupportedError):
        return ""


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() == SUFFIX and p.is_file())
    except OSError:
        return []


def _models_in(folder: Path) -> dict[str, Path]:
    """Stem → first file of each model in a folder."""
    found: dict[str, Path] = {}
    for path in _inside(folder):
        if _part_number(path) > 1 or not _kind_of(path):
            found.setdefault(_stem(path), path)
    return found


def _only_model(folder: Path) -> Path:
    found = _models_in(folder)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise FileFormatError("the folder has no model in GGUF", where=str(folder))
    raise InvalidInputError(f"the folder has {len(found)} models", where=str(folder), hint=f"name one: {_named(found)}")


def _named(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _beside(path: Path) -> str | None:
    """The models that lie beside a file which is none."""
    found = _models_in(path.parent)
    return f"name the model: {_named(p.name for p in found.values())}" if found else None


def _projector(folder: Path, width: Any) -> TensorFile | None:
    """The tower in the same folder that projects to the model's `width`: of several formats of it the smallest file."""
    found = [p for p in _inside(folder) if _part_number(p) == 1 and _kind_of(p) == "mmproj"]
    for path in sorted(found, key=lambda p: (p.stat().st_size, p.name)):
        try:
            file = open_gguf(path)
        except FileFormatError:
            continue  # a damaged neighbour is no reason to refuse the model
        if width in {file.metadata[key].value for key in _PROJECTED if key in file.metadata}:
            return file
    return None


def _stem(path: Path) -> str:
    match = _PART.match(path.stem)
    return match["stem"] if match else path.stem


def _part_number(path: Path) -> int:
    match = _PART.match(path.stem)
    return int(match["number"]) if match else 1


def _number(fields: Mapping[str, GGUFField], key: str) -> int:
    value = fields[key].value if key in fields else 0
    return value if isinstance(value, int) else 0


def _parts(file: TensorFile) -> tuple[TensorFile, ...]:
    """All parts of a split file, of which `file` is any; just the file itself when it is whole."""
    count, path = _number(file.metadata, "split.count"), file.path
    if count <= 1:
        return (file,)
    match = _PART.match(path.stem)
    if match is None or int(match["count"]) != count:
        raise FileFormatError(
            f"this is part {_number(file.metadata, 'split.no') + 1} of {count}, and its name does not say so",
            where=str(path),
            hint=f"parts are found by name: {_part_name(_stem(path), 1, count)}",
        )
    names = [_part_name(match["stem"], n, count) for n in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise FileFormatError(f"{len(missing)} of {count} parts are missing: {_named(missing)}", where=str(path))
    parts = tuple(file if name == path.name else open_gguf(path.parent / name) for name in names)
    for number, part in enumerate(parts):
        if (_number(part.metadata, "split.no"), _number(part.metadata, "split.count")) != (number, count):
            raise FileFormatError(f"does not say that it is part {number + 1} of {count}", where=str(part.path))
    return parts


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number:05d}-of-{count:05d}{SUFFIX}"
