"""Many sites over real HTTP, on both stores: composites, the list, the fleet's sums, history and its totals."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from schemas.times import format_time, parse_time

DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(autouse=True)
def noon(server):
    server.make_it_noon()


@pytest.fixture
def everywhere(server):
    return server.token("*", "admin", expires=timedelta(days=1))


async def put(server, site, token, **settings):
    status, answer, _ = await server.call("PUT", f"/api/v1/sites/{site}", token, settings)
    assert status == 200, answer
    return answer


async def get(server, path, token, status=200):
    answered, answer, _ = await server.call("GET", path, token)
    assert answered == status, answer
    return answer


def row(at, watts=-600.0, **more):
    values = {"energy_meters": {"0": {"grid_power_w": watts}}, "inverters": {"0": {"inv_power_ac_w": 900.0}}}
    return {"measured_at": format_time(at), "duration_s": 60, "device_values": {**values, **more}}


async def send(server, rows, site="home", **more):
    for at in range(0, len(rows), 500):
        batch = server.readings(*rows[at : at + 500], **more)
        status, answer, _ = await server.call("POST", "/api/v1/readings", server.token(site), batch)
        assert (status, answer["rejected"]) == (200, [])


async def test_a_composite_site_is_one_document_of_several(server, everywhere):
    meter = {"energy_meters": {"0": {"grid_power_w": 10}}}
    await server.post_live(
        {"inverters": {"0": {"inv_power_ac_w": 100}}, **meter},
        server.token("house"),
        device_info={"inverters": {"0": {"name": "House"}}},
    )
    await server.post_live({"inverters": {"0": {"inv_power_ac_w": 200}}, **meter}, server.token("barn"))
    farm = await put(
        server,
        "farm",
        everywhere,
        members=[{"site": "barn"}, {"site": "house", "include": ["inverters", "energy_meters"]}],
    )
    assert (farm["status"], farm["power"]["pv_w"], farm["power"]["load_w"]) == ("live", 300, 320)
    values = await get(server, "/api/v1/values.json", server.token("farm", "read"))
    assert values["device_values"] == {
        "inverters": {"0": {"inv_power_ac_w": 200}, "1": {"inv_power_ac_w": 100}},
        "energy_meters": {"0": {"grid_power_w": 10}, "1": {"grid_power_w": 10}},
        "load_power_w": 320,
    }
    info = await get(server, "/api/v1/info.json", server.token("farm", "read"))
    assert info == {"device_info": {"inverters": {"1": {"name": "House"}}}}
    server.ahead += timedelta(seconds=61)
    await server.post_live(meter, server.token("barn"))
    problem = await get(server, "/api/v1/values.json", server.token("farm", "read"), 503)
    assert "energy meter 1" in problem["detail"]


@pytest.mark.parametrize("members", [["farm"], ["estate"], ["barn", "barn"]])
async def test_a_composite_site_has_proper_members(server, everywhere, members):
    await put(server, "estate", everywhere, members=[{"site": "barn"}])
    body = {"members": [{"site": site} for site in members]}
    status, problem, _ = await server.call("PUT", "/api/v1/sites/farm", everywhere, body)
    assert status == 422
    assert problem["errors"][0]["loc"] == ["members", len(members) - 1, "site"]


async def test_sites_come_in_pages_and_the_deleted_do_not(server, everywhere):
    for number in range(7):
        await server.post_live({"load_power_w": number}, server.token(f"site-{number}"))
    await server.call("DELETE", "/api/v1/sites/site-3", everywhere)
    seen, token = [], ""
    while True:
        page = await get(server, f"/api/v1/sites?page_size=2&page_token={token}", everywhere)
        seen += [(site["site"], site["status"], site["power"]["load_w"]) for site in page["sites"]]
        if not (token := page.get("next_page_token")):
            break
    assert seen == [(f"site-{number}", "live", number) for number in range(7) if number != 3]
    for query in ("page_size=0", "page_size=x", "page_size=501", "page_token=A%20"):
        problem = await get(server, f"/api/v1/sites?{query}", everywhere, 422)
        assert problem["errors"]
    await get(server, "/api/v1/sites", server.token(scope="admin"), 403)
    await get(server, "/api/v1/fleet", server.token("*", "read", expires=timedelta(days=1)), 403)


async def test_the_fleet_is_summed_over_sites_heard_of_lately(server, everywhere):
    for number in range(3):
        values = {"energy_meters": {"0": {"grid_power_w": 10.4}}, "inverters": {"0": {"inv_power_ac_w": number}}}
        await server.post_live(values, server.token(f"site-{number}"))
    await put(server, "silent", everywhere)
    assert await get(server, "/api/v1/fleet", everywhere) == {
        "sites": 4,
        "fresh": 3,
        "power": {"pv_w": 3, "grid_w": 30, "battery_w": 0, "load_w": 33, "smart_load_w": 0},
    }
    server.ahead += timedelta(minutes=4)
    server.application.fleet_copy.clear()
    everything = server.token("*", "fleet", expires=timedelta(days=1))
    assert (await get(server, "/api/v1/fleet", everything))["fresh"] == 0


async def test_history_in_every_resolution_and_as_csv(server):
    await server.post_live({"load_power_w": 1})
    at = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    await send(server, [row(at + timedelta(minutes=minute)) for minute in range(30)])
    read = server.token(scope="read")
    span = f"from={format_time(at)}&to={format_time(at + timedelta(hours=1))}"
    for resolution, count in (("1m", 30), ("15m", 2), ("1h", 1), ("1d", 1)):
        answer = await get(server, f"/api/v1/sites/home/history?{span}&resolution={resolution}", read)
        assert (answer["resolution"], len(answer["steps"])) == (resolution, count)
        assert answer["steps"][0]["start"] == format_time(at)
        assert answer["totals"]["export_wh"] == 300
        assert answer["totals"]["load_wh"] == 150
        assert answer["totals"]["charge_wh"] is None
        assert answer["totals"]["self_consumption"] == pytest.approx(1 - 300 / 450, abs=1e-4)
    status, text, headers = await server.call(
        "GET", f"/api/v1/sites/home/history?{span}&resolution=1m&format=csv", read
    )
    lines = list(csv.DictReader(io.StringIO(text.decode())))
    assert (status, len(lines), headers["content-type"]) == (200, 30, "text/csv; charset=utf-8")
    assert (lines[0]["grid_w"], lines[0]["soc"]) == ("-600.0", "")


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("resolution=5m", "resolution"),
        ("format=xml", "format"),
        ("from=yesterday", "from"),
        ("from=2026-11-22T00:00:00", "from"),
        ("from=0001-01-01", "from"),
        ("from=2026-11-22&to=2026-11-20", "to"),
        ("from=2020-01-01&to=2026-11-20&resolution=1m", "from"),
    ],
)
async def test_a_bad_query_is_told_so(server, query, loc):
    await server.post_live({"load_power_w": 1})
    problem = await get(server, f"/api/v1/sites/home/history?{query}", server.token(scope="read"), 422)
    assert problem["errors"][0]["loc"] == ["query", loc]


async def test_repeats_late_rows_and_two_pushers_change_nothing_twice(server):
    await server.post_live({"load_power_w": 1})
    at = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    rows = [row(at + timedelta(minutes=minute)) for minute in range(60)]
    read = server.token(scope="read")
    path = f"/api/v1/sites/home/history?from={format_time(at)}&to={format_time(at + timedelta(days=1))}&resolution=1d"
    await send(server, rows[:30])
    assert (await get(server, path, read))["totals"]["export_wh"] == 300
    await send(server, rows[:30])
    assert (await get(server, path, read))["totals"]["export_wh"] == 300
    await send(server, rows, pusher="other")
    assert (await get(server, path, read))["totals"]["export_wh"] == 600, "late rows make the day due again"


async def test_day_totals_outlive_the_rows(server):
    await server.post_live({"load_power_w": 1})
    midnight = server.now().replace(hour=0, minute=0, second=0, microsecond=0)
    day = midnight - timedelta(days=1)
    await send(server, [row(day + timedelta(minutes=minute)) for minute in range(60)])
    read = server.token(scope="read")
    path = f"/api/v1/sites/home/history?from={format_time(day)}&to={format_time(midnight)}&resolution=1d"
    before = await get(server, path, read)
    store = server.application.sites.store
    assert [it.due for it in (await store.days("home", day.date(), day.date())).values()] == [False]
    await remove_rows(store)
    assert await get(server, path, read) == before
    await send(server, [row(day + timedelta(minutes=70))])
    assert await get(server, path, read) == before, "totals of fewer rows never replace those that stand"


async def remove_rows(store):
    if hasattr(store, "_client"):
        async for document in store._client.collection("sites").document("home").collection("archive").stream():
            await document.reference.delete()
    else:
        await store._run(lambda db: db.execute("DELETE FROM archive"))


async def test_rows_that_are_older_than_the_site_keeps_them_are_refused(server, everywhere):
    await put(server, "home", everywhere, retention_days=2)
    old = row(server.now() - timedelta(days=3))
    _, answer, _ = await server.call("POST", "/api/v1/readings", server.token(), server.readings(old))
    assert answer["stored"] == 0
    assert "2 days" in answer["rejected"][0]["errors"][0]["msg"]


async def test_a_composites_history_is_its_members_added(server, everywhere):
    at = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    for site in ("house", "barn"):
        await server.post_live({"load_power_w": 1}, server.token(site))
        await send(server, [row(at + timedelta(minutes=minute)) for minute in range(15)], site)
    await put(server, "farm", everywhere, members=[{"site": "house"}, {"site": "barn", "include": ["inverters"]}])
    span = f"from={format_time(at)}&to={format_time(at + timedelta(hours=1))}"
    for resolution in ("15m", "1d"):
        answer = await get(server, f"/api/v1/sites/farm/history?{span}&resolution={resolution}", everywhere)
        assert answer["totals"]["pv_wh"] == 450
        assert answer["totals"]["export_wh"] == 150


async def test_days_are_those_of_the_time_zone_also_after_it_has_changed(server):
    """Whatever was missing on which day: the old days are made anew, with none of their hours twice."""
    admin = server.token(scope="admin")
    await server.post_live({"load_power_w": 1})
    first = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=4)
    rows = [row(first + timedelta(minutes=15 * quarter)) for quarter in range(4 * 96) if not 180 <= quarter < 184]
    for quarter in rows:
        quarter["duration_s"] = 900
    await send(server, rows)

    async def days():
        span = f"from={format_time(first - timedelta(days=1))}&to={format_time(first + timedelta(days=4))}"
        answer = await get(server, f"/api/v1/sites/home/history?{span}&resolution=1d", admin)
        return [(parse_time(step["start"]), step["pv_wh"]) for step in answer["steps"] if step["pv_wh"]]

    async def hours():
        span = f"from={format_time(first - timedelta(days=1))}&to={format_time(first + timedelta(days=4))}"
        answer = await get(server, f"/api/v1/sites/home/history?{span}&resolution=1h", admin)
        return answer["totals"]["pv_wh"]

    assert [start for start, _ in await days()] == [first + timedelta(days=day) for day in range(4)]
    for zone, east in (("Etc/GMT-2", 2), ("Etc/GMT+9", -9), ("UTC", 0)):
        await put(server, "home", admin, timezone=zone)
        starts = [start for start, _ in await days()]
        assert {(start + timedelta(hours=east)).hour for start in starts} == {0}
        assert sum(wh for _, wh in await days()) == await hours() == 900 * (4 * 24 - 1)


async def test_a_composites_days_are_its_own_whatever_its_members_days_are(server, everywhere):
    first = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    for site, zone in (("house", "Etc/GMT-2"), ("barn", "Etc/GMT-1")):
        await server.post_live({"load_power_w": 1}, server.token(site))
        await put(server, site, everywhere, timezone=zone)
        await send(server, [row(first + timedelta(hours=12, minutes=minute)) for minute in range(15)], site)
    await put(server, "farm", everywhere, members=[{"site": "house"}, {"site": "barn"}])
    span = f"from={format_time(first)}&to={format_time(first + timedelta(days=1))}"
    answer = await get(server, f"/api/v1/sites/farm/history?{span}&resolution=1d", everywhere)
    assert [(step["start"], step["pv_wh"]) for step in answer["steps"]] == [(format_time(first), 450)]
    chart = f"/api/v1/sites/farm/chart.svg?days=2&day={first.date()}"
    assert b"no data" not in (await server.call("GET", chart, everywhere))[1]
