"""The outbox: rows on disk from the moment they are made until the function has said that they are stored.

SQLite in WAL mode through one connection, `synchronous=FULL`: a committed row survives kill -9 and power cuts. Nothing
here ever raises for a full, failing or damaged disk: rows then wait in memory, what is readable of a damaged file is
carried over, and `trouble` says what is wrong. Blocking; the daemon calls it in a thread of its own.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pusher.clock import Offset
from pusher.salvage import Unstamped, readable_rows

__all__ = ["KEPT_IN_MEMORY", "Counts", "Dead", "Outbox", "Stored", "Unstamped"]

KEPT_IN_MEMORY = 5_000
"""Rows that may wait for a disk that takes none; about 3 MB, and three and a half days at a row a minute."""
ROW_OVERHEAD_BYTES = 120
BUMPED_BY_MS = 1_000
"""By how much a stamp that was taken already may have been moved on."""
DEAD_LIMIT = 1_000
RESCUE_EVERY_S = 60
_NO_DAMAGE = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
"""Faults of the disk or its rights; whatever else SQLite finds can only come from a damaged file."""

_FAULTS = (sqlite3.Error, ValueError, TypeError)
"""What a damaged file makes SQLite and its results raise: text that is no UTF-8, numbers that are none."""

_TABLES = """
create table if not exists rows(
  id integer primary key autoincrement, boot text not null, monotonic_s real not null, wall_s real not null,
  stamp_ms integer unique, duration_s real not null, devices text not null);
create table if not exists dead(
  id integer primary key autoincrement, buried_s real not null, stamp_ms integer, devices text not null,
  errors text not null);
create table if not exists notes(name text primary key, value text not null) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stamped row, ready to be sent."""

    id: int
    stamp_ms: int
    duration_s: float
    devices: str


@dataclass(frozen=True, slots=True)
class Dead:
    """A row that the function refused for good, and why."""

    stamp_ms: int | None
    devices: str
    errors: str
    buried_s: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How the outbox stands."""

    rows: int = 0
    bytes: int = 0
    oldest_ms: int | None = None
    dropped: int = 0
    dropped_at_s: float | None = None
    dead: int = 0
    dead_at_s: float | None = None
    in_memory: int = 0
    trouble: str | None = None


