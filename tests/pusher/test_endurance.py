"""What a pusher lives through in years, with the real daemon as a process and a real function behind it.

History is what counts: every row that was committed is in it once, whatever happened on the way.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from pusher.clock import boot_id
from pusher.outbox import Outbox
from pusher.salvage import Unstamped
from tests.conftest import lacking
from tests.pusher.parts import problem, pusher_of, until
from tests.pusher.sources.servers import http_device

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
FAST = "archive: {every: 0s, send_every: 1s}"


class CountingMeter:
    """A meter that never says the same number twice, so that a reading that is there twice shows."""

    def __init__(self, device):
        self.count = 0
        self.url = device.url
        device.answers["/"] = self._answer

    async def _answer(self, _request):
        self.count += 1
        return web.json_response({"total": self.count / 10})

    @property
    def config(self):
        return f"""
          - energy_meter: 0
            every: 200ms
            info: {{name: Grid, location: 1}}
            http: {{url: "{self.url}/", values: {{grid_power_w: total}}}}
        """


@pytest.fixture
async def meter():
    async with http_device() as device:
        yield CountingMeter(device)


def outbox_of(folder):
    box = Outbox(folder / "outbox.db", max_bytes=10**8, max_age_s=30 * 86400, boot=boot_id())
    box.open()
    return box


def seeded(number, *, start=START, devices=None):
    """A committed row of an earlier boot; its power tells which it is."""
    at = start + timedelta(seconds=60 * number)
    values = devices or {"energy_meters": {"0": {"grid_power_w": -number - 1}}}
    return Unstamped("an earlier boot", 0.0, at.timestamp(), int(at.timestamp() * 1000), 60.0, json.dumps(values))


def seed(folder, rows):
    box = outbox_of(folder)
    box.add(rows)
    box.close()


def powers(rows):
    return Counter(meter.grid_power_w for row in rows for meter in row.device_values.energy_meters.values())


def left_in(folder):
    """The powers of the rows that are committed and not sent, as they lie on disk."""
    box = outbox_of(folder)
    rows = box._db.execute("select devices from rows").fetchall()
    box.close()
    return {json.loads(devices)["energy_meters"]["0"]["grid_power_w"] for (devices,) in rows}


async def drained(pusher):
    """Whether nothing waits in the outbox but the newest rows."""
    status = await pusher.status()
    if not status or status["archive"]["last_s"] is None:
        return False
    oldest = status["archive"]["oldest"]
    return oldest is None or datetime.now(UTC) - datetime.fromisoformat(oldest) < timedelta(seconds=5)


async def test_kill_9_at_random_moments_loses_no_committed_row_and_doubles_none(cloud, meter, tmp_path):
    state = tmp_path / "state"
    seed(state, [seeded(number) for number in range(4000)])
    committed = {-number - 1 for number in range(4000)}
    chance = random.Random(7)
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), meter.config, more=FAST, start=False) as pusher:
        for _ in range(8):
            await pusher.start()
            await asyncio.sleep(chance.uniform(0.1, 1.2))
            pusher.kill()
            await pusher.process.wait()
            committed |= left_in(state)
        await pusher.start()
        await until(lambda: drained(pusher), "the outbox is empty")
        assert await pusher.stop() == 0
    committed |= left_in(state)
    found = powers(await cloud.rows())
    missing = committed - found.keys() - left_in(state)
    assert not missing
    assert [power for power, count in found.items() if count > 1] == []


async def test_an_answer_that_is_lost_after_it_was_stored_doubles_nothing(cloud, middle, meter, tmp_path):
    seed(tmp_path / "state", [seeded(number) for number in range(700)])
    middle.lose = "/api/v1/readings"
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: middle.seen["/api/v1/readings"] >= 1, "a batch was sent, its answer lost")
        middle.lose = None
        await until(lambda: drained(pusher), "the outbox is empty")
        await pusher.stop()
    found = powers(await cloud.rows())
    assert {-number - 1 for number in range(700)} <= found.keys()
    assert max(found.values()) == 1


async def test_an_outage_longer_than_the_outbox_keeps_costs_the_oldest_rows_only_and_says_so(cloud, meter, tmp_path):
    old = [seeded(number, start=START - timedelta(days=40)) for number in range(10)]
    seed(tmp_path / "state", old + [seeded(number) for number in range(100, 110)])
    await cloud.stop()
    token = await cloud.token()
    async with pusher_of(tmp_path, cloud.url, token, meter.config, more=FAST) as pusher:
        await until(lambda: "cannot be reached" in pusher.said(), "the pusher says that the function is gone")
        assert (await pusher.ask("/api/v1/values.json"))[0] == 200
        await cloud.start()
        await until(lambda: drained(pusher), "the outbox is empty")
        assert (await pusher.status())["archive"]["dropped"] == 10
        code, said = await pusher.command("status")
        assert code == 1
        assert "10 dropped" in said
    found = powers(await cloud.rows())
    assert {-number - 1 for number in range(100, 110)} <= found.keys()
    assert not {-number - 1 for number in range(10)} & found.keys()


async def test_rows_that_are_too_old_are_dropped_also_where_their_own_lane_is_the_first_to_learn_the_time(
    cloud, middle, meter, tmp_path
):
    seed(tmp_path / "state", [seeded(number, start=START - timedelta(days=40)) for number in range(10)] + [seeded(10)])
    middle.fault = lambda request, _: problem(503) if request.path == "/api/v1/live" else None
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty")
        assert (await pusher.status())["archive"]["dropped"] == 10
    found = powers(await cloud.rows())
    assert -11 in found
    assert not {-number - 1 for number in range(10)} & found.keys()


@pytest.mark.parametrize("damage", ["rubbish", "torn page", "truncated", "emptied"])
async def test_a_damaged_outbox_is_put_aside_and_what_is_readable_arrives(cloud, meter, tmp_path, damage):
    state = tmp_path / "state"
    seed(state, [seeded(number) for number in range(1000)])
    file = state / "outbox.db"
    whole = bytearray(file.read_bytes())
    middle = len(whole) // 2 // 4096 * 4096
    file.write_bytes(
        {
            "rubbish": os.urandom(len(whole)),
            "torn page": bytes(whole[:middle]) + os.urandom(4096) + bytes(whole[middle + 4096 :]),
            "truncated": bytes(whole[:middle]),
            "emptied": b"",
        }[damage]
    )
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty")
        await pusher.stop()
        if damage != "emptied":
            assert "was damaged" in pusher.said()
            assert [path for path in state.iterdir() if "damaged" in path.name]
    found = powers(await cloud.rows())
    survivors = sum(power < 0 for power in found)
    assert survivors >= {"rubbish": 0, "torn page": 950, "truncated": 300, "emptied": 0}[damage]
    assert any(power > 0 for power in found), "new rows go on"


@contextlib.contextmanager
def small_disk(place):
    """A file system of 1 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        lacking(f"no tmpfs: {mounted.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk_stops_nothing_and_loses_no_row_once_there_is_room_again(cloud, meter, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk):
        await cloud.stop()
        token = await cloud.token()
        async with pusher_of(tmp_path, cloud.url, token, meter.config, more=FAST, state_dir=disk) as pusher:
            with (disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    try:
                        filler.write(b"x" * 4096)
                    except OSError:
                        break

            async def in_memory():
                return (await pusher.status())["archive"]["in_memory"] > 3

            await until(in_memory, "rows wait in memory")
            assert "wait in memory" in pusher.said()
            assert (await pusher.ask("/api/v1/values.json"))[0] == 200
            (disk / "filler").unlink()
            count = meter.count
            await cloud.start()
            await until(lambda: drained(pusher), "the outbox is empty", 90)
            assert await pusher.stop() == 0
        found = powers(await cloud.rows())
        assert max(found.values()) == 1
        assert len(found) >= count - 1, "every reading, but perhaps the one that was under way"


async def test_a_disk_that_is_full_from_the_start_keeps_nothing_from_starting(cloud, meter, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk):
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 65536):
                pass
        with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
            while filler.write(b"x"):
                pass
        token, read = await cloud.token(), await cloud.token("read")
        async with pusher_of(tmp_path, cloud.url, token, meter.config, more=FAST, state_dir=disk) as pusher:

            async def shown():
                return (await cloud.get("/api/v1/values.json", read))[0] == 200

            await until(shown, "the wallbox reads values all the same")
            assert (await pusher.status())["archive"]["disk"]
            (disk / "filler").unlink()
            await until(cloud.rows, "with room again history begins", 90)


STEPPING = """
import sys, time
real = time.time
def stepped():
    try:
        return real() + float(open({steps!r}).read() or 0)
    except OSError:
        return real()
time.time = stepped
sys.argv = ["pusher.daemon", {config!r}]
from pusher.daemon import main
sys.exit(main())
"""


async def test_a_clock_that_steps_by_hours_changes_no_stamp(cloud, meter, tmp_path):
    steps = tmp_path / "steps"
    steps.write_text("10800")
    began = datetime.now(UTC)
    token, read = await cloud.token(), await cloud.token("read")
    async with pusher_of(tmp_path, cloud.url, token, meter.config, more=FAST, start=False) as pusher:
        await pusher.start(wrapper=STEPPING.format(steps=str(steps), config=str(pusher.config)))
        for step in ("-7200", "36000", "0"):
            count = len(await cloud.rows())
            steps.write_text(step)

            async def more_rows(count=count):
                return len(await cloud.rows()) > count + 5

            await until(more_rows, "history goes on")
            assert (await cloud.get("/api/v1/values.json", read))[0] == 200
            assert (await pusher.ask("/api/v1/values.json"))[0] == 200
        await pusher.stop()
    rows = await cloud.rows()
    ended = datetime.now(UTC)
    assert all(began <= row.measured_at <= ended for row in rows)
    assert max(powers(rows).values()) == 1
    in_order = [row.device_values.energy_meters["0"].grid_power_w for row in rows]
    assert in_order == sorted(in_order)


async def test_rows_made_before_the_time_is_known_are_stamped_by_it_later(cloud, meter, tmp_path):
    steps = tmp_path / "steps"
    steps.write_text("-86400")
    began = datetime.now(UTC)
    await cloud.stop()
    token = await cloud.token()
    async with pusher_of(tmp_path, cloud.url, token, meter.config, more=FAST, start=False) as pusher:
        wrapper = STEPPING.format(steps=str(steps), config=str(pusher.config))
        await pusher.start(wrapper=wrapper)

        async def some_rows():
            return (await pusher.status())["archive"]["rows"] > 5

        await until(some_rows, "rows are made")
        pusher.kill()
        await pusher.process.wait()
        await pusher.start(wrapper=wrapper)
        await cloud.start()
        await until(lambda: drained(pusher), "the outbox is empty", 60)
        await pusher.stop()
    rows = await cloud.rows()
    assert len(rows) > 5
    assert all(began <= row.measured_at <= datetime.now(UTC) for row in rows)


async def test_a_device_that_closes_after_each_byte_delays_nobody(cloud, meter, tmp_path):
    async def one_byte(_reader, writer):
        writer.write(b"H")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(one_byte, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    devices = f"""
          {meter.config.strip()}
          - inverter: 0
            every: 200ms
            http: {{url: "http://127.0.0.1:{port}/", values: {{inv_power_ac_w: x}}}}
          - inverter: 1
            every: 200ms
            modbus: {{host: 127.0.0.1, port: {port}, values: {{inv_power_ac_w: {{register: 1, type: int16}}}}}}
    """
    async with server, pusher_of(tmp_path, cloud.url, await cloud.token(), devices, more=FAST) as pusher:

        async def both_fail():
            return sum(bool(device["error"]) for device in (await pusher.status())["devices"]) == 2

        await until(both_fail, "both are found out")
        count = meter.count
        await until(lambda: meter.count > count + 10, "the meter is read on")
        [grid] = [device for device in (await pusher.status())["devices"] if device["title"] == "Grid"]
        assert grid["age_s"] < 2
        await pusher.stop()


async def test_without_dns_it_runs_on_and_a_reload_heals_it_without_losing_a_row(cloud, meter, tmp_path):
    token = await cloud.token()
    async with pusher_of(tmp_path, "https://nrgkick.invalid", token, meter.config, more=FAST) as pusher:
        await until(lambda: "cannot be reached" in pusher.said(), "it says that the name is gone")
        assert (await pusher.ask("/api/v1/values.json"))[0] == 200
        pusher.config.write_text("devices: [")
        pusher.kill(1)
        await until(lambda: "the old one runs on" in pusher.said(), "a broken file is refused")
        assert "pusher.yaml:1: not YAML" in pusher.said()
        pusher.write(cloud.url, meter.config, FAST)
        pusher.kill(1)
        await until(lambda: drained(pusher), "the outbox is empty")
        await pusher.stop()
    found = powers(await cloud.rows())
    assert max(found.values()) == 1
    assert found.keys() | left_in(tmp_path / "state") == {count / 10 for count in range(1, meter.count + 1)}


async def test_a_revoked_token_holds_both_lanes_until_one_is_given_back(cloud, middle, meter, tmp_path):
    admin = await cloud.token("admin")
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(cloud.rows, "history has rows")
        status, _ = await cloud.put("/api/v1/sites/home", admin, {"token_generation": 1})
        assert status == 200
        middle.fault = lambda _request, _body: problem(401, "the token was revoked")  # at once, not in 60 s
        await until(lambda: "both lanes hold" in pusher.said(), "it says that it holds")

        async def held():
            return (await pusher.status())["held"]

        assert await until(held, "the status says so too")
        middle.fault = None
        sent = middle.seen.copy()
        (tmp_path / "token").write_text(await cloud.token("push", "--generation", "1"))
        before = len(await cloud.rows())

        async def more_rows():
            return len(await cloud.rows()) > before

        await until(more_rows, "the new token is taken up", 60)
        await until(lambda: middle.seen["/api/v1/live"] > sent["/api/v1/live"], "the live lane posts again")
        await until(lambda: drained(pusher), "the outbox is empty")
        await pusher.stop()
    found = powers(await cloud.rows())
    assert max(found.values()) == 1
    assert (tmp_path / "token").read_text() not in pusher.said()


FOREIGN = {
    "a redirect": lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/login"}),
    "a 404": lambda: web.Response(status=404, text="<html>no such page</html>", content_type="text/html"),
    "a foreign 200": lambda: web.Response(text="<html>Welcome to the hotel</html>", content_type="text/html"),
    "a foreign 200 in JSON": lambda: web.json_response({"ok": True}),
    "a foreign 422": lambda: web.json_response({"detail": "no"}, status=422),
    "a 403": lambda: web.Response(status=403, text="Forbidden"),
}


@pytest.mark.parametrize("answer", FOREIGN)
async def test_what_is_not_the_function_makes_it_hold_and_delete_nothing(cloud, middle, meter, tmp_path, answer):
    seed(tmp_path / "state", [seeded(number) for number in range(5)])
    middle.fault = lambda _request, _body: FOREIGN[answer]()
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: "both lanes hold" in pusher.said(), "it says that it holds")
        assert (await pusher.status())["archive"]["dead_letters"] == 0
        assert middle.seen.total() <= 3
        middle.fault = None
        pusher.kill(1)  # a new run tries at once
        await until(lambda: drained(pusher), "the outbox is empty")
    found = powers(await cloud.rows())
    assert {-1, -2, -3, -4, -5} <= found.keys()


async def test_poison_rows_go_to_the_dead_letters_and_the_good_ones_to_history(cloud, meter, tmp_path):
    poison = {3, 50, 51, 99}
    wrong = {"batteries": {"0": {"bat_power_w": 1, "soc": 101}}}
    seed(tmp_path / "state", [seeded(n, devices=wrong if n in poison else None) for n in range(100)])
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty")
        status = await pusher.status()
        assert status["archive"]["dead_letters"] == len(poison)
        assert not status["well"]
        await pusher.stop()
    assert {-n - 1 for n in range(100) if n not in poison} <= powers(await cloud.rows()).keys()
    box = outbox_of(tmp_path / "state")
    assert {json.loads(dead.errors)[0]["loc"][-1] for dead in box.dead()} == {"soc"}
    box.close()


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_batch_that_is_refused_is_halved_until_the_poison_row_is_alone(cloud, middle, meter, tmp_path, status):
    seed(tmp_path / "state", [seeded(n) for n in range(200)])

    def fault(request, body):
        if request.path.endswith("readings") and b'"grid_power_w": -78}' in body:
            return problem(status, "a row that I will never take")
        return None

    middle.fault = fault
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty")
        assert (await pusher.status())["archive"]["dead_letters"] == 1
    assert {-n - 1 for n in range(200)} - powers(await cloud.rows()).keys() == {-78}


async def test_retry_after_is_observed_by_the_lane_that_was_told(cloud, middle, meter, tmp_path):
    told = {}

    def fault(request, _body):
        if request.path not in told and request.method == "POST":
            told[request.path] = time.monotonic()
            return problem(429 if "live" in request.path else 503, "too much", {"Retry-After": "3"})
        if request.method == "POST":
            waited.setdefault(request.path, time.monotonic() - told[request.path])
        return None

    waited = {}
    middle.fault = fault
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: len(waited) == 2, "both lanes try again")
        assert min(waited.values()) >= 3
        await until(lambda: drained(pusher), "the outbox is empty")
        await pusher.stop()
    assert max(powers(await cloud.rows()).values()) == 1


