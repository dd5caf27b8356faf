"""A folder of files, written so that a second call with the same words touches nothing.

A file is replaced whole or not at all; a secret never exists with more rights than it shall have. What an earlier call
wrote and this one does not, such as another kind's secret, is removed; a file of the owner's never is. Which is which
stands in `.written`.
"""

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Changes", "File", "write_files"]

LIST = ".written"


@dataclass(frozen=True, slots=True)
class File:
    """One file to be written."""

    name: str
    text: str
    mode: int = 0o644
    is_the_owners: bool = False
    """Filled in by the owner: written once, then left alone."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of the files that a call wrote, and of those that it removed."""

    written: list[str]
    removed: list[str]


def write_files(folder: Path, files: Sequence[File], given: Collection[Path] = ()) -> Changes:
    """Write what differs from what is there, and remove what an earlier call wrote and this one does not.

    `given`: files that the owner gave to be read; they stay, even where one has a name that is written here.
    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    theirs = {path.absolute() for path in given}
    own = {file.name for file in files if not file.is_the_owners and folder / file.name not in theirs}
    earlier = _earlier(folder)
    _write_list(folder, own | earlier)  # first, so that a call that is cut short leaves nothing unknown behind
    written = [file.name for file in files if _write(folder / file.name, file)]
    old = [folder / name for name in sorted(earlier - {file.name for file in files})]
    removed = [path.name for path in old if path not in theirs and path.is_file()]
    for name in removed:
        (folder / name).unlink()
    _write_list(folder, own)
    return Changes(written, removed)


def _earlier(folder: Path) -> set[str]:
    """What earlier calls wrote; names only, so that nobody is led out of the folder."""
    try:
        names = (folder / LIST).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return set()
    return {name for name in names if re.fullmatch(r"[A-Za-z][\w.-]*", name)}


def _write_list(folder: Path, names: Collection[str]) -> None:
    _write(folder / LIST, File(LIST, "".join(f"{name}\n" for name in sorted(names))))


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
