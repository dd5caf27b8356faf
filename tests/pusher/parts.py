"""Real processes for the pusher's tests: the function on SQLite, the pusher itself, and a fault between the two."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import free_port

BIN = Path(sys.executable).parent
PATIENCE_S = 40


async def until(condition, what, patience_s=PATIENCE_S):
    """Wait until a condition (a function, or one that gives an awaitable) gives something true, and return it."""
    end = asyncio.get_running_loop().time() + patience_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > end:
            pytest.fail(f"not within {patience_s} s: {what}")
        await asyncio.sleep(0.05)


async def command(*arguments, answers="", folder=None):
    """Run nrgkick-pusher; its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        BIN / "nrgkick-pusher", *map(str, arguments), cwd=folder, start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate(answers.encode())
    return process.returncode, out.decode()


class Function:
    """The real function as a process, on an SQLite store of its own."""

    def __init__(self, folder):
        self.store = f"sqlite:{folder / 'cloud.db'}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "function.log"
        self._process = None

    async def start(self):
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                BIN / "nrgkick-cloud", "serve", "--host", "127.0.0.1", "--port", str(self.port), "--store", self.store,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        await until(self._listens, f"the function listens; {self._log.read_text()[-2000:]}")

    async def _listens(self):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self):
        if self._process and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def token(self, scope="push", *more):
        process = await asyncio.create_subprocess_exec(
            BIN / "nrgkick-cloud", "token", "--site", "home", "--scope", scope, "--store", self.store, *more,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode().strip()

    async def rows(self, site="home"):
        """Every row in a site's history, oldest first."""
        from function.stores import open_store

        store = open_store(self.store)
        try:
            whole = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
            found = [archived.row async for archived in store.rows(site, *whole)]
        finally:
            await store.close()
        return sorted(found, key=lambda row: row.measured_at)

    async def get(self, path, token):
        return await self._ask("GET", path, token)

    async def put(self, path, token, document):
        return await self._ask("PUT", path, token, json=document)

    async def _ask(self, method, path, token, **more):
        headers = {"X-NRGkick-Token": token}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, headers=headers, **more) as response,
        ):
            return response.status, await response.json()


@asynccontextmanager
async def real_function(folder):
    function = Function(folder)
    await function.start()
    try:
        yield function
    finally:
        await function.stop()


class Between:
    """Stands between the pusher and the function.

    `fault(request, body)` may answer instead; `lose` is a path whose answers get lost.
    """

    def __init__(self, target):
        self.target = target
        self.url = ""
        self.fault = None
        self.lose = None
        self.seen = Counter()
        self.bodies = []
        self.arrived = asyncio.Event()
        self._session = None

    async def _handle(self, request):
        body = await request.read()
        self.seen[request.path] += 1
        self.bodies.append((request.path, json.loads(body) if body else None, request.headers))
        self.arrived.set()
        if self.fault is not None:
            answer = self.fault(request, body)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer is not None:
                return answer
        headers = {key: value for key, value in request.headers.items() if key not in ("Host", "Content-Encoding")}
        headers.pop("Content-Length", None)
        async with self._session.request(
            request.method, self.target + request.path_qs, data=body, headers=headers
        ) as r:
            content = await r.read()
            if self.lose and request.path == self.lose:
                request.transport.abort()
            kept = {k: v for k, v in r.headers.items() if k in ("Content-Type", "Retry-After")}
            return web.Response(status=r.status, body=content, headers=kept)

    def posts(self, path):
        return [body for seen, body, _ in self.bodies if seen == path]


@asynccontextmanager
async def between(target):
    middle = Between(target)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", middle._handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    async with aiohttp.ClientSession() as session:
        middle._session = session
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        middle.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield middle
        finally:
            await runner.cleanup()


def problem(status, detail="no", headers=None, **more):
    """A problem document as the function makes them."""
    document = {"type": "about:blank", "title": "x", "status": status, "detail": detail, **more}
    return web.Response(
        status=status, text=json.dumps(document), content_type="application/problem+json", headers=headers
    )


SIMULATED = """
  - inverter: 0
    info: {name: Roof}
    simulated: {}
  - energy_meter: 0
    info: {name: Grid, location: 1}
    simulated: {}
"""


class Pusher:
    """The daemon as a process, with a configuration of its own."""

    def __init__(self, folder, url, token, devices=SIMULATED, *, more="", state_dir=None):
        self.folder = folder
        self.state_dir = state_dir or folder / "state"
        self.config = folder / "pusher.yaml"
        (folder / "token").write_text(token)
        self.write(url, devices, more)
        self.log = folder / "pusher.log"
        self.process = None

    def write(self, url, devices=SIMULATED, more=""):
        self.config.write_text(
            f'cloud: {{url: "{url}", token_file: {self.folder}/token}}\n'
            f"pusher: barn\nstate_dir: {self.state_dir}\nrun_dir: {self.folder}/run\n"
            f"{more or 'archive: {every: 0s, send_every: 1s}'}\ndevices:\n"
            + textwrap.dedent(devices).strip("\n")
            + "\n"
        )

    async def start(self, *, wrapper=None, env=None, ready=True):
        command = [BIN / "nrgkick-pusher", "run"] if wrapper is None else [sys.executable, "-c", wrapper]
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, *([] if wrapper else ["--config", self.config]), stdout=log, stderr=log,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip
        if ready:
            await until(self.status, "the pusher answers")

    async def command(self, *arguments):
        """Run one command; its exit code and what it said."""
        process = await asyncio.create_subprocess_exec(
            BIN / "nrgkick-pusher", *arguments, "--config", self.config,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    async def ask(self, path):
        """Status and document of a path at pusher.sock; None if nobody answers."""
        if self.process.returncode is not None:
            pytest.fail(f"the pusher ended with {self.process.returncode}: {self.said()[-3000:]}")
        try:
            connector = aiohttp.UnixConnector(str(self.folder / "run" / "pusher.sock"))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"http://pusher{path}") as response,
            ):
                return response.status, await response.json()
        except (aiohttp.ClientError, OSError):
            return None

    async def status(self):
        answer = await self.ask("/status")
        return answer and answer[1]

    def said(self):
        return self.log.read_text()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    async def stop(self, number=signal.SIGTERM):
        if self.process and self.process.returncode is None:
            self.process.send_signal(number)
            await asyncio.wait_for(self.process.wait(), 20)
        return self.process.returncode


@asynccontextmanager
async def pusher_of(folder, url, token, devices=SIMULATED, *, start=True, **options):
    pusher = Pusher(folder, url, token, devices, **options)
    if start:
        await pusher.start()
    try:
        yield pusher
    finally:
        if pusher.process and pusher.process.returncode is None:
            pusher.kill()
            await pusher.process.wait()
