"""The main job on real parts: a device's reading reaches the wallbox through a real pusher and a real function."""

import asyncio
import json

import pytest

from tests.pusher.parts import pusher_of, real_function, until
from tests.pusher.sources.servers import http_device, modbus_device

TICK = "every: 300ms"


def devices(meter, inverter):
    return f"""
      - energy_meter: 0
        {TICK}
        info: {{name: Grid, location: 1}}
        http: {{url: "{meter.url}/status", values: {{grid_power_w: total}}}}
      - inverter: 0
        {TICK}
        info: {{name: Roof}}
        modbus: {{host: 127.0.0.1, port: {inverter.port}, values: {{inv_power_ac_w: {{register: 100, type: int16}}}}}}
    """


@pytest.fixture
async def house(tmp_path):
    """A function, a meter that speaks HTTP, an inverter that speaks Modbus."""
    async with (
        real_function(tmp_path) as function,
        http_device({"/status": {"total": -542}}) as meter,
        modbus_device({100: 2225}) as inverter,
    ):
        yield function, meter, inverter


async def test_a_changed_register_becomes_a_changed_values_json(house, tmp_path):
    function, meter, inverter = house
    read = await function.token("read")
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:

        async def wallbox_reads():
            status, document = await function.get("/api/v1/values.json", read)
            return status == 200 and document["device_values"]

        def shows(power_w, grid_w):
            async def shown():
                values = await wallbox_reads()
                return values and (
                    values.get("inverters", {}).get("0", {}).get("inv_power_ac_w"),
                    values.get("energy_meters", {}).get("0", {}).get("grid_power_w"),
                ) == (power_w, grid_w)

            return shown

        await until(shows(2225, -542), "the first reading arrives")
        inverter.holding()[100] = 3000
        await until(shows(3000, -542), "the register's change arrives")
        meter.answers["/status"] = {"total": 1200}
        await until(shows(3000, 1200), "the meter's change arrives")
        assert await function.get("/api/v1/info.json", read) == (
            200,
            {
                "device_info": {
                    "inverters": {"0": {"name": "Roof"}},
                    "energy_meters": {"0": {"name": "Grid", "location": 1}},
                }
            },
        )
        assert await pusher.ask("/api/v1/values.json") == await function.get("/api/v1/values.json", read)
        assert await pusher.ask("/api/v1/info.json") == await function.get("/api/v1/info.json", read)
        await until(function.rows, "history has rows")
        assert await pusher.stop() == 0
        assert "ended in order" in pusher.said()


async def test_run_once_posts_both_lanes_and_says_so(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(
        tmp_path, function.url, await function.token(), devices(meter, inverter), start=False
    ) as pusher:
        code, said = await pusher.command("run", "--once")
        assert code == 0, said
        assert "grid_power_w = -542" in said
        [row] = await function.rows()
        assert row.duration_s == 0
        assert row.device_values.inverters["0"].inv_power_ac_w == 2225
        status, document = await function.get("/api/v1/values.json", await function.token("read"))
        assert (status, document["device_values"]["load_power_w"]) == (200, 1683)
        del meter.answers["/status"]
        code, said = await pusher.command("run", "--once")
        assert code == 1
        assert "Grid: not read" in said


async def test_check_online_reads_the_devices_and_asks_who_the_token_is(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(
        tmp_path, function.url, await function.token(), devices(meter, inverter), start=False
    ) as pusher:
        code, said = await pusher.command("check", "--online")
        assert code == 0, said
        assert "grid_power_w = -542" in said
        assert 'good for site "home", scope push' in said
        (tmp_path / "token").write_text(await function.token("read"))
        code, said = await pusher.command("check", "--online")
        assert code == 1
        assert "needs the scope push" in said
        assert (tmp_path / "token").read_text() not in said


async def test_a_dead_device_is_withdrawn_and_the_others_go_on(house, tmp_path):
    function, meter, inverter = house
    read = await function.token("read")
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:

        async def surplus_known():
            return (await function.get("/api/v1/values.json", read))[0] == 200

        await until(surplus_known, "the wallbox reads values")
        never = asyncio.Event()

        async def hang(_request):
            await never.wait()

        meter.answers["/status"] = hang

        async def surplus_unknown():
            status, document = await function.get("/api/v1/values.json", read)
            return status == 503 and "Grid" in document["detail"]

        await until(surplus_unknown, "the dead meter is withdrawn")
        document = await pusher.status()
        states = {device["title"]: device for device in document["devices"]}
        assert states["Grid"]["withdrawn"]
        assert "no answer within" in states["Grid"]["error"]
        assert states["Roof"]["age_s"] < 5
        code, said = await pusher.command("status")
        assert code == 1
        assert "Grid" in said
        assert pusher.said().count("Grid cannot be read") == 1
        never.set()
        meter.answers["/status"] = {"total": 5}
        await until(surplus_known, "the meter is back")
        await until(lambda: "Grid answers again" in pusher.said(), "the log says that it is back")
        assert (await pusher.command("status", "--json"))[0] == 0


async def test_a_device_that_lies_is_as_good_as_dead(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:

        async def grid_if(state):
            [device] = [device for device in (await pusher.status())["devices"] if device["title"] == "Grid"]
            return state(device) and device

        for lie in ('{"total": NaN}', '{"total": "many"}', json.dumps({"total": 2**31}), "\xff\xfe", "[" * 3000):
            meter.answers["/status"] = {"total": 1}

            await until(lambda: grid_if(lambda d: not d["error"] and d["values"] == {"grid_power_w": 1}), "a good read")
            meter.answers["/status"] = lie
            device = await until(lambda: grid_if(lambda d: d["error"]), f"{lie[:20]} is found out")
            assert device["values"] == {"grid_power_w": 1}


async def test_the_socket_keeps_the_documents_rules(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:
        await until(pusher.status, "it runs")
        path = str(tmp_path / "run" / "pusher.sock")

        async def raw(request):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            writer.close()
            return head

        known = await raw(b"GET /api/v1/values.json HTTP/1.0\r\n\r\n")
        assert known.split()[1] in ("200", "503")
        assert "content-length:" in known
        assert "chunked" not in known
        for request, status in {
            b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n": "404",
            b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n": "500",
            b"PUT /api/v1/values.json HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n": "500",
            b"HEAD /api/v1/info.json HTTP/1.1\r\nHost: x\r\n\r\n": "500",
            b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n": "405",
        }.items():
            answer = await raw(request)
            assert answer.split()[1] == status, request
            assert "cache-control: no-store" in answer


async def test_what_it_keeps_is_its_users_alone_and_its_socket_everybodys(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:
        await until(pusher.status, "it runs")
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "run" / "pusher.sock").stat().st_mode & 0o777 == 0o666


async def test_a_second_pusher_on_the_same_state_is_turned_away(house, tmp_path):
    function, meter, inverter = house
    async with pusher_of(tmp_path, function.url, await function.token(), devices(meter, inverter)) as pusher:
        code, said = await pusher.command("run", "--once")
        assert code == 1
        assert "another pusher works on" in said
        assert (await pusher.ask("/status"))[0] == 200
