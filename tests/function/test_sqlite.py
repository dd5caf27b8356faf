"""The embedded store while somebody else has the file."""

import asyncio
import sqlite3

import pytest

from function.stores import StoreUnavailable
from function.stores.sqlite import SqliteStore
from schemas.site import Site


async def test_calls_do_not_queue_up_before_a_locked_file_and_work_again_after_it(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setattr("function.stores.sqlite.BUSY_TIMEOUT_S", 0.2)
    store = SqliteStore(path)
    await store.save("home", Site(), None, None)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = [store._run(lambda db: db.execute("SELECT 1 FROM sites").fetchall(), timeout_s=0.1) for _ in range(20)]
    for failure in await asyncio.gather(*began, return_exceptions=True):
        assert isinstance(failure, StoreUnavailable)
    other.close()
    assert await store.load("home") is not None
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
