"""SIGHUP: whatever was read is kept, once, over any number of reloads; as rows of an instant, and in an open window."""

import asyncio
import json
import logging
import random
import sqlite3
import threading

import pytest
from aiohttp import web

from pusher.archive import ArchiveLane
from pusher.config import Archive
from pusher.daemon import new_clock
from pusher.holds import Holds
from pusher.outbox import Outbox
from pusher.state_log import StateLog
from pusher.uplink import Uplink
from tests.pusher.parts import pusher_of, until
from tests.pusher.sources.servers import http_device

NOWHERE = "http://127.0.0.1:9"
"""All rows stay in the outbox."""
RELOADS = 4


class Meter:
    """Counts how often it was asked, and answers with that; `slow` answers take longer than a tick waits for them."""

    def __init__(self, device):
        self.count = 0
        self.slow = False
        self.url = device.url
        device.answers["/"] = self._answer

    async def _answer(self, _request):
        self.count += 1
        count = self.count
        if self.slow:
            await asyncio.sleep(0.12)
        return web.json_response(count)

    @property
    def config(self):
        return f"""
          - energy_meter: 0
            every: 200ms
            http: {{url: "{self.url}/", values: {{grid_power_w: "@"}}}}
        """


@pytest.fixture
async def meter():
    async with http_device() as device:
        yield Meter(device)


def kept(pusher):
    """The powers of the rows in the outbox, oldest first, and the seconds that each row stands for."""
    with sqlite3.connect(pusher.state_dir / "outbox.db") as box:
        rows = box.execute("select devices, duration_s from rows order by id").fetchall()
    box.close()
    return [(json.loads(devices)["energy_meters"]["0"]["grid_power_w"], duration_s) for devices, duration_s in rows]


async def reloaded(pusher, meter, chance):
    """Reload several times, at any moment between two readings, then stop."""
    for number in range(1, RELOADS + 1):
        count = meter.count
        await until(lambda count=count: meter.count > count + 2, "it is read")
        await asyncio.sleep(chance.uniform(0, 0.25))
        pusher.kill(1)
        await until(
            lambda number=number: pusher.said().count("the configuration was read anew: 1 devices") == number,
            "the configuration is read anew",
        )
    assert await pusher.stop() == 0


@pytest.mark.parametrize("slow", [False, True], ids=["in time", "later than a tick waits"])
async def test_each_reading_is_a_row_over_all_reloads(meter, tmp_path, slow):
    meter.slow = slow
    more = "archive: {every: 0s, send_every: 1s}"
    async with pusher_of(tmp_path, NOWHERE, "a-token", meter.config, more=more) as pusher:
        await reloaded(pusher, meter, random.Random(3))
    assert [power for power, _ in kept(pusher)] == list(range(1, meter.count + 1))


async def test_an_open_window_is_kept_as_a_shorter_row_and_the_next_begins_where_it_ended(meter, tmp_path):
    meter.slow = True
    more = "archive: {every: 60s, send_every: 1s}"
    async with pusher_of(tmp_path, NOWHERE, "a-token", meter.config, more=more) as pusher:
        await reloaded(pusher, meter, random.Random(5))
    rows = kept(pusher)
    assert RELOADS + 1 <= len(rows) <= RELOADS + 3, "a row for each configuration, and where a minute ended"
    first = 1
    for mean, duration_s in rows:
        last = 2 * mean - first  # the mean of whole numbers in a row says where they end
        assert last >= first, "no reading is there twice"
        assert 0 < duration_s < 60
        first = last + 1
    assert first == meter.count + 1, "no reading is missing"


async def test_a_row_whose_commit_is_under_way_is_committed_all_the_same(tmp_path):
    clock = new_clock()
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=10**6, max_age_s=3600, boot=clock.boot)
    lane = ArchiveLane(
        "barn", Archive(every="0s"), outbox,
        clock=clock, uplink=Uplink(NOWHERE, str, clock), holds=Holds(), said=StateLog(logging.getLogger()),
    )  # fmt: skip
    await lane.open()
    disk_is_slow = threading.Event()
    lane._thread.submit(disk_is_slow.wait)
    keeping = asyncio.create_task(lane.keep())
    lane.take({"energy_meters/0": ({"grid_power_w": 7}, 1.0)}, 1.0)
    await until(lambda: not lane._made, "the commit is under way")
    keeping.cancel()
    await asyncio.wait([keeping])
    disk_is_slow.set()
    await lane.close()
    with sqlite3.connect(tmp_path / "outbox.db") as box:
        [[devices]] = box.execute("select devices from rows").fetchall()
    box.close()
    assert json.loads(devices) == {"energy_meters": {"0": {"grid_power_w": 7}}}
