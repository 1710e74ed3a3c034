"""Models that a reader brings as a file: parsed as data in a folder that is gone afterwards, never kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from waferline.errors import FileFormatError, InvalidInputError, WaferlineError
from waferline.workloads.load import load_model
from waferline.workloads.spec import ModelSpec

MOST_BYTES = 32 << 20  # of a configuration, or of the head of a GGUF file: its tensors' data is not needed
_MOST_SIZE = 4 << 40  # that a GGUF file may say it has
_GGUF = b"GGUF"


def name_of(content: bytes) -> str:
    """What a file of such bytes is called."""
    return "your-model.gguf" if content.startswith(_GGUF) else "config.json"


def model_of(content: bytes, size: int) -> ModelSpec:
    """The model in a `config.json`, or in the first bytes of a GGUF file of `size` bytes.

    Nothing of the file's name is used. Raises: InvalidInputError for too large a file, FileFormatError for what is neither.
    """
    if len(content) > MOST_BYTES:
        raise InvalidInputError(f"a file is at most {MOST_BYTES >> 20} MiB")
    if not content.startswith(_GGUF) and content.lstrip()[:1] != b"{":
        raise FileFormatError("neither a config.json nor a GGUF file", where="your file")
    with tempfile.TemporaryDirectory(prefix="waferline-") as folder:
        home = Path(folder) / "your-model"  # the name that the model takes
        home.mkdir()
        path = home / name_of(content)
        path.write_bytes(content)
        if path.suffix == ".gguf" and len(content) < size <= _MOST_SIZE:
            with path.open("r+b") as file:
                file.truncate(size)  # a hole where the tensors are
        try:
            return load_model(path)
        except WaferlineError as error:  # without the folder, which says nothing to a reader
            raise FileFormatError(str(error).replace(str(path), "your file").replace(folder, "")) from None
