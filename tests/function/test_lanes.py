"""The two lanes and the wallbox's documents over real HTTP, on both stores."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from function.stores import open_store
from schemas.times import format_time
from tests.function.conftest import serving

DOCUMENT = {
    "inverters": {
        "0": {
            "inv_power_ac_w": 2225,
            "pv_energy_day_wh": 8750,
            "pv_energy_total_wh": 346890,
            "battery_connected": True,
        }
    },
    "energy_meters": {"0": {"grid_power_w": -542}},
    "batteries": {"0": {"bat_power_w": -749, "soc": 78.2, "mode": 0}},
    "smart_loads": {"0": {"sl_power_w": 1241, "temp": 46.8, "mode": 1}},
    "load_power_w": 1683,
}
INFO = {"inverters": {"0": {"name": "Roof", "max_ac_w": 5000}}, "energy_meters": {"0": {"name": "Grid", "location": 1}}}


async def values(server, token=None):
    return await server.call("GET", "/api/v1/values.json", token or server.token(scope="read"))


async def test_the_manufacturers_example_comes_out_as_it_went_in(server):
    answer = await server.post_live(DOCUMENT, device_info=INFO)
    assert answer["status"] == "stored"
    status, body, headers = await values(server)
    assert (status, body) == (200, {"device_values": DOCUMENT})
    assert headers["cache-control"] == "max-age=1"
    assert "transfer-encoding" not in headers
    assert (await server.call("GET", "/api/v1/info.json", server.token(scope="read")))[1] == {"device_info": INFO}


async def test_watts_are_served_whole_and_soc_decimal(server):
    await server.post_live(
        {"energy_meters": {"0": {"grid_power_w": -542.4}}, "batteries": {"0": {"bat_power_w": 0, "soc": 78}}}
    )
    status, body, _ = await values(server)
    assert status == 200
    assert '"grid_power_w": -542}' in json.dumps(body)
    assert '"soc": 78.0' in json.dumps(body)


async def test_a_late_post_is_superseded_and_changes_nothing(server):
    await server.post_live({"energy_meters": {"0": {"grid_power_w": 1}}})
    earlier = format_time(server.now() - timedelta(seconds=5))
    answer = await server.post_live({"energy_meters": {"0": {"grid_power_w": 2}}}, measured_at=earlier)
    assert answer["status"] == "superseded"
    assert (await values(server))[1] == {"device_values": {"energy_meters": {"0": {"grid_power_w": 1}}}}


async def test_the_same_post_twice_is_stored_twice_and_is_there_once(server):
    post = server.live({"energy_meters": {"0": {"grid_power_w": 1}}})
    for _ in range(2):
        status, answer, _ = await server.call("POST", "/api/v1/live", server.token(), post)
        assert (status, answer["status"]) == (200, "stored")


async def test_a_device_given_as_null_is_withdrawn_at_once(server):
    await server.post_live({"energy_meters": {"0": {"grid_power_w": 1}}, "inverters": {"0": {"inv_power_ac_w": 9}}})
    await server.post_live({"energy_meters": {"0": None}})
    status, body, headers = await values(server)
    assert status == 503
    assert headers["retry-after"]
    assert headers["cache-control"] == "no-store"
    assert "energy meter 0" in body["detail"]


async def test_old_data_is_not_shown_and_no_surplus_says_so_where_asked(server):
    await server.post_live(DOCUMENT)
    admin = server.token(scope="admin")
    server.ahead = timedelta(seconds=61)
    assert (await values(server))[0] == 503
    status, _, _ = await server.call("PUT", "/api/v1/sites/home", admin, {"on_stale": "no_surplus"})
    assert status == 200
    status, body, _ = await values(server)
    assert (status, body) == (
        200,
        {
            "device_values": {
                "inverters": {"0": {"inv_power_ac_w": 0, "battery_connected": True}},
                "energy_meters": {"0": {"grid_power_w": 1683}},
                "batteries": {"0": {"bat_power_w": 0}},
                "load_power_w": 1683,
            }
        },
    )


async def test_info_does_not_age_and_a_new_site_has_none(server):
    read = server.token(scope="read")
    assert (await server.call("GET", "/api/v1/info.json", read))[0] == 503
    await server.post_live(DOCUMENT, device_info=INFO)
    server.ahead = timedelta(days=3)
    assert (await server.call("GET", "/api/v1/info.json", read))[:2] == (200, {"device_info": INFO})


async def test_a_device_keeps_its_own_time(server):
    own = format_time(server.now() - timedelta(seconds=50))
    await server.post_live(
        {"batteries": {"0": {"bat_power_w": 5}}, "energy_meters": {"0": {"grid_power_w": 1}}},
        measured={"batteries": {"0": own}},
    )
    server.ahead = timedelta(seconds=20)
    assert (await values(server))[1] == {"device_values": {"energy_meters": {"0": {"grid_power_w": 1}}}}


async def test_two_pushers_feed_one_site_and_a_conflict_shows_both(server):
    await server.post_live({"inverters": {"0": {"inv_power_ac_w": 100}}}, pusher="barn")
    await server.post_live({"inverters": {"0": {"inv_power_ac_w": 200}}, "energy_meters": {"0": {"grid_power_w": 1}}})
    status, site, _ = await server.call("GET", "/api/v1/sites/home", server.token(scope="read"))
    assert status == 200
    inverter = next(device for device in site["devices"] if device["category"] == "inverters")
    assert inverter["pusher"] == "barn-pi"
    assert [conflict["pusher"] for conflict in inverter["conflicts"]] == ["barn"]
    assert site["status"] == "live"


async def test_the_state_comes_back_on_request(server):
    post = server.live(DOCUMENT, device_info=INFO)
    _, answer, _ = await server.call(
        "POST", "/api/v1/live", server.token(), post, headers={"Prefer": "return=representation"}
    )
    state = answer["state"]
    assert state["settings"]["stale_after_s"] == 60
    assert set(state["pushers"]["barn-pi"]["claims"]) >= {"inverters/0", "load_power_w"}
    assert "state" not in (await server.post_live(DOCUMENT))


async def test_readings_are_kept_once_and_bad_rows_do_not_harm_good_ones(server):
    at = server.now() - timedelta(hours=1)
    good = {"measured_at": format_time(at), "duration_s": 60, "device_values": {"load_power_w": 7}}
    ahead = {**good, "measured_at": format_time(server.now() + timedelta(hours=1))}
    rows = [good, {"measured_at": "now"}, good, 5, ahead]
    for _ in range(2):
        status, answer, _ = await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows))
        assert status == 200
        assert answer["stored"] == 2
        assert [item["index"] for item in answer["rejected"]] == [1, 3, 4]
        assert all(item["errors"][0]["loc"][:2] == ["readings", item["index"]] for item in answer["rejected"])
    store = server.application.sites.store
    found = [it async for it in store.rows("home", at - timedelta(hours=1), at + timedelta(hours=1))]
    assert [(it.pusher, it.row.device_values.load_power_w) for it in found] == [("barn-pi", 7)]
    assert (await values(server))[0] == 503, "rows never touch the live state"


async def test_whoami_and_settings(server):
    admin = server.token(scope="admin")
    settings = {"name": "Home", "timezone": "Europe/Vienna", "stale_after_s": 30, "token_generation": 0}
    status, site, _ = await server.call("PUT", "/api/v1/sites/home", admin, settings)
    assert (status, site["status"], site["name"]) == (200, "new", "Home")
    status, me, _ = await server.call("GET", "/api/v1/whoami", server.token())
    assert (status, me["site"], me["scope"]) == (200, "home", "push")
    assert me["settings"]["stale_after_s"] == 30
    fleet = server.token("*", "fleet", expires=timedelta(days=1))
    assert (await server.call("GET", "/api/v1/whoami", fleet))[1]["site"] == "*"


async def test_a_deleted_site_is_gone_with_its_history_and_its_tokens(server):
    await server.post_live(DOCUMENT)
    now = server.now()
    row = {"measured_at": format_time(now), "duration_s": 0, "device_values": {"load_power_w": 7}}
    await server.call("POST", "/api/v1/readings", server.token(), server.readings(row))
    old = server.token(scope="admin")
    assert (await server.call("DELETE", "/api/v1/sites/home", old))[0] == 200
    assert (await server.call("GET", "/api/v1/sites/home", old))[0] == 401
    everywhere = server.token("*", "admin", expires=timedelta(hours=1))
    assert (await server.call("GET", "/api/v1/sites/home", everywhere))[0] == 404
    found = server.application.sites.store.rows("home", now - timedelta(hours=1), now + timedelta(hours=1))
    assert [it async for it in found] == []
    await server.post_live(DOCUMENT, token=server.token(generation=1))
    assert (await server.call("GET", "/api/v1/sites/home", everywhere))[1]["settings"]["token_generation"] == 1


async def test_the_wallbox_is_remembered_with_the_next_post(server):
    await server.post_live(DOCUMENT)
    await values(server)
    server.ahead = timedelta(seconds=1)
    await server.post_live(DOCUMENT)
    stored = await server.application.sites.store.load("home")
    assert stored.site.wallbox.status == 200
    assert stored.site.wallbox.device_values == DOCUMENT


async def test_many_posts_at_once_are_all_merged(server):
    async def post(index):
        await server.post_live({"inverters": {str(index): {"inv_power_ac_w": index}}}, pusher=f"pi-{index}")

    await asyncio.gather(*(post(index) for index in range(5)))
    _, body, _ = await values(server)
    assert sorted(body["device_values"]["inverters"]) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("path", ["/api/v1/values.json", "/api/v1/info.json"])
async def test_the_default_site_is_open_in_these_two_documents_alone(open_server, path):
    server = open_server
    await server.post_live(DOCUMENT, device_info=INFO)
    assert (await server.call("GET", path))[0] == 200
    foreign = {"Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}
    assert (await server.call("GET", path, headers=foreign))[0] == 200
    assert (await server.call("GET", path, headers={"Authorization": "Basic eDp5"}))[0] == 200
    assert (await server.call("GET", path, headers={"X-NRGkick-Token": "rubbish"}))[0] == 401
    assert (await server.call("GET", "/api/v1/sites/home"))[0] == 401
    assert (await server.call("GET", path, server.token(scope="push")))[0] == 403


async def test_a_token_that_is_revoked_while_a_batch_comes_in_stores_nothing(server):
    await server.post_live(DOCUMENT)
    row = {"measured_at": format_time(server.now()), "duration_s": 0, "device_values": {"load_power_w": 7}}
    body = json.dumps(server.readings(row)).encode()
    admin = server.token("*", "admin", expires=timedelta(hours=1))

    async def slowly():
        yield body[:20]
        assert (await server.call("DELETE", "/api/v1/sites/home", admin))[0] == 200
        yield body[20:]

    headers = {"Content-Type": "application/json", "X-NRGkick-Token": server.token()}
    async with server.session.post(f"{server.url}/api/v1/readings", data=slowly(), headers=headers) as answer:
        assert answer.status == 401
    begin = server.now() - timedelta(hours=1)
    assert [it async for it in server.application.sites.store.rows("home", begin, server.now())] == []


async def test_a_site_that_began_at_another_instance_is_deleted_whole(store_address):
    here, there = open_store(store_address), open_store(store_address)
    async with serving(here) as one, serving(there) as other:
        admin = one.token("*", "admin", expires=timedelta(hours=1))
        assert (await one.call("GET", "/api/v1/sites/home", admin))[0] == 404
        await other.post_live(DOCUMENT)
        await asyncio.sleep(1.1)  # what an instance knows holds for a second
        assert (await one.call("DELETE", "/api/v1/sites/home", admin))[0] == 200
        await asyncio.sleep(1.1)
        assert (await other.call("GET", "/api/v1/sites/home", admin))[0] == 404
    await here.close()
    await there.close()


async def test_posts_of_rows_do_not_wait_for_those_who_look(server):
    days = server.application.days
    late = server.now() - timedelta(days=2)
    row = {"measured_at": format_time(late), "duration_s": 60, "device_values": {"load_power_w": 60}}
    for _ in range(2):
        await days._reckoning.acquire()
    try:
        sent = server.call("POST", "/api/v1/readings", server.token(), server.readings(row))
        assert (await asyncio.wait_for(sent, 10))[0] == 200
    finally:
        for _ in range(2):
            days._reckoning.release()


async def test_a_csv_of_a_store_that_does_not_answer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("function.stores.sqlite.BUSY_TIMEOUT_S", 0.1)
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    async with serving(store) as server:
        await server.post_live(DOCUMENT)
        token = server.token(scope="read")
        assert (await server.call("GET", "/api/v1/sites/home/history?format=csv", token))[0] == 200
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            status, problem, headers = await server.call("GET", "/api/v1/sites/home/history?format=csv", token)
        assert (status, problem["status"], headers["retry-after"]) == (503, 503, "2")
    await store.close()
