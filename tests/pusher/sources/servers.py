"""Devices and brokers for tests: real servers on this machine, on ports that the system gives.

Each is an async context manager; what it answers may be changed while it runs.
"""

import asyncio
import os
import shutil
import socket
from contextlib import asynccontextmanager

import aiomqtt
import pytest
from aiohttp import web


def need(program):
    """The path of a program; where it is missing the test is skipped, and fails under CI."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{program} is not installed")
    return found


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
