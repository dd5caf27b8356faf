"""What the lanes put on the wire, seen between a real daemon and a real function."""

import asyncio
import gzip
import itertools
import logging
import os
import signal

import pytest

from pusher.config import Live
from pusher.daemon import new_clock
from pusher.holds import Holds
from pusher.live import LiveLane
from pusher.site_copy import SiteCopy
from pusher.state_log import StateLog
from pusher.tasks import end
from pusher.uplink import Uplink
from schemas.times import parse_time
from tests.pusher.parts import problem, pusher_of, until
from tests.pusher.sources.servers import http_device

LIVE, READINGS = "/api/v1/live", "/api/v1/readings"
MORE = "archive: {every: 0s, send_every: 1s}\nlive: {dead_band_w: 20, heartbeat: 1500ms}"


@pytest.fixture
async def meter():
    async with http_device({"/": {"total": 100}}) as device:
        yield device


def devices(meter):
    return f"""
      - energy_meter: 0
        every: 200ms
        timeout: 1s
        info: {{name: Grid, location: 1}}
        http: {{url: "{meter.url}/", values: {{grid_power_w: total}}}}
    """


def power(post):
    return post["device_values"].get("energy_meters", {}).get("0", {}).get("grid_power_w")


def posts(middle):
    return middle.posts(LIVE)


async def test_the_first_post_describes_the_devices_and_asks_for_the_site_as_heartbeats_do(
    cloud, middle, meter, tmp_path
):
    async with pusher_of(tmp_path, middle.url, await cloud.token(), devices(meter), more=MORE):
        await until(lambda: len(posts(middle)) >= 3, "a post and two heartbeats")
    first, *heartbeats = posts(middle)
    assert first["device_info"] == {"energy_meters": {"0": {"name": "Grid", "location": 1}}}
    assert not any("device_info" in post for post in heartbeats)
    wanted = [headers.get("Prefer") for path, _, headers in middle.bodies if path == LIVE]
    assert wanted == ["return=representation"] * len(wanted)


async def test_a_value_that_stays_is_posted_with_the_heartbeat_alone_and_one_that_moves_at_once(
    cloud, middle, meter, tmp_path
):
    async with pusher_of(tmp_path, middle.url, await cloud.token(), devices(meter), more=MORE):
        await until(lambda: len(posts(middle)) >= 4, "a post and three heartbeats")
        sent = [parse_time(post["sent_at"]) for post in posts(middle)]
        gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(sent)]
        assert min(gaps) > 1, "six ticks and more lie between two posts of what stays"
        assert all(power(post) == 100 for post in posts(middle))
        meter.answers["/"] = {"total": 500}
        await until(lambda: power(posts(middle)[-1]) == 500, "the change is posted")


async def test_one_post_is_in_flight_however_slow_the_function_is(cloud, middle, meter, tmp_path):
    inside, most = 0, 0

    async def slow(request, _body):
        nonlocal inside, most
        if request.path == LIVE:
            inside += 1
            most = max(most, inside)
            meter.answers["/"] = {"total": 100 * middle.seen[LIVE]}
            await asyncio.sleep(0.7)
            inside -= 1

    middle.fault = slow
    async with pusher_of(tmp_path, middle.url, await cloud.token(), devices(meter), more=MORE):
        await until(lambda: middle.seen[LIVE] >= 5, "five posts")
    assert most == 1


async def test_a_post_that_fails_is_superseded_by_the_newest_reading(cloud, middle, meter, tmp_path):
    failed = []

    def fault(request, body):
        if request.path == LIVE and len(failed) < 3:
            failed.append(body)
            meter.answers["/"] = {"total": 1000 * len(failed)}
            return problem(503, "not now")
        return None

    middle.fault = fault
    read = await cloud.token("read")
    async with pusher_of(tmp_path, middle.url, await cloud.token(), devices(meter), more=MORE):

        async def newest_shown():
            status, document = await cloud.get("/api/v1/values.json", read)
            return status == 200 and document["device_values"]["energy_meters"]["0"]["grid_power_w"] == 3000

        await until(newest_shown, "the newest reading arrives")
    taken = posts(middle)[3]
    assert power(taken) == 3000
    assert "device_info" in taken, "said again until it is acknowledged"
    times = [post["measured_at"] for post in posts(middle)]
    assert times == sorted(set(times)), "stamps only grow"


