"""Writing: all of a file or nothing of it, at whatever moment it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from waferline.errors import FileFormatError, InvalidInputError
from waferline.files import alone, replacing, write_text


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o640)
    with pytest.raises(KeyError), replacing(path) as own:
        own.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link"
    link.symlink_to(path)
    write_text(link, "newer")
    assert link.is_symlink() and path.read_text() == "newer"


@pytest.mark.parametrize("call", ["open", "fsync", "fchmod", "replace", "rename", "write"])
def test_a_failing_disk_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        for owner, name in ((os, call), (Path, f"{call}_text"), (Path, call)):
            if hasattr(owner, name):
                patch.setattr(owner, name, full)
        if call == "rename":  # what the others do not use
            write_text(path, "old")
        else:
            with pytest.raises(FileFormatError, match="No space left"):
                write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "a\0b", ".", "no/such/folder", "x" * 300])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileFormatError, match="cannot be written"):
        write_text(f"{tmp_path}/{name}" if name else "", "text")
    assert not list(tmp_path.iterdir())


def test_a_device_is_written_itself() -> None:
    write_text("/dev/null", "text")
    assert not Path("/dev/null").is_file()


def test_one_at_a_time_whoever_dies(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with alone(path), pytest.raises(InvalidInputError, match="another process"), alone(path):
        pass
    dies = f"from waferline.files import alone; import os\nwith alone({str(path)!r}): os._exit(1)"
    subprocess.run([sys.executable, "-c", dies], check=False)
    with alone(path):
        pass
    assert not list(tmp_path.iterdir())
