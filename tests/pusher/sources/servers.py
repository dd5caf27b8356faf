"""Devices and brokers for tests: real servers on this machine, on ports that the system gives.

Each is an async context manager; what it answers may be changed while it runs.
"""

import os
import shutil
import socket
from contextlib import asynccontextmanager

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
