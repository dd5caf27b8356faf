"""Firestore operations per request, counted on the wire: the table of design section 6."""

import asyncio
import json
from datetime import timedelta

import pytest

from function.stores.firestore import FirestoreStore
from schemas.times import format_time
from tests.function.conftest import serving
from tests.function.wire import Bill, counting_client

VALUES = {"energy_meters": {"0": {"grid_power_w": 1}}, "inverters": {"0": {"inv_power_ac_w": 2}}}


@pytest.fixture
async def counted(emulator, project, monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    bill = Bill()
    store = FirestoreStore(lambda: counting_client(bill))
    async with serving(store) as server:
        server.make_it_noon()
        await server.post_live(VALUES)
        row = {"measured_at": format_time(server.now()), "duration_s": 0, "device_values": {}}
        await server.call("POST", "/api/v1/readings", server.token(), server.readings(row))
        bill.take()
        yield server, bill
    await store.close()


async def test_a_live_post_costs_one_write_and_no_read(counted):
    server, bill = counted
    for _ in range(10):
        await server.post_live(VALUES)
        assert bill.take() == (0, 1, 0)


async def test_readings_cost_one_write_per_quarter_hour_touched(counted):
    server, bill = counted
    start = server.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    for minutes, quarters in ((15, 1), (16, 2), (60, 4)):
        rows = [
            {
                "measured_at": format_time(start + timedelta(minutes=minute)),
                "duration_s": 60,
                "device_values": {"load_power_w": 1},
            }
            for minute in range(minutes)
        ]
        await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows))
        assert bill.take() == (0, quarters, 0)


async def test_values_cost_at_most_one_read_a_second_shared_by_all(counted):
    server, bill = counted
    read = server.token(scope="read")
    answers = await asyncio.gather(*(server.call("GET", "/api/v1/values.json", read) for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    assert bill.take() == (0, 0, 0), "the instance that wrote serves what it wrote"
    for entry in server.application.sites._entries.values():
        entry.copy.read_at_s -= 2
    await asyncio.gather(*(server.call("GET", "/api/v1/info.json", read) for _ in range(20)))
    assert bill.take() == (1, 0, 0)


async def test_a_superseded_post_costs_nothing(counted):
    server, bill = counted
    await server.post_live(VALUES, measured_at=format_time(server.now() - timedelta(seconds=9)))
    assert bill.take() == (0, 0, 0)


async def test_history_of_an_hour_costs_a_read_per_quarter_hour_and_pusher(counted):
    server, bill = counted
    start = server.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    for pusher in ("a", "b"):
        rows = [
            {
                "measured_at": format_time(start + timedelta(minutes=minute)),
                "duration_s": 60,
                "device_values": {"load_power_w": 1},
            }
            for minute in range(60)
        ]
        await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows, pusher=pusher))
    bill.take()
    found = server.application.sites.store.rows("home", start, start + timedelta(hours=1))
    assert len([row async for row in found]) == 120
    assert bill.take() == (8, 0, 0)


async def test_a_finished_day_is_read_in_full_once_and_then_for_one_read(counted):
    server, bill = counted
    day = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    rows = [
        {
            "measured_at": format_time(day + timedelta(minutes=minute)),
            "duration_s": 60,
            "device_values": {"load_power_w": 1},
        }
        for minute in range(1440)
    ]
    for at in range(0, 1440, 480):
        await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows[at : at + 480]))
    bill.take()
    read = server.token(scope="read")
    span = f"from={format_time(day)}&to={format_time(day + timedelta(days=1))}"
    _, fine, _ = await server.call("GET", f"/api/v1/sites/home/history?{span}&resolution=15m", read)
    assert (len(fine["steps"]), fine["totals"]["load_wh"]) == (96, 24)
    assert bill.take() == (96, 0, 0)
    for reads, writes in ((96 + 1, 96 + 1), (1, 0)):
        _, coarse, _ = await server.call("GET", f"/api/v1/sites/home/history?{span}&resolution=1d", read)
        assert coarse["totals"]["load_wh"] == 24
        assert bill.take() == (reads, writes, 0)
    await server.call("POST", "/api/v1/readings", server.token(), server.readings(rows[0]))
    assert bill.take() == (0, 2, 0), "a late row marks its day in its own commit"


