"""Home Assistant: entities by REST and by WebSocket, on a server that answers as its API is documented."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSMsgType, web

from pusher.sources import Shared, SourceError
from pusher.sources.homeassistant import Options, open_source
from tests.pusher.sources.servers import http_device

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
async def shared():
    shared = Shared()
    yield shared
    await shared.close()


class HomeAssistant:
    """The documented REST and WebSocket API over a dictionary of states."""

    def __init__(self, device):
        self.url = device.url
        self.states = {}
        self.sockets = []
        self.subscribed = asyncio.Event()
        device.answers["/api/websocket"] = self._socket
        self._device = device

    def set(self, entity, state, *, age_s=0.0, unit="W", **attributes):
        at = (NOW - timedelta(seconds=age_s)).isoformat()
        self.states[entity] = {
            "entity_id": entity,
            "state": state,
            "attributes": {"unit_of_measurement": unit} | attributes,
            "last_changed": at,
            "last_reported": at,
            "last_updated": at,
        }
        self._device.answers[f"/api/states/{entity}"] = self._rest

    async def _rest(self, request):
        if request.headers.get("Authorization") != "Bearer t0ken":
            raise web.HTTPUnauthorized
        date = NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return web.json_response(self.states[request.path.rsplit("/", 1)[1]], headers={"Date": date})

    async def _socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "auth_required", "ha_version": "2026.11.0"})
        auth = await socket.receive_json()
        if auth != {"type": "auth", "access_token": "t0ken"}:
            await socket.send_json({"type": "auth_invalid", "message": "Invalid access token or password"})
            return socket
        await socket.send_json({"type": "auth_ok", "ha_version": "2026.11.0"})
        command = await socket.receive_json()
        await socket.send_json({"id": command["id"], "type": "result", "success": True, "result": None})
        self.sockets.append((socket, command))
        self.subscribed.set()
        async for message in socket:
            assert message.type is WSMsgType.TEXT
        return socket

    async def change(self, entity, state):
        """Set a state and tell those who listen."""
        self.set(entity, state)
        for socket, command in self.sockets:
            if entity in command["trigger"][0]["entity_id"]:
                trigger = {"platform": "state", "entity_id": entity, "to_state": self.states[entity]}
                event = {"variables": {"trigger": trigger}, "context": {}}
                await socket.send_json({"id": command["id"], "type": "event", "event": event})


@pytest.fixture
async def home():
    async with http_device() as device:
        yield HomeAssistant(device)


def meter(home, shared, value="sensor.grid", token="t0ken", **options):
    given = {"url": home.url, "token": token, "values": {"grid_power_w": value}} | options
    return open_source(Options.model_validate(given), "energy_meters", shared)


async def test_an_entitys_state_is_the_value(home, shared):
    home.set("sensor.grid", "-0.542", unit="kW")
    source = meter(home, shared, {"entity": "sensor.grid", "scale": 1000})
    assert (await source.read()).values == {"grid_power_w": -542}


async def test_an_attribute_may_be_the_value(home, shared):
    home.set("climate.boiler", "heat", current_temperature=46.8)
    home.set("sensor.boiler", "1241")
    values = {
        "sl_power_w": "sensor.boiler",
        "temp": {"entity": "climate.boiler", "attribute": "current_temperature"},
    }
    options = Options.model_validate({"url": home.url, "token": "t0ken", "values": values})
    assert (await open_source(options, "smart_loads", shared).read()).values == {"sl_power_w": 1241, "temp": 46.8}


async def test_kilowatts_taken_for_watts_are_an_error(home, shared):
    home.set("sensor.grid", "1.5", unit="kW")
    with pytest.raises(SourceError, match=r'sensor\.grid is in kW; write "scale: 1000"'):
        await meter(home, shared).read()


@pytest.mark.parametrize("state", ["unavailable", "unknown"])
async def test_an_unavailable_entity_is_no_value(home, shared, state):
    home.set("sensor.grid", state)
    with pytest.raises(SourceError, match=r'grid_power_w: nothing at entity "sensor\.grid"'):
        await meter(home, shared).read()


async def test_a_state_is_as_old_as_its_last_report_and_too_old_a_one_is_an_error(home, shared):
    home.set("sensor.grid", "5")
    new = await meter(home, shared).read()
    home.set("sensor.grid", "5", age_s=50)
    old = await meter(home, shared).read()
    assert new.taken_at_s - old.taken_at_s == pytest.approx(50, abs=2)
    home.set("sensor.grid", "5", age_s=600)
    with pytest.raises(SourceError, match=r'last reported 600 s ago, more than max_age .*"on_change: true"'):
        await meter(home, shared).read()
    held = await meter(home, shared, {"entity": "sensor.grid", "on_change": True}).read()
    assert held.values == {"grid_power_w": 5}
    assert held.taken_at_s > old.taken_at_s


async def test_a_wrong_token_and_an_unknown_entity_are_told_apart(home, shared):
    home.set("sensor.grid", "5")
    with pytest.raises(SourceError, match=r"sensor\.grid: .*refuses the login") as caught:
        await meter(home, shared, token="wr0ng").read()
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(SourceError, match=r"sensor\.gird: .*status 404"):
        await meter(home, shared, "sensor.gird").read()


async def until_value(source, value):
    """Read as the daemon does, tick by tick."""
    while True:
        reading = await source.read()
        if reading.values["grid_power_w"] == value:
            return reading
        await asyncio.sleep(0.01)


async def test_a_change_counts_at_once_over_the_websocket(home, shared):
    home.set("sensor.grid", "5")
    source = meter(home, shared, websocket=True)
    assert (await source.read()).values == {"grid_power_w": 5}
    await home.subscribed.wait()
    await home.change("sensor.grid", "-700")
    home.set("sensor.grid", "1")  # what REST would say
    assert (await until_value(source, -700)).values == {"grid_power_w": -700}


async def test_without_the_websocket_it_is_asked_by_rest(home, shared, monkeypatch):
    monkeypatch.setattr("pusher.tasks.BACKOFF_FROM_S", 0.01)
    home.set("sensor.grid", "5")
    source = meter(home, shared, websocket=True)
    await source.read()
    await home.subscribed.wait()
    await home.change("sensor.grid", "-700")
    await until_value(source, -700)
    home.set("sensor.grid", "6")
    home.subscribed.clear()
    socket, _ = home.sockets.pop()
    await socket.close()
    await until_value(source, 6)
    await home.subscribed.wait()  # and it comes back by itself
    await home.change("sensor.grid", "8")
    home.set("sensor.grid", "9")
    await until_value(source, 8)
