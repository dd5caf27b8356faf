"""A house for the pusher under measurement: devices of all kinds, the pusher itself, and a wallbox that looks."""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.pusher.parts import Function, Pusher, pusher_of
from tests.pusher.sources.servers import http_device, modbus_device, mosquitto

TICK_S = 5
POLL_S = 0.025


class House:
    """Devices of all kinds, whose powers are never twice the same."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._count = itertools.count()

    def _power_w(self) -> int:
        return next(self._count) % 2 * 1000 + random.randrange(500)

    async def start(self) -> None:
        """Let all devices answer, until the stack ends."""
        self.meter = await self._stack.enter_async_context(http_device({"/": self._meter}))
        self.inverter = await self._stack.enter_async_context(modbus_device({100: 2225}))
        self.broker = await self._stack.enter_async_context(mosquitto(self._folder))
        self.meter.answers["/api/states/sensor.boiler"] = self._boiler
        await self._stack.enter_async_context(beside(self._move()))

    async def _meter(self, _request: web.Request) -> web.Response:
        return web.json_response({"total": self._power_w()})

    async def _boiler(self, _request: web.Request) -> web.Response:
        now = datetime.now(UTC)
        state = {"entity_id": "sensor.boiler", "state": str(self._power_w()), "last_reported": now.isoformat()}
        state |= {"attributes": {"unit_of_measurement": "W"}, "last_updated": now.isoformat()}
        date = f"{now:%a, %d %b %Y %H:%M:%S} GMT"
        return web.json_response(state | {"last_changed": now.isoformat()}, headers={"Date": date})

    async def _move(self) -> None:
        async with self.broker.client() as client:
            while True:
                self.inverter.holding()[100] = self._power_w()
                await client.publish("battery", json.dumps({"w": self._power_w(), "soc": 78.2}))
                await asyncio.sleep(TICK_S)

    @property
    def two(self) -> str:
        """A meter over HTTP and an inverter over Modbus."""
        return f"""
  - energy_meter: 0
    info: {{name: Grid, location: 1}}
    http: {{url: "{self.meter.url}/", values: {{grid_power_w: total}}}}
  - inverter: 0
    info: {{name: Roof}}
    modbus: {{host: 127.0.0.1, port: {self.inverter.port}, values: {{inv_power_ac_w: {{register: 100, type: int16}}}}}}
"""

    @property
    def every_kind(self) -> str:
        """The same and one device of each further kind."""
        return f"""{self.two}
  - battery: 0
    mqtt: {{host: 127.0.0.1, port: {self.broker.port}, values: {{bat_power_w: {{topic: battery, path: w}},
           soc: {{topic: battery, path: soc}}}}}}
  - smart_load: 0
    homeassistant: {{url: "{self.meter.url}", token: t0ken, values: {{sl_power_w: sensor.boiler}}}}
  - inverter: 1
    info: {{name: Barn}}
    simulated: {{}}
  - load: true
    command: {{run: echo 1683, values: {{load_power_w: "@"}}}}
"""


@asynccontextmanager
async def pusher_at(function: Function, folder: Path, site: str, devices: str, archive: str) -> AsyncIterator[Pusher]:
    """A pusher of a site of its own, in a folder of that name."""
    own = folder / site
    own.mkdir(exist_ok=True)
    token = await function.token("push", "--site", site)
    async with pusher_of(own, function.url, token, devices, more=f"archive: {{{archive}}}") as pusher:
        yield pusher
        await pusher.stop()


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on until the block ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def asker(function: Function, session: aiohttp.ClientSession, token: str) -> Callable[[], Any]:
    """Asks as the wallbox does: the grid power shown, or None."""

    async def ask() -> float | None:
        headers = {"X-NRGkick-Token": token}
        async with session.get(f"{function.url}/api/v1/values.json", headers=headers) as answer:
            document = await answer.json()
            return document["device_values"]["energy_meters"]["0"]["grid_power_w"] if answer.status == 200 else None

    return ask


async def shown(ask: Callable[[], Any], wanted: Callable[[float], bool]) -> None:
    while True:
        power_w = await ask()
        if power_w is not None and wanted(power_w):
            return
        await asyncio.sleep(POLL_S)
