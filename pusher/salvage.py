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
    with suppress(sqlite3.Error):
        db = sqlite3.connect(path, isolation_level=None)
        try:
            first, last = _id_range(db)
            for row_id in range(first, last + 1):
                if time.monotonic() > give_up_s:
                    break
                with suppress(sqlite3.DatabaseError, TypeError, ValueError):
                    row = db.execute(
                        "select boot, monotonic_s, wall_s, stamp_ms, duration_s, devices from rows where id = ?",
                        (row_id,),
                    ).fetchone()
                    if row and _plausible(row):
                        saved.append((row_id, Unstamped(*row)))
        finally:
            db.close()
    return saved


def _id_range(db: sqlite3.Connection) -> tuple[int, int]:
    """The lowest and highest id that may be in a damaged table."""
    highest = 0
    with suppress(sqlite3.DatabaseError):
        highest = db.execute("select seq from sqlite_sequence where name = 'rows'").fetchone()[0]
    with suppress(sqlite3.DatabaseError, TypeError):
        highest = max(highest, db.execute("select id from rows order by id desc limit 1").fetchone()[0])
    lowest = 1
    with suppress(sqlite3.DatabaseError, TypeError):
        lowest = db.execute("select id from rows order by id limit 1").fetchone()[0]
    return lowest, highest


def _plausible(row: Sequence[Any]) -> bool:
    boot, monotonic_s, wall_s, stamp_ms, duration_s, devices = row
    numbers = all(isinstance(number, float | int) for number in (monotonic_s, wall_s, duration_s))
    texts = isinstance(boot, str) and isinstance(devices, str)
    return numbers and texts and isinstance(stamp_ms, int | None) and isinstance(json.loads(devices), dict)
