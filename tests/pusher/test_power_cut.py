"""A power cut: what the disk was not told to keep is gone, or there in part. Rows that were committed are not.

strace writes down every write and every order to keep what was written. From that any moment can be had again: the
bytes that were ordered, and of the others none, all, or some sectors of some, as a disk may have it.
"""

import random
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pusher.outbox import Outbox
from tests.conftest import need

ROWS = 450
SECTOR_BYTES = 512

KEEPS = """
import os, sys
from pathlib import Path
from pusher.outbox import Outbox, Unstamped

box = Outbox(Path(sys.argv[1]) / "outbox.db", max_bytes=10**8, max_age_s=86400, boot="this boot")
box.open()
for number in range(int(sys.argv[2])):
    box.add([Unstamped("this boot", float(number), 0.0, number, 60.0, "x" * 6000)])
    os.write(2, b"committed %d\\n" % number)
    if number % 3 == 2:
        box.remove(box.batch(max_rows=1, max_bytes=10**6, until_ms=10**9))
        os.write(2, b"removed %d\\n" % (number // 3))
"""

CALL = re.compile(r"^(?:\d+ +)?(\w+)\((?:\d+<([^>]*)>)?(.*)\) += (-?\d+)", re.DOTALL)


@dataclass
class Content:
    """A file: the bytes that are kept for certain, and what was written since."""

    kept: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Place and bytes; None: cut off there."""

    def after_cut(self, chance: float, dice: random.Random) -> bytes:
        """What a power cut leaves; `chance` of each sector that was written since."""
        found = bytearray(self.kept)
        for at, written in self.since:
            if written is None:
                if dice.random() < chance:
                    del found[at:]
                continue
            for begin in range(0, len(written), SECTOR_BYTES):
                if dice.random() < chance:
                    put(found, at + begin, written[begin : begin + SECTOR_BYTES])
        return bytes(found)

    def keep(self) -> None:
        """All that was written so far is kept."""
        self.kept, self.since = bytearray(self.after_cut(1, random.Random(0))), []


def put(into: bytearray, at: int, written: bytes) -> None:
    into.extend(bytes(max(0, at + len(written) - len(into))))
    into[at : at + len(written)] = written


@dataclass
class Disk:
    """The files of a folder as a run of strace's lines leaves them, and the rows that are promised meanwhile."""

    files: dict[str, Content] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    checkpoints: int = 0

    def take(self, line: str) -> None:
        """One more call."""
        call = CALL.match(line)
        if call is None or int(call[4]) < 0:
            return
        name, path, rest = call[1], plain(call[2] or "").decode(), call[3]
        if name == "write" and (said := re.search(r"(committed|removed) (\d+)", text_in(rest).decode("latin-1"))):
            (self.committed if said[1] == "committed" else self.removed).add(int(said[2]))
            return
        if name == "unlink":
            self.files.pop(Path(text_in(rest).decode()).name, None)
            return
        if "outbox.db" not in path or path.endswith("-shm"):  # which is made anew from the log
            return
        content = self.files.setdefault(Path(path).name, Content())
        if name == "pwrite64":
            content.since.append((int(rest.rpartition(",")[2]), text_in(rest)))
        elif name == "ftruncate":
            content.since.append((int(rest.rpartition(",")[2]), None))
        elif name in ("fsync", "fdatasync"):
            content.keep()
            self.checkpoints += path.endswith(".db")


def plain(hexadecimal: str) -> bytes:
    """What strace has written as `\\x66\\x6f`."""
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def text_in(rest: str) -> bytes:
    """The bytes between the quotes."""
    found = re.search(r'"([^"]*)"', rest)
    return plain(found[1]) if found else b""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """What strace saw of an outbox that takes rows and forgets some, through several checkpoints of its log."""
    folder = tmp_path_factory.mktemp("traced")
    trace = folder / "trace"
    calls = "trace=pwrite64,write,fsync,fdatasync,ftruncate,unlink"
    strace = [need("strace", "strace"), "-f", "-y", "-xx", "-s", "1000000", "-e", calls, "-o", trace]
    subprocess.run([*strace, sys.executable, "-c", KEEPS, folder, str(ROWS)], check=True, capture_output=True)
    return trace.read_text().splitlines()


@pytest.mark.parametrize("chance", [0, 0.5, 1], ids=["nothing more", "some sectors", "everything"])
def test_a_power_cut_at_any_moment_loses_no_committed_row(lines, tmp_path, chance):
    dice = random.Random(7)
    disk, cuts = Disk(), set(dice.sample(range(len(lines)), 60))
    for number, line in enumerate(lines):
        disk.take(line)
        if number in cuts and disk.committed:
            folder = tmp_path / str(number)
            folder.mkdir()
            for name, content in disk.files.items():
                (folder / name).write_bytes(content.after_cut(chance, dice))
            rows, reports = rows_in(folder)
            on_its_way_out = {max(disk.removed, default=-1) + 1}
            assert disk.committed - disk.removed - rows <= on_its_way_out
            assert reports == []
    assert len(disk.committed) == ROWS
    assert disk.checkpoints > 2, "the log was written into the file"


def rows_in(folder):
    """The rows that an outbox finds, by their stamps, and what it has to report."""
    box = Outbox(folder / "outbox.db", max_bytes=10**8, max_age_s=86400, boot="another boot")
    box.open()
    found = {row.stamp_ms for row in box.batch(max_rows=ROWS, max_bytes=10**9, until_ms=10**9)}
    box.close()
    return found, box.reports