async def test_a_refused_clock_is_corrected_and_the_batch_sent_again_at_once(cloud, middle, meter, tmp_path):
    seed(tmp_path / "state", [seeded(n) for n in range(5)])
    skewed = []

    def fault(request, _body):
        if request.path.endswith("readings") and not skewed:
            skewed.append(1)
            now = datetime.now(UTC).isoformat()
            return problem(422, "your clock is off", type="urn:nrgkick-cloud:clock-skew", server_time=now)
        return None

    middle.fault = fault
    async with pusher_of(tmp_path, middle.url, await cloud.token(), meter.config, more=FAST) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty")
        assert "the clock was off and is corrected" in pusher.said()
        assert (await pusher.status())["archive"]["dead_letters"] == 0


async def test_the_live_lane_goes_on_while_a_weeks_backlog_drains(cloud, middle, meter, tmp_path):
    whole = {"energy_meters": {"0": {"grid_power_w": 0}}, "batteries": {"0": {"bat_power_w": 1, "soc": 50, "mode": 0}}}

    def row(number):
        whole["energy_meters"]["0"]["grid_power_w"] = -number - 1
        return seeded(number, devices=whole, start=START - timedelta(days=7))

    seed(tmp_path / "state", [row(number) for number in range(10_080)])
    async with pusher_of(
        tmp_path, middle.url, await cloud.token(), meter.config, more=FAST + "\nlive: {heartbeat: 200ms}"
    ) as pusher:
        await until(lambda: drained(pusher), "the outbox is empty", 100)
        await pusher.stop()
    batches = [len(body["readings"]) for body in middle.posts("/api/v1/readings")]
    lanes = [path.rpartition("/")[2] for path, _, _ in middle.bodies if path != "/api/v1/whoami"]
    big = [position for position, path in enumerate(lanes) if path == "readings"][: len(batches)]
    assert max(batches) <= 500
    between_batches = [later - earlier - 1 for earlier, later in itertools.pairwise(big)]
    assert sum(count > 0 for count in between_batches) > len(between_batches) // 3, "live posts go between batches"
    assert len([power for power in powers(await cloud.rows()) if power < 0]) == 10_080


