"""Plays what a device answers, as `tests/recorded` has it, on real servers, and reads it through its template.

A recorded file holds `built_from` and `cases`; a case `says` what the house does, gives the answers (`http`, `modbus`,
`sunspec`, `mqtt`), further `parameters`, and what is to be read (`expect`, by role).
"""

import asyncio
import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trustme
from aiohttp import web
from ruamel.yaml import YAML

from pusher.sources import Shared, SourceError, source_module
from pusher.templates import ROLE_OF, expand
from tests.pusher.sources.servers import SunSpecMap, http_device, modbus_device, mosquitto, words

RECORDED = Path(__file__).parents[2] / "recorded"
CATEGORY_OF = {role: category for category, role in ROLE_OF.items()}


def recorded(name):
    """The cases of a recorded file."""
    return YAML(typ="safe").load((RECORDED / f"{name}.yaml").read_text(encoding="utf-8"))["cases"]


def sml_telegram(readings):
    """An SML telegram with `{obis: [scaler, value]}` and a right checksum (CRC-16/X.25)."""

    def octets(raw):
        return bytes([len(raw) + 1]) + raw

    def integer(value, size, kind):
        return bytes([kind << 4 | size + 1]) + value.to_bytes(size, "big", signed=kind == 5)

    def entry(obis, scaler, value):
        numbers = [int(part) for part in obis.replace("-", ".").replace(":", ".").split(".")]
        name = octets(bytes([*numbers, 255]))
        return b"\x77" + name + b"\x01\x01" + b"\x62\x1b" + integer(scaler, 1, 5) + integer(value, 4, 5) + b"\x01"

    entries = b"".join(entry(obis, *reading) for obis, reading in readings.items())
    listed = bytes([0x70 | len(readings)]) + entries
    body = b"\x77\x01" + octets(b"meter-1") + octets(bytes([1, 0, 98, 10, 255, 255])) + b"\x01" + listed + b"\x01\x01"
    message = b"\x76" + octets(b"\x01\x02") + b"\x62\x00\x62\x00" + b"\x72\x63\x07\x01" + body + b"\x63\x12\x34\x00"
    message += bytes(-len(message) % 4)
    telegram = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + message + b"\x1b\x1b\x1b\x1b\x1a\x00"
    crc = 0xFFFF
    for byte in telegram:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return telegram + (crc ^ 0xFFFF).to_bytes(2, "little")


def laid_out(registers):
    """`{40083: {int16: -749}}` or `{40083: [0x8000]}` as single registers."""
    table = {}
    for first, content in registers.items():
        if isinstance(content, list):
            laid = content
        else:
            ((kind, number),) = content.items()
            laid = words(number, kind.removesuffix("_little"))
            laid = laid[::-1] if kind.endswith("_little") else laid
        table |= dict(enumerate(laid, first))
    return table


def sunspec_map(models, base=40000, **values):
    registers = SunSpecMap(*models, base=base)
    for method, arguments in values.items():
        getattr(registers, method)(*arguments)
    return registers


@asynccontextmanager
async def _http(http):
    context = None
    if http.get("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    answers = http.get("answers", {}) | {path: sml_telegram(told) for path, told in http.get("sml", {}).items()}

    def guarded(answer):
        async def handler(request):
            for header, value in http.get("needs", {}).items():
                if request.headers.get(header) != value:
                    return web.Response(status=401)
            return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer))

        return handler

    def posted(post):
        async def handler(request):
            right = request.method == "POST" and await request.json() == post["body"]
            return web.json_response(post["answer"] if right else {}, status=200 if right else 401)

        return handler

    handlers = {path: guarded(answer) for path, answer in answers.items()}
    handlers |= {path: posted(post) for path, post in http.get("posts", {}).items()}
    async with http_device(handlers, ssl_context=context) as device:
        yield {"host": device.url.partition("://")[2]}


@asynccontextmanager
async def _modbus(case):
    units = {}
    for unit, tables in case.get("modbus", {}).items():
        units[unit] = {"holding": {}, "input": {}} | {table: laid_out(found) for table, found in tables.items()}
    for unit, values in case.get("sunspec", {}).items():
        units.setdefault(unit, {"holding": {}, "input": {}})["holding"] |= sunspec_map(**values)
    async with modbus_device(units=units) as device:
        yield {"host": device.host, "port": device.port}


@asynccontextmanager
async def _mqtt(messages, folder):
    async with mosquitto(folder) as broker, broker.client() as client:

        async def publish():
            while True:
                for topic, payload in messages.items():
                    await client.publish(topic, json.dumps(payload))
                await asyncio.sleep(0.05)

        publishing = asyncio.create_task(publish())
        try:
            yield {"host": "127.0.0.1", "port": broker.port}
        finally:
            publishing.cancel()


def playing(case, folder):
    """The case's device, on real servers; gives the parameters that lead to it."""
    if "http" in case:
        return _http(case["http"])
    return _mqtt(case["mqtt"], folder) if "mqtt" in case else _modbus(case)


async def play(name, case, folder):
    """What the template reads for each role of `expect`."""
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(playing(case, folder))
        shared = Shared()
        stack.push_async_callback(shared.close)
        found = {}
        for role in case["expect"]:
            category = CATEGORY_OF[role]
            kind, options = expand(name, case.get("parameters", {}) | at, category, None)
            module = source_module(kind)
            source = module.open_source(module.Options.model_validate(options), category, shared)
            found[role] = (await _read(source, retry=kind == "mqtt")).values
        return found


async def _read(source, *, retry):
    while True:
        try:
            return await source.read()
        except SourceError:
            if not retry:
                raise
            await asyncio.sleep(0.01)
