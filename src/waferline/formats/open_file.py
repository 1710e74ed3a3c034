"""Opening a tensor file whatever it is: the content decides, not the name."""

from __future__ import annotations

from pathlib import Path

from waferline.catalog.text_file import check_regular
from waferline.errors import FileFormatError
from waferline.formats.gguf_header import MAGIC, open_gguf
from waferline.formats.safetensors import open_safetensors
from waferline.formats.tensors import TensorFile


def open_tensors(path: str | Path) -> TensorFile:
    """The tensors of a `.safetensors` or `.gguf` file; the content decides, not the name.

    Raises: FileFormatError when the file cannot be read, is neither, or is damaged.
    """
    path = Path(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise FileFormatError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if magic == MAGIC or path.suffix.lower() == ".gguf":
        return open_gguf(path)
    return open_safetensors(path)