async def test_a_year_by_day_is_a_read_per_kept_day(counted):
    server, bill = counted
    today = server.now().date()
    store = server.application.sites.store
    for back in range(1, 366):
        step = {"start": f"{today - timedelta(days=back)}T00:00:00Z", "load_wh": 24.0}
        totals = json.dumps({"timezone": "UTC", "hours": 24.0, "step": step})
        await store.finish_day("home", today - timedelta(days=back), totals, None, [], server.now())
    bill.take()
    span = f"from={today - timedelta(days=365)}&to={today}&resolution=1d"
    _, year, _ = await server.call("GET", f"/api/v1/sites/home/history?{span}", server.token(scope="read"))
    assert (len(year["steps"]), year["totals"]["load_wh"]) == (365, 24 * 365)
    assert bill.take() == (365, 0, 0)


async def test_a_composite_costs_a_read_per_member(counted):
    server, bill = counted
    for site in ("house", "barn"):
        await server.post_live(VALUES, server.token(site))
    admin = server.token("*", "admin", expires=timedelta(days=1))
    body = {"members": [{"site": "house"}, {"site": "barn"}]}
    assert (await server.call("PUT", "/api/v1/sites/farm", admin, body))[0] == 200
    for entry in server.application.sites._entries.values():
        entry.copy.read_at_s -= 2
    bill.take()
    read = server.token("farm", "read")
    answers = await asyncio.gather(*(server.call("GET", "/api/v1/values.json", read) for _ in range(20)))
    assert {status for status, _, _ in answers} == {200}
    assert bill.take() == (2, 0, 0)


async def test_a_fleet_of_ten_thousand_costs_thirty_reads(counted):
    server, bill = counted
    client = server.application.sites.store._client
    minute = int(server.now().timestamp()) // 60
    document = {
        "doc": "{}",
        "minute": minute,
        "pv_w": 2,
        "grid_w": -1,
        "battery_w": None,
        "load_w": 1,
        "smart_load_w": 0,
    }
    for start in range(0, 9_999, 500):
        batch = client.batch()
        for number in range(start, min(start + 500, 9_999)):
            batch.set(client.collection("sites").document(f"site-{number:05}"), document)
        await batch.commit()
    bill.take()
    fleet = server.token("*", "fleet", expires=timedelta(days=1))
    status, answer, _ = await server.call("GET", "/api/v1/fleet", fleet)
    assert status == 200
    assert (answer["sites"], answer["fresh"], answer["power"]["pv_w"]) == (10_000, 10_000, 2 * 9_999 + 2)
    assert bill.calls.count("RunAggregationQuery") == 3
    assert bill.take() == (30, 0, 0)
    page = (await server.call("GET", "/api/v1/sites?page_size=50", fleet))[1]
    assert (len(page["sites"]), bill.take()) == (50, (50, 0, 0))


async def test_two_instances_that_write_one_site_lose_nothing(counted, emulator):
    server, _ = counted
    other_store = FirestoreStore()
    async with serving(other_store) as other:
        for number in range(5):
            await asyncio.gather(
                server.post_live({"inverters": {"1": {"inv_power_ac_w": number}}}, pusher="one"),
                other.post_live({"inverters": {"2": {"inv_power_ac_w": number}}}, pusher="two"),
            )
    await other_store.close()
    stored = (await server.application.sites.store.load("home")).site
    assert stored.pushers["one"].claims["inverters/1"].values == {"inv_power_ac_w": 4}
    assert stored.pushers["two"].claims["inverters/2"].values == {"inv_power_ac_w": 4}


async def test_a_store_that_is_gone_is_answered_503_and_stores_nothing(project, monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    monkeypatch.setattr("function.stores.firestore.TIMEOUT_S", 0.5)
    store = FirestoreStore()
    async with serving(store) as server:
        for method, path, body in (("POST", "/api/v1/live", server.live(VALUES)), ("GET", "/api/v1/whoami", None)):
            status, problem, headers = await server.call(method, path, server.token(), body)
            assert (status, problem["status"], headers["retry-after"]) == (503, 503, "2")
    await store.close()
