"""The function as a real HTTP server inside the test, over each store in turn."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import functions_framework.aio
import pytest
import uvicorn

from function.access import Access
from function.app import Application
from function.main import ROUTES
from function.sites import Sites
from function.stores import Store
from function.tokens import Keyring
from function.worker import Protocol
from schemas.times import format_time

KEY = "k" * 48


class Server:
    """A running function, and what a test wants of it: tokens, posts, answers."""

    def __init__(self, url: str, application: Application, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.application = application
        self.session = session
        self.keyring = Keyring(KEY)
        self.ahead = timedelta()
        """How far the server's clock is set ahead of the host's."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def now(self) -> datetime:
        """The server's time."""
        return datetime.now(UTC) + self.ahead

    def make_it_noon(self) -> None:
        """Let the server's day be half over, so that a test's rows do not straddle midnight by chance."""
        noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
        self.ahead = noon - datetime.now(UTC)

    def token(self, site: str = "home", scope: str = "push", **claims: Any) -> str:
        return self.keyring.make(site, scope, self.now(), **claims)

    async def call(
        self, method: str, path: str, token: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, parsed body and headers of one request; `body` is JSON, or bytes as they are."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token:
            sent.setdefault("X-NRGkick-Token", token)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(method, self.url + path, data=data, headers=sent) as answer:
            text = await answer.read()
            parsed = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
            return answer.status, parsed, {name.lower(): value for name, value in answer.headers.items()}

    def live(self, values: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A live post of now."""
        now = format_time(self.now())
        return {"pusher": "barn-pi", "sent_at": now, "measured_at": now, "device_values": values, **more}

    def readings(self, *rows: Any, **more: Any) -> dict[str, Any]:
        """A batch of rows sent now."""
        return {"pusher": "barn-pi", "sent_at": format_time(self.now()), "readings": list(rows), **more}

    async def post_live(self, values: dict[str, Any], token: str | None = None, **more: Any) -> Any:
        status, answer, _ = await self.call("POST", "/api/v1/live", token or self.token(), self.live(values, **more))
        assert status == 200, answer
        return answer


@asynccontextmanager
async def serving(store: Store, default_site: str | None = None) -> AsyncIterator[Server]:
    """Serve an application over a store on a free port, under the framework."""
    holder: list[Server] = []
    application = Application(Sites(store), Access(Keyring(KEY), default_site), ROUTES, now=lambda: holder[0].now())

    async def nrgkick(request: Any) -> Any:
        return await application(request)

    framework = functions_framework.aio._create_asgi_app_with_function(nrgkick, "http", False)
    from function.main import _pass_everything

    _pass_everything(framework)
    config = uvicorn.Config(framework, host="127.0.0.1", port=0, http=Protocol, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        holder.append(Server(f"http://127.0.0.1:{port}", application, session))
        yield holder[0]
    server.should_exit = True
    await task


@pytest.fixture
async def server(store: Store) -> AsyncIterator[Server]:
    """The function over each store in turn."""
    async with serving(store) as running:
        yield running


@pytest.fixture
async def open_server(store: Store) -> AsyncIterator[Server]:
    """The same with `home` as default site."""
    async with serving(store, "home") as running:
        yield running
