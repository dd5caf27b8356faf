"""The embedded store while somebody else has the file."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from function.stores import StoreUnavailable
from function.stores.sqlite import SqliteStore
from schemas.document import DeviceValues
from schemas.messages import Row
from schemas.site import Site


async def test_calls_do_not_queue_up_before_a_locked_file_and_work_again_after_it(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setattr("function.stores.sqlite.BUSY_TIMEOUT_S", 0.2)
    store = SqliteStore(path)
    await store.save("home", Site(), None, None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with monkeypatch.context() as patch:
        patch.setattr("function.stores.sqlite.CALL_TIMEOUT_S", 0.1)
        began = [store.load("home") for _ in range(20)]
        for failure in await asyncio.gather(*began, return_exceptions=True):
            assert isinstance(failure, StoreUnavailable)
    other.close()
    assert await store.load("home") is not None
    await store.close()


async def test_a_read_waits_for_one_write_and_not_for_all_that_are_to_be(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    await store.save("home", Site(), None, None)
    begin = datetime.now(UTC) - timedelta(days=1)
    rows = [
        Row(measured_at=begin + timedelta(minutes=number), duration_s=60, device_values=DeviceValues(load_power_w=1))
        for number in range(400)
    ]
    writes = [asyncio.create_task(store.append("home", f"pusher-{number}", rows)) for number in range(30)]
    await asyncio.sleep(0)  # all have begun
    assert await store.load("home") is not None
    assert sum(write.done() for write in writes) <= 2
    await asyncio.gather(*writes)
    await store.close()


async def test_a_change_that_meets_a_locked_file_stores_nothing(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setattr("function.stores.sqlite.BUSY_TIMEOUT_S", 0.1)
    store = SqliteStore(path)
    version = await store.save("home", Site(), None, None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.save("home", Site(deleted=True), version, None)
    other.close()
    kept = await store.load("home")
    assert kept is not None
    assert kept.site == Site()
    await store.close()


async def test_a_post_of_rows_finds_what_has_expired_by_an_index(tmp_path):
    """And does not look at every row of the site, while polls wait."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.save("home", Site(), None, None)
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        plan = db.execute("EXPLAIN QUERY PLAN DELETE FROM archive WHERE site = 'home' AND expire_ms < 5").fetchall()
    assert "archive_expiry (site=? AND expire_ms<?)" in plan[0][-1]
