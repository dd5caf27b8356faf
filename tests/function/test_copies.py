"""Copies in front of the store: never older than what this instance wrote, and an index that moves once a minute."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from function.sites import Sites
from function.stores import StoreUnavailable
from schemas.site import Site
from tests.function.conftest import serving

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Watched:
    """A real store, whose reads may be held up and whose writes are remembered."""

    def __init__(self, store):
        self.store = store
        self.summaries = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.reading = asyncio.Event()

    async def load(self, name):
        found = await self.store.load(name)
        self.reading.set()
        await self.go_on.wait()
        return found

    async def save(self, name, site, version, summary):
        self.summaries.append(summary)
        return await self.store.save(name, site, version, summary)


def heard(at):
    return lambda site, _exists: site.model_copy(update={"heard_at": at})


async def test_a_read_that_a_write_overtakes_does_not_bring_the_old_back(store):
    watched = Watched(store)
    sites = Sites(watched)
    await sites.change("home", heard(NOON), NOON)
    watched.reading.clear()
    watched.go_on.clear()
    overtaken = asyncio.create_task(sites.get("home", max_age_s=-1))
    await watched.reading.wait()
    await sites.change("home", heard(NOON + timedelta(hours=1)), NOON)
    watched.go_on.set()
    assert (await overtaken).site.heard_at == NOON + timedelta(hours=1)
    assert sites.copy("home", 60).site.heard_at == NOON + timedelta(hours=1)


async def test_what_fleet_queries_look_at_is_written_once_a_minute(store):
    watched = Watched(store)
    sites = Sites(watched)
    for second in (0, 5, 59, 60, 65):
        await sites.change("home", heard(NOON + timedelta(seconds=second)), NOON)
    minutes = [summary and summary["minute"] for summary in watched.summaries]
    minute = int(NOON.timestamp()) // 60
    assert minutes == [minute, None, None, minute + 1, None]
    assert (await store.fleet(minute + 1)).fresh == 1


async def test_changes_do_not_queue_up_before_a_slow_store(store, monkeypatch):
    monkeypatch.setattr("function.sites.CHANGE_TIMEOUT_S", 0.05)
    watched = Watched(store)
    sites = Sites(watched)
    watched.go_on.clear()
    changes = (sites.change("home", heard(NOON), NOON) for _ in range(5))
    failures = await asyncio.gather(*changes, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreUnavailable] * 5
    watched.go_on.set()
    monkeypatch.undo()
    assert (await sites.change("home", heard(NOON), NOON)).site.heard_at == NOON


async def test_a_change_that_changes_nothing_writes_nothing(store):
    watched = Watched(store)
    copy = await Sites(watched).change("home", lambda site, _exists: site, NOON)
    assert (copy.site, watched.summaries) == (Site(), [])


async def test_a_token_revoked_at_one_instance_is_refused_by_every_other_within_a_minute(store, monkeypatch):
    later_s = 0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later_s)
    monkeypatch.setattr("function.sites.time", clock)  # theirs alone: the event loop keeps its own
    async with serving(store) as one, serving(store) as other:
        push, read, admin = (one.token(scope=scope) for scope in ("push", "read", "admin"))
        meter = {"energy_meters": {"0": {"grid_power_w": 1}}}

        async def answers(server):
            tries = [server.call("GET", "/api/v1/whoami", token) for token in (push, read, admin)]
            tries += [server.call("GET", "/api/v1/values.json", read), server.call("GET", "/api/v1/sites/home", read)]
            tries += [server.call("POST", "/api/v1/live", push, server.live(meter))]
            return {status for status, _, _ in await asyncio.gather(*tries)}

        await one.post_live(meter)
        assert await answers(one) == await answers(other) == {200}
        assert (await one.call("PUT", "/api/v1/sites/home", admin, {"token_generation": 1}))[0] == 200
        assert await answers(one) == {401}
        later_s = 60
        assert await answers(other) == {401}
