"""What can still be read of a damaged outbox: a torn, truncated or overwritten file costs only its unreadable rows.

Only reads; must never raise, for a damaged file may not keep the pusher from starting.
"""

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Unstamped", "readable_rows"]

SALVAGE_LIMIT_S = 120
"""How long may be spent on a damaged file; a lookup by id takes some microseconds."""
SMALLEST_ROW_BYTES = 60
"""Bounds how many rows a file can hold."""

_DAMAGE = (sqlite3.Error, OSError, ValueError, TypeError, OverflowError)
"""What a damaged file makes SQLite and its results raise."""


@dataclass(frozen=True, slots=True)
class Unstamped:
    """A row as it is put in; `stamp_ms` is None until the clock is known."""

    boot: str
    monotonic_s: float
    wall_s: float
    stamp_ms: int | None
    duration_s: float
    devices: str
    """`device_values` as JSON."""


def readable_rows(path: Path) -> list[tuple[int, Unstamped]]:
    """What can still be read of a damaged file, row by row, with its id: one bad page costs only its own rows."""
    saved: list[tuple[int, Unstamped]] = []
    give_up_s = time.monotonic() + SALVAGE_LIMIT_S
    with suppress(*_DAMAGE):
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.execute("pragma writable_schema=on")  # makes SQLite open a file that is shorter than its header says
            for row_id in sorted(_ids(db, path.stat().st_size // SMALLEST_ROW_BYTES)):
                if time.monotonic() > give_up_s:
                    break
                row = _read(db, row_id)
                if row is not None:
                    saved.append((row_id, row))
        finally:
            db.close()
    return saved


def _ids(db: sqlite3.Connection, most: int) -> set[int]:
    """Ids that may be in a damaged table of at most so many rows: those up to each end that can still be found."""
    ids: set[int] = set()
    for query, ahead in (
        ("select seq from sqlite_sequence where name = 'rows'", 0),
        ("select max(id) from rows", 0),
        ("select min(id) from rows", most),
    ):
        with suppress(*_DAMAGE):
            last = int(db.execute(query).fetchone()[0]) + ahead
            ids |= set(range(max(1, last - most), last + 1))
    return ids


def _read(db: sqlite3.Connection, row_id: int) -> Unstamped | None:
    with suppress(*_DAMAGE):
        row = db.execute(
            "select boot, monotonic_s, wall_s, stamp_ms, duration_s, devices from rows where id = ?", (row_id,)
        ).fetchone()
        if row and _plausible(row):
            return Unstamped(*row)
    return None


def _plausible(row: Sequence[Any]) -> bool:
    boot, monotonic_s, wall_s, stamp_ms, duration_s, devices = row
    numbers = all(isinstance(number, float | int) for number in (monotonic_s, wall_s, duration_s))
    texts = isinstance(boot, str) and isinstance(devices, str)
    return numbers and texts and isinstance(stamp_ms, int | None) and isinstance(json.loads(devices), dict)