async def test_a_device_that_falls_silent_is_given_as_null_once_and_with_values_when_it_is_back(
    cloud, middle, meter, tmp_path
):
    async with pusher_of(tmp_path, middle.url, await cloud.token(), devices(meter), more=MORE):
        await until(lambda: posts(middle), "it posts")
        good = meter.answers.pop("/")

        def nulls():
            return [post for post in posts(middle) if post["device_values"].get("energy_meters", {}) == {"0": None}]

        await until(nulls, "the device is withdrawn")
        count = len(posts(middle))
        await until(lambda: len(posts(middle)) > count + 1, "heartbeats go on")
        assert len(nulls()) == 1
        meter.answers["/"] = good
        await until(lambda: power(posts(middle)[-1]) == 100, "the device is back")


async def test_rows_are_sent_gzipped_with_their_length_and_history_holds_what_was_read(cloud, middle, meter, tmp_path):
    raw = []

    def keep(request, _body):
        if request.path == READINGS:
            raw.append(dict(request.headers))

    middle.fault = keep
    token = await cloud.token()
    async with pusher_of(tmp_path, middle.url, token, devices(meter), more=MORE) as pusher:
        await until(cloud.rows, "history has rows")
        await pusher.stop()
        assert token not in pusher.said()
    assert raw[0]["Content-Encoding"] == "gzip"
    assert int(raw[0]["Content-Length"]) < len(gzip.compress(b"x" * 10)) + 5_000
    assert "Transfer-Encoding" not in raw[0]
    [row, *_] = await cloud.rows()
    assert row.device_values.energy_meters["0"].grid_power_w == 100


async def test_a_partial_row_is_kept_at_shutdown_and_sent_by_the_next_run(cloud, meter, tmp_path):
    more = "archive: {every: 15m, send_every: 1s}"
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), devices(meter), more=more) as pusher:

        async def read_some():
            return (await pusher.status())["devices"][0]["values"]

        await until(read_some, "the meter is read")
        await pusher.stop()
        assert await cloud.rows() == []
        await pusher.start()
        [row] = await until(cloud.rows, "the kept row is sent")
        assert row.device_values.energy_meters["0"].grid_power_w == 100
        assert row.duration_s < 60


@pytest.mark.parametrize("steps", range(8))
async def test_the_live_lane_ends_at_whatever_moment_it_is_told_to(tmp_path, steps):
    """Also in the very step of the event loop in which a reading wakes it."""
    clock = new_clock()
    lane = LiveLane(
        "barn", Live(), [], tick_s=1, clock=clock, uplink=Uplink("http://127.0.0.1:1", str, clock), holds=Holds(),
        copy=SiteCopy(tmp_path / "site.json"), said=StateLog(logging.getLogger("pusher")),
    )  # fmt: skip
    running = asyncio.create_task(lane.run())
    await asyncio.sleep(0.01)
    lane.late()
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=2)
    running.cancel()
    assert done


async def test_a_pusher_that_the_host_froze_for_a_while_ends_when_told(cloud, meter, tmp_path):
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), devices(meter), more=MORE) as pusher:
        os.kill(pusher.process.pid, signal.SIGSTOP)
        await asyncio.sleep(2)
        os.kill(pusher.process.pid, signal.SIGCONT)
        pusher.process.terminate()
        assert await asyncio.wait_for(pusher.process.wait(), 10) == 0


async def test_a_task_that_swallows_the_order_to_end_is_told_again():
    heard = []

    async def deaf_once():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard.append("order")
                if len(heard) == 2:
                    raise

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await end([task])
    assert (task.cancelled(), heard) == (True, ["order", "order"])