class Outbox:
    """One file of rows. Every call may be made at any time, also while the disk takes nothing."""

    def __init__(self, path: Path, *, max_bytes: int, max_age_s: float, boot: str) -> None:
        """Name the file and its bounds; nothing is opened yet."""
        self._path, self._max_bytes, self._max_age_s, self._boot = path, max_bytes, max_age_s, boot
        self._db: sqlite3.Connection | None = None
        self._waiting: list[Unstamped] = []
        self._done: list[int] = []  # to be deleted: stored by the function, or refused for good
        self._buried: list[Dead] = []
        self._bytes = 0
        self._dropped_in_memory = 0
        self._next_rescue_s = 0.0
        self._in_doubt = False
        """A commit failed: its rows may be in the log all the same, and come back when that is opened anew."""
        self.trouble: str | None = None
        self.reports: list[str] = []
        """What happened to the file that its owner must hear of; the caller takes them out."""

    # ------------------------------------------------------------------ the file

    def open(self) -> None:
        """Open the file; a damaged one is put aside, with what is readable carried over."""
        try:
            self._connect()
        except _FAULTS as error:
            self._failed(error, "open")
        except OSError as error:
            self.trouble = f"{self._path.parent}: {error.strerror or error}"

    def close(self) -> None:
        """Write what waits, if the disk lets us, and close."""
        self._flush()
        if self._db:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _connect(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=1)
        try:
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=full")
            db.execute("pragma journal_size_limit=4194304")
            db.execute("pragma cache_size=-64")
            verdict = db.execute("pragma integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise _Damaged(verdict)
            db.executescript(_TABLES)
            self._bytes = int(
                db.execute("select coalesce(sum(length(devices) + ?), 0) from rows", (ROW_OVERHEAD_BYTES,)).fetchone()[
                    0
                ]
            )
        except BaseException:
            db.close()
            raise
        self._db = db
        self.trouble = None

    def _failed(self, error: Exception, doing: str) -> None:
        """Put a damaged file aside; with any other fault note the trouble and go on."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in _NO_DAMAGE:
            self._put_aside(error)
            return
        self.trouble = f"cannot {doing} {self._path}: {error}"
        self._in_doubt = True
        if self._db and code != sqlite3.SQLITE_FULL:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _put_aside(self, error: Exception) -> None:
        if self._db:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        if time.monotonic() < self._next_rescue_s:
            self.trouble = f"{self._path} was damaged again at once ({error}); is the disk failing?"
            return
        self._next_rescue_s = time.monotonic() + RESCUE_EVERY_S
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns() // 1_000_000}")
        try:
            for suffix in ("", "-wal", "-shm"):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            self._connect()
        except (*_FAULTS, OSError) as again:
            self.trouble = f"{self._path} is damaged ({error}), and a new one cannot be made: {again}"
            return
        done = set(self._done)
        saved = [row for row_id, row in readable_rows(aside) if row_id not in done]
        self._waiting, self._done = saved + self._waiting, []
        self.reports.append(
            f"the outbox {self._path} was damaged ({error}); it was put aside as {aside.name}, "
            f"{len(saved)} rows were still readable and are kept"
        )
        self._flush()

    # ------------------------------------------------------------------ rows

    def add(self, rows: Iterable[Unstamped]) -> None:
        """Commit rows; those that the disk does not take wait in memory and are tried again with the next call."""
        self._waiting.extend(rows)
        self._flush()

    def _flush(self) -> None:
        if self._db is None and (self._waiting or self._done):
            self.open()
        if self._db is None:
            self._bound_memory()
            return
        try:
            self._write(self._db)
        except _FAULTS as error:
            self._rollback()
            self._failed(error, "write to")
            self._bound_memory()

    def _write(self, db: sqlite3.Connection) -> None:
        if self._done or self._waiting:
            db.execute("begin immediate")
            db.executemany("delete from rows where id = ?", [(row_id,) for row_id in self._done])
            new = [row for row in self._waiting if not (self._in_doubt and _came_back(db, row))]
            for row in new:
                self._insert(db, row)
            for dead in self._buried:
                db.execute(
                    "insert into dead(stamp_ms, devices, errors, buried_s) values (?, ?, ?, ?)",
                    (dead.stamp_ms, dead.devices, dead.errors, dead.buried_s),
                )
            if self._buried:
                db.execute("delete from dead where id <= (select max(id) from dead) - ?", (DEAD_LIMIT,))
            if self._dropped_in_memory:
                self._note_drops(db, self._dropped_in_memory)
            db.execute("commit")
            self._bytes += sum(len(row.devices) + ROW_OVERHEAD_BYTES for row in new)
            self._waiting, self._done, self._buried, self._dropped_in_memory = [], [], [], 0
            self._in_doubt = False
        self.trouble = None
        self._bound_bytes(db)

    def _insert(self, db: sqlite3.Connection, row: Unstamped) -> None:
        stamp = row.stamp_ms
        if stamp is not None:
            stamp = _free_stamp(db, stamp)
        db.execute(
            "insert into rows(boot, monotonic_s, wall_s, stamp_ms, duration_s, devices) values (?, ?, ?, ?, ?, ?)",
            (row.boot, row.monotonic_s, row.wall_s, stamp, row.duration_s, row.devices),
        )

    def _rollback(self) -> None:
        if self._db and self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")

    def stamp(self, offset: Offset) -> None:
        """Give every unstamped row its time: this boot's by the offset, an earlier boot's by its wall clock."""
        self._flush()
        if self._db is None:
            return
        try:
            rows = self._db.execute(
                "select id, boot, monotonic_s, wall_s from rows where stamp_ms is null order by id"
            ).fetchall()
            if not rows:
                return
            self._db.execute("begin immediate")
            for row_id, boot, monotonic_s, wall_s in rows:
                seconds = monotonic_s + offset.offset_s if boot == self._boot else wall_s
                stamp = _free_stamp(self._db, int(seconds * 1000))
                self._db.execute("update rows set stamp_ms = ? where id = ?", (stamp, row_id))
            self._db.execute("commit")
        except _FAULTS as error:
            self._rollback()
            self._failed(error, "write to")

    def batch(self, *, max_rows: int, max_bytes: int, until_ms: int) -> list[Stored]:
        """The oldest committed and stamped rows up to a time, at most so many and so large; [] if there is none."""
        for _ in range(2):  # damage that shows only now is met, and what was saved is read
            if self._db is None:
                break
            try:
                return self._oldest(self._db, max_rows, max_bytes, until_ms)
            except _FAULTS as error:
                self._failed(error, "read")
        return []

    def _oldest(self, db: sqlite3.Connection, max_rows: int, max_bytes: int, until_ms: int) -> list[Stored]:
        done = set(self._done)
        found: list[Stored] = []
        size = 0
        cursor = db.execute(
            "select id, stamp_ms, duration_s, devices from rows where stamp_ms <= ? order by stamp_ms limit ?",
            (until_ms, max_rows + len(done)),
        )
        for row in (Stored(*row) for row in cursor if row[0] not in done):
            size += len(row.devices) + ROW_OVERHEAD_BYTES
            if len(found) == max_rows or (found and size > max_bytes):
                break
            found.append(row)
        return found

    def remove(self, rows: Sequence[Stored]) -> None:
        """Forget rows that the function has stored."""
        self._done.extend(row.id for row in rows)
        self._bytes -= sum(len(row.devices) + ROW_OVERHEAD_BYTES for row in rows)
        self._flush()

    def bury(self, row: Stored, errors: Any, *, now_s: float) -> None:
        """Move a row that the function refuses for good to the dead letters."""
        self._buried.append(Dead(row.stamp_ms, row.devices, json.dumps(errors, ensure_ascii=False)[:20_000], now_s))
        self.remove([row])

    def dead(self) -> list[Dead]:
        """The dead letters, newest first."""
        if self._db is None:
            return []
        with suppress(*_FAULTS):
            found = self._db.execute("select stamp_ms, devices, errors, buried_s from dead order by id desc")
            return [Dead(*row) for row in found]
        return []

    # ------------------------------------------------------------------ bounds

    def drop_older(self, now_ms: int) -> None:
        """Drop rows beyond the age bound. Only call this when the time is known for certain."""
        if self._db is None:
            return
        self._drop(
            self._db, "select id, devices from rows where stamp_ms < ? order by id", (now_ms - self._max_age_s * 1000,)
        )

    def _bound_bytes(self, db: sqlite3.Connection) -> None:
        while self._bytes > self._max_bytes:
            before = self._bytes
            self._drop(
                db, "select id, devices from rows order by id limit ?", (20,), at_least=self._bytes - self._max_bytes
            )
            if self._bytes == before:
                return

    def _drop(self, db: sqlite3.Connection, query: str, values: tuple[Any, ...], at_least: int | None = None) -> None:
        ids: list[tuple[int]] = []
        size = 0
        try:
            for row_id, devices in db.execute(query, values):
                if at_least is not None and size >= at_least:
                    break
                ids.append((row_id,))
                size += len(devices) + ROW_OVERHEAD_BYTES
            if not ids:
                return
            db.execute("begin immediate")
            db.executemany("delete from rows where id = ?", ids)
            self._note_drops(db, len(ids))
            db.execute("commit")
            self._bytes -= size
        except _FAULTS as error:
            self._rollback()
            self._failed(error, "write to")

    def _bound_memory(self) -> None:
        excess = len(self._waiting) - KEPT_IN_MEMORY
        if excess > 0:
            del self._waiting[:excess]
            self._dropped_in_memory += excess

    def _note_drops(self, db: sqlite3.Connection, count: int) -> None:
        total = int(self._noted(db, "dropped") or 0) + count
        self._put_note(db, "dropped", str(total))
        self._put_note(db, "dropped_at_s", str(time.time()))

    # ------------------------------------------------------------------ what else it keeps

    def counts(self) -> Counts:
        """How the outbox stands."""
        in_memory = len(self._waiting)
        if self._db is None:
            return Counts(rows=in_memory, dropped=self._dropped_in_memory, in_memory=in_memory, trouble=self.trouble)
        try:
            rows, oldest_ms, oldest_wall_s = self._db.execute(
                "select count(*), min(stamp_ms), min(wall_s) from rows"
            ).fetchone()
            dead, dead_at_s = self._db.execute("select count(*), max(buried_s) from dead").fetchone()
            dropped, at = self._noted(self._db, "dropped"), self._noted(self._db, "dropped_at_s")
        except _FAULTS as error:
            self._failed(error, "read")
            return Counts(rows=in_memory, in_memory=in_memory, trouble=self.trouble)
        if oldest_ms is None and oldest_wall_s is not None:
            oldest_ms = int(oldest_wall_s * 1000)
        return Counts(
            rows=rows - len(self._done) + in_memory,
            bytes=max(0, self._bytes),
            oldest_ms=oldest_ms,
            dropped=int(dropped or 0) + self._dropped_in_memory,
            dropped_at_s=float(at) if at else None,
            dead=dead,
            dead_at_s=dead_at_s,
            in_memory=in_memory,
            trouble=self.trouble,
        )

    def note_offset(self, offset: Offset) -> None:
        """Keep the offset for a restart within the same boot."""
        kept = json.dumps([self._boot, offset.offset_s, offset.round_trip_s, offset.learnt_at_s])
        if self._db is not None:
            try:
                self._put_note(self._db, "offset", kept)
            except _FAULTS as error:
                self._failed(error, "write to")

    def noted_offset(self) -> Offset | None:
        """The offset that was learnt in this boot, if one was."""
        if self._db is None:
            return None
        with suppress(*_FAULTS):
            boot, *numbers = json.loads(self._noted(self._db, "offset") or "[null]")
            if boot == self._boot:
                return Offset(*(float(number) for number in numbers))
        return None

    @staticmethod
    def _noted(db: sqlite3.Connection, name: str) -> str | None:
        row = db.execute("select value from notes where name = ?", (name,)).fetchone()
        return row[0] if row else None

    @staticmethod
    def _put_note(db: sqlite3.Connection, name: str, value: str) -> None:
        db.execute("insert or replace into notes(name, value) values (?, ?)", (name, value))


class _Damaged(sqlite3.DatabaseError):
    """The file's own check found it damaged."""


def _came_back(db: sqlite3.Connection, row: Unstamped) -> bool:
    """Whether a row of a commit that failed is there all the same; it is written once more, to bring it to the disk."""
    there = db.execute(
        "update rows set devices = devices where boot = ? and monotonic_s = ? and devices = ?"
        " and (stamp_ms is ? or stamp_ms between ? and ?)",
        (row.boot, row.monotonic_s, row.devices, row.stamp_ms, row.stamp_ms, (row.stamp_ms or 0) + BUMPED_BY_MS),
    )
    return there.rowcount > 0


def _free_stamp(db: sqlite3.Connection, stamp_ms: int) -> int:
    """The stamp, or the next millisecond that no other row has: a row is known by it."""
    while db.execute("select 1 from rows where stamp_ms = ?", (stamp_ms,)).fetchone():
        stamp_ms += 1
    return stamp_ms
