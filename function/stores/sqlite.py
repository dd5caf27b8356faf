"""The embedded store: one SQLite file, for a house without a cloud and for the demo.

One connection on one thread, so that the event loop never waits for a disk. Writes go to it one by one, so that a read
waits for the one that is being written and not for all that are to be. The command line may open the same file
while a server runs; a rollback journal is used because WAL is not safe with several connections on the SQLite
versions in the field (design section 6; https://sqlite.org/wal.html, "WAL-reset bug"). Rows live in a table of
their own rather than in quarter-hour documents: here a row costs nothing.
"""

import asyncio
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from function.stores import (
    EPOCH,
    Archived,
    Contended,
    Fleet,
    Stored,
    StoredDay,
    StoreUnavailable,
    measured_ms,
)
from schemas.site import Site

if TYPE_CHECKING:
    from schemas.messages import Row

__all__ = ["SqliteStore"]

T = TypeVar("T")

BUSY_TIMEOUT_S = 5
CALL_TIMEOUT_S = 10
"""How long a call may take with its wait for those before it: while another process holds the file's lock, each of them
waits for `BUSY_TIMEOUT_S`. One that is given up before its turn is never run."""
SUMMARY = ("minute", "pv_w", "grid_w", "battery_w", "load_w", "smart_load_w")
TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sites (
  site TEXT PRIMARY KEY, version INTEGER NOT NULL, doc TEXT NOT NULL, {", ".join(f"{name} REAL" for name in SUMMARY)}
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS archive (
  site TEXT NOT NULL, pusher TEXT NOT NULL, measured_ms INTEGER NOT NULL, row TEXT NOT NULL, expire_ms INTEGER,
  PRIMARY KEY (site, pusher, measured_ms)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS archive_time ON archive (site, measured_ms);
CREATE INDEX IF NOT EXISTS archive_expiry ON archive (site, expire_ms) WHERE expire_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS days (
  site TEXT NOT NULL, day TEXT NOT NULL, totals TEXT, due INTEGER NOT NULL, version INTEGER NOT NULL,
  PRIMARY KEY (site, day)
) WITHOUT ROWID;
"""


class SqliteStore:
    """A `Store` in one file. Also keeps the signing key that it makes when the environment has none."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is opened, and made if need be, at the first call."""
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._writing = asyncio.Lock()

    async def load(self, name: str) -> Stored | None:
        """See `Store`."""

        def work(db: sqlite3.Connection) -> Stored | None:
            found = db.execute("SELECT doc, version FROM sites WHERE site = ?", (name,)).fetchone()
            return Stored(Site.model_validate_json(found[0]), found[1]) if found else None

        return await self._run(work)

    async def save(self, name: str, site: Site, version: object | None, summary: Mapping[str, Any] | None) -> object:
        """See `Store`."""
        doc = site.model_dump_json(exclude_defaults=True)
        fields = {"doc": doc, **(summary or {})}
        new = version + 1 if isinstance(version, int) else 1

        def work(db: sqlite3.Connection) -> object:
            # Names of fields are constants of this program, so they may stand in the text.
            values = {"site": name, "version": new, **fields}
            if version is None:
                marks = ", ".join(f":{field}" for field in values)
                sql = f"INSERT INTO sites ({', '.join(values)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - see above
            else:
                changes = ", ".join(f"{field} = :{field}" for field in ("version", *fields))
                sql = f"UPDATE sites SET {changes} WHERE site = :site AND version = :version - 1"  # noqa: S608 - see above
            done = db.execute(sql, values)
            if done.rowcount != 1:
                raise Contended(name)
            return new

        return await self._write(work)

    async def page(self, after: str, size: int) -> list[tuple[str, Site]]:
        """See `Store`."""
        found = await self._run(
            lambda db: db.execute(
                "SELECT site, doc FROM sites WHERE site > ? ORDER BY site LIMIT ?", (after, size)
            ).fetchall()
        )
        return [(name, Site.model_validate_json(doc)) for name, doc in found]

    async def fleet(self, since_minute: int) -> Fleet:
        """See `Store`."""
        powers = SUMMARY[1:]
        sums = ", ".join(f"total({name}) FILTER (WHERE minute >= :since)" for name in powers)
        sites, fresh, *power = await self._run(
            lambda db: db.execute(
                f"SELECT count(minute), count(*) FILTER (WHERE minute >= :since), {sums} FROM sites",  # noqa: S608 - constants
                {"since": since_minute},
            ).fetchone()
        )
        return Fleet(sites, fresh, dict(zip(powers, power, strict=True)))

    async def append(self, name: str, pusher: str, rows: Sequence["Row"], due: Collection[date] = ()) -> None:
        """See `Store`."""
        records = [
            (name, pusher, measured_ms(row.measured_at), row.model_dump_json(exclude_unset=True)) for row in rows
        ]
        marks = [(name, day.isoformat()) for day in due]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?, NULL)", records)
            db.executemany(
                "INSERT INTO days VALUES (?, ?, NULL, 1, 1) ON CONFLICT DO UPDATE SET due = 1, version = version + 1",
                marks,
            )
            now_ms = measured_ms(datetime.now(UTC))
            db.execute("DELETE FROM archive WHERE site = ? AND expire_ms < ?", (name, now_ms))

        await self._write(work)

    async def rows(self, name: str, start: datetime, end: datetime) -> AsyncIterator[Archived]:
        """See `Store`."""
        found = await self._run(
            lambda db: db.execute(
                "SELECT pusher, row FROM archive WHERE site = ? AND measured_ms >= ? AND measured_ms < ?",
                (name, measured_ms(start), measured_ms(end)),
            ).fetchall()
        )
        for pusher, row in found:
            yield Archived.from_json(pusher, row)

    async def first_row_at(self, name: str) -> datetime | None:
        """See `Store`."""
        (first_ms,) = await self._run(
            lambda db: db.execute("SELECT min(measured_ms) FROM archive WHERE site = ?", (name,)).fetchone()
        )
        return None if first_ms is None else EPOCH + timedelta(milliseconds=first_ms)

    async def days(self, name: str, first: date, last: date) -> dict[date, StoredDay]:
        """See `Store`."""
        found = await self._run(
            lambda db: db.execute(
                "SELECT day, totals, due, version FROM days WHERE site = ? AND day >= ? AND day <= ?",
                (name, first.isoformat(), last.isoformat()),
            ).fetchall()
        )
        return {date.fromisoformat(day): StoredDay(totals, bool(due), version) for day, totals, due, version in found}

    async def finish_day(
        self, name: str, day: date, totals: str, version: object | None, rows: Iterable[Archived], expire_at: datetime
    ) -> None:
        """See `Store`."""
        made_of = [
            (measured_ms(expire_at), name, archived.pusher, measured_ms(archived.row.measured_at)) for archived in rows
        ]

        def work(db: sqlite3.Connection) -> None:
            if version is None:
                sql = "INSERT INTO days VALUES (?1, ?2, ?3, 0, 1) ON CONFLICT DO NOTHING"
            else:
                sql = "UPDATE days SET totals = ?3, due = 0, version = ?4 + 1 WHERE (site, day, version) = (?1, ?2, ?4)"
            values = (name, day.isoformat(), totals) if version is None else (name, day.isoformat(), totals, version)
            if db.execute(sql, values).rowcount != 1:
                raise Contended(name)
            db.executemany(
                "UPDATE archive SET expire_ms = ? WHERE site = ? AND pusher = ? AND measured_ms = ?", made_of
            )

        await self._write(work)

    async def forget(self, name: str) -> None:
        """See `Store`."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM archive WHERE site = ?", (name,))
            db.execute("DELETE FROM days WHERE site = ?", (name,))

        await self._write(work, timeout_s=None)  # years of rows take their time

    async def close(self) -> None:
        """See `Store`."""
        connection, self._connection = self._connection, None
        if connection:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)

    def signing_key(self) -> str:
        """The key that this file keeps for itself, made at the first call. Blocking; for start-up and commands."""

        def work(db: sqlite3.Connection) -> str:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('signing_key', ?)", (secrets.token_urlsafe(48),))
            (key,) = db.execute("SELECT value FROM meta WHERE name = 'signing_key'").fetchone()
            return str(key)

        key = self._transaction(work)
        if self._connection:  # a fork may follow, which a connection would not survive
            self._connection.close()
            self._connection = None
        return key

    def _open(self) -> sqlite3.Connection:
        if not self._path.parent.is_dir():
            raise StoreUnavailable(f"the folder {self._path.parent} does not exist; make it, or name another file")
        # The file holds the signing key: nobody but its owner reads it.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(TABLES)
        return db

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async with self._bounded(CALL_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    async def _write(self, work: Callable[[sqlite3.Connection], T], timeout_s: float | None = CALL_TIMEOUT_S) -> T:
        async with self._bounded(timeout_s), self._writing:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    @asynccontextmanager
    async def _bounded(self, timeout_s: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise StoreUnavailable(f"{self._path}: busy; no answer within {timeout_s} s") from None

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._open()
            with self._connection:  # commits, or rolls back what an exception left half done
                return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
