"""A folder of files, written so that a second call with the same words touches nothing.

A file is replaced whole or not at all; a secret never exists with more rights than it shall have.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["File", "write_files"]


@dataclass(frozen=True, slots=True)
class File:
    """One file to be written."""

    name: str
    text: str
    mode: int = 0o644
    is_the_owners: bool = False
    """Filled in by the owner: written once, then left alone."""


def write_files(folder: Path, files: Iterable[File]) -> list[str]:
    """Write what differs from what is there; the names of the files changed. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    return [file.name for file in files if _write(folder / file.name, file)]


def _write(path: Path, file: File) -> bool:
    if path.exists():
        if file.is_the_owners:
            return False
        status = path.stat()
        if status.st_mode & 0o777 == file.mode and path.read_bytes() == file.text.encode():
            return False
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), file.mode)
            stream.write(file.text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return True