async def test_a_restart_without_internet_knows_the_settings_but_shows_no_old_value(cloud, tmp_path):
    admin = await cloud.token("admin")
    await cloud.put("/api/v1/sites/home", admin, {"on_stale": "no_surplus", "stale_after_s": 30})
    async with http_device({"/": {"total": 900}}) as device:
        devices = f"""
          - energy_meter: 0
            every: 200ms
            info: {{name: Grid, location: 1}}
            http: {{url: "{device.url}/", values: {{grid_power_w: total}}}}
        """
        async with pusher_of(tmp_path, cloud.url, await cloud.token(), devices, more=FAST) as pusher:

            async def known():
                status, document = await pusher.ask("/api/v1/values.json")
                return status == 200 and document["device_values"]["energy_meters"]["0"]["grid_power_w"] == 900

            await until(known, "the meter is shown")
            kept = tmp_path / "state" / "site.json"
            await until(lambda: kept.exists() and "energy_meters/0" in kept.read_text(), "settings and device are kept")
            assert (await pusher.status())["live"]["heartbeat_s"] == 10
            await pusher.stop()
            await cloud.stop()
            device.answers["/"] = "gone"
            await pusher.start()
            status, document = await pusher.ask("/api/v1/values.json")
            assert (status, document["device_values"]["load_power_w"]) == (200, 1), "no surplus, by the settings kept"
            assert (await pusher.ask("/api/v1/info.json"))[1]["device_info"]["energy_meters"]["0"]["name"] == "Grid"
