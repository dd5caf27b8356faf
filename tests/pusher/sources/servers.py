"""Devices and brokers for tests: real servers on this machine, on ports that the system gives.

Each is an async context manager; what it answers may be changed while it runs.
"""

import asyncio
import os
import shutil
import socket
import struct
from contextlib import asynccontextmanager
from importlib.util import find_spec

import aiomqtt
import pytest
from aiohttp import web
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.conftest import lacking


def need(program):
    """The path of a program; where it is missing the test is skipped, and fails under CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        lacking(f"{program} is not installed")
    return found


def need_module(name):
    """Skip without a package that only some sources need; fail under CI."""
    if find_spec(name) is None:
        lacking(f"the package {name} is not installed")


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class HttpDevice:
    """A device that answers JSON; `answers[path]` is a document, a text, bytes, or a handler of the request."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.url = ""

    async def _answer(self, request):
        self.requests.append((request.method, request.path_qs, dict(request.headers), await request.text()))
        answer = self.answers.get(request.path)
        if answer is None:
            raise web.HTTPNotFound
        if callable(answer):
            return await answer(request)
        if isinstance(answer, bytes | str):
            return web.Response(body=answer)
        return web.json_response(answer)


@asynccontextmanager
async def http_device(answers=None, *, ssl_context=None):
    """An HttpDevice that listens."""
    device = HttpDevice()
    device.answers |= answers or {}
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", device._answer)
    runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    scheme = "https" if ssl_context else "http"
    device.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield device
    finally:
        await runner.cleanup()


class Mosquitto:
    """A mosquitto process; `stop` and `start` again keep its port."""

    def __init__(self, folder, settings, tls):
        self.port = free_port()
        self._program = need("mosquitto")
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n{settings}\n"
        )
        self._process = None
        self._tls = tls

    async def start(self):
        self._process = await asyncio.create_subprocess_exec(
            self._program, "-c", str(self._config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async for line in self._process.stdout:
            if b"running" in line:
                return
        pytest.fail("mosquitto does not start")

    async def stop(self):
        self._process.kill()  # it overhears a SIGTERM that comes right after its start
        await self._process.communicate()

    @asynccontextmanager
    async def client(self, **login):
        async with aiomqtt.Client("127.0.0.1", self.port, tls_context=self._tls, **login) as client:
            yield client

    async def publish(self, topic, payload, *, retain=False, **login):
        async with self.client(**login) as client:
            await client.publish(topic, payload, qos=1, retain=retain)


@asynccontextmanager
async def mosquitto(folder, settings="", *, tls=None):
    """A broker that listens on this machine; `settings` are lines of its configuration."""
    broker = Mosquitto(folder, settings, tls)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class ModbusDevice:
    """A pymodbus server whose registers may be changed while it runs.

    `units[unit]["holding" | "input"]` maps registers to words; a register that is not there is refused (exception 2).
    """

    def __init__(self, units):
        self.units = units
        self.requests = []
        self.refuse = {}
        self.silent_units = set()
        self.port = 0
        self.host = "127.0.0.1"

    def holding(self, unit=1):
        return self.units[unit]["holding"]

    def _simulated(self, unit):
        async def action(function, start, address, count, registers, written):
            table = self.units[unit]["holding" if function == 3 else "input"]
            self.requests.append((unit, function, address, count))
            if unit in self.refuse:
                return ExcCodes(self.refuse[unit])
            if any(register not in table for register in range(address, address + count)):
                return ExcCodes.ILLEGAL_ADDRESS
            for register in range(address, address + count):
                registers[register - start] = table[register]
            return None

        everything = SimData(0, count=65536, values=0, datatype=DataType.REGISTERS)
        return SimDevice(unit, simdata=[everything], action=action)


@asynccontextmanager
async def modbus_device(holding=None, *, input_registers=None, units=None, framer="socket", port=0):
    """A ModbusDevice that listens: of unit 1 with the registers given, or of several units."""
    units = units or {1: {"holding": holding or {}, "input": input_registers or {}}}
    device = ModbusDevice(units)

    def keep_silent(sending, pdu):
        if sending and pdu.dev_id in device.silent_units:
            pdu.dev_id = 255  # an answer to nobody
        return pdu

    device.port = port or free_port()
    server = ModbusTcpServer(
        [device._simulated(unit) for unit in units],
        framer=FramerType(framer),
        address=("127.0.0.1", device.port),
        trace_pdu=keep_silent,
    )
    await server.serve_forever(background=True)
    try:
        yield device
    finally:
        await server.shutdown()


def words(number, kind="int16"):
    """A number as the big-endian words of a type."""
    form = {"int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q", "float32": ">f"}[kind]
    raw = struct.pack(form, number)
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


class SunSpecMap(dict):
    """Registers of a SunSpec device, model after model; `model` says where each begins."""

    LENGTHS = {1: 66, **dict.fromkeys((101, 102, 103), 50), **dict.fromkeys((111, 112, 113), 60), 120: 26, 124: 24}
    LENGTHS |= {
        160: 88,
        **dict.fromkeys((201, 202, 203, 204), 105),
        **dict.fromkeys((211, 212, 213, 214), 124),
        802: 62,
    }

    def __init__(self, *models, base=40000):
        super().__init__({base: 0x5375, base + 1: 0x6E53})
        self.model = {}
        self._next = base + 2
        for number in models:
            self.add(number)

    def add(self, number, length=None):
        length = length or self.LENGTHS[number]
        address = self._next
        self.model.setdefault(number, address)
        self |= dict.fromkeys(range(address, address + 2 + length), 0x8000)
        self[address], self[address + 1] = number, length
        self._next = address + 2 + length
        self[self._next], self[self._next + 1] = 0xFFFF, 0
        return address

    def write(self, address, number, kind="int16"):
        self.update(enumerate(words(number, kind), address))
        return self

    def inverter(self, number, power_w, energy_wh=346_890, state=4, factor=0):
        """An inverter model (first of its number) with its power; floats for 111 to 113."""
        at = self.model[number]
        if number > 110:
            return self.write(at + 22, power_w, "float32").write(at + 32, energy_wh, "float32").write(at + 48, state)
        self.write(at + 14, round(power_w / 10**factor)).write(at + 15, factor)
        return self.write(at + 24, energy_wh, "uint32").write(at + 26, 0).write(at + 38, state)

    def meter(self, number, power_w, factor=0):
        at = self.model[number]
        if number > 210:
            return self.write(at + 28, power_w, "float32")
        return self.write(at + 18, round(power_w / 10**factor)).write(at + 22, factor)

    def battery(self, power_w, soc, factor=0):
        """Model 802."""
        at = self.model[802]
        self.write(at + 47, round(power_w / 10**factor)).write(at + 63, factor)
        return self.write(at + 11, round(soc * 10)).write(at + 56, -1)

    def storage(self, soc):
        """Model 124."""
        at = self.model[124]
        return self.write(at + 8, round(soc * 100)).write(at + 22, -2)

    def mppt(self, *powers_w, factor=0):
        """Model 160: the power of each input."""
        at = self.model[160]
        self.write(at + 4, factor).write(at + 8, len(powers_w))
        for module, power_w in enumerate(powers_w):
            self.write(at + 10 + 20 * module + 11, round(power_w / 10**factor), "uint16")
        return self
