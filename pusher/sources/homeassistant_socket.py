"""One WebSocket to one Home Assistant: the changes of watched entities, the moment they happen.

It is a shortcut beside the REST API, never the only way: without a connection, or for an entity that has not changed
for some seconds, `last` gives nothing and the reader asks by REST. Source: developers.home-assistant.io, WebSocket API
(`subscribe_trigger` with state triggers).
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from pusher.clock import monotonic_s
from pusher.sources import Shared, SourceError
from pusher.sources.arrivals import Arrivals
from pusher.sources.logins import TokenLogin
from pusher.sources.web import Web
from pusher.tasks import again_and_again, end

__all__ = ["Heard", "StateSocket", "shared_socket"]

_COUNTS_FOR_S = 5.0
_MESSAGE_LIMIT_BYTES = 1 << 20
_FAULTS = (aiohttp.ClientError, OSError, TypeError, ValueError, KeyError, AttributeError, TimeoutError, SourceError)


@dataclass(frozen=True, slots=True)
class Heard:
    """A state that has just come about, and `monotonic_s()` of its arrival."""

    state: dict[str, Any]
    at_s: float


class StateSocket:
    """The connection; it opens at the first `last` and reconnects for ever."""

    def __init__(self, web: Web, url: str, login: TokenLogin, *, verify_tls: bool) -> None:
        self._web, self._url, self._login, self._verify_tls = web, url, login, verify_tls
        self._entities: set[str] = set()
        self._heard: dict[str, Heard] = {}
        self._arrivals = Arrivals()
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()
        """Set while changes are being heard."""

    def watch(self, entities: set[str]) -> None:
        """Listen for changes of these too."""
        if entities - self._entities and self._task is not None:
            self._task.cancel()
            self._task = None
        self._entities |= entities

    def last(self, entity: str) -> Heard | None:
        """The entity's last change, if that was a few seconds ago at most."""
        if self._task is None:
            self._task = asyncio.create_task(again_and_again(self._connect), name="homeassistant websocket")
        heard = self._heard.get(entity)
        return heard if heard and monotonic_s() - heard.at_s <= _COUNTS_FOR_S else None

    async def close(self) -> None:
        """Close the connection."""
        if self._task is not None:
            await end([self._task])
            self._task = None

    async def _connect(self) -> None:
        with suppress(*_FAULTS):  # the reader asks by REST meanwhile, and reports what is wrong
            await self._listen()
        self.connected.clear()
        self._heard.clear()

    async def _listen(self) -> None:
        url = URL(self._url) / "api/websocket"
        connect = self._web.session().ws_connect(
            url, heartbeat=20, max_msg_size=_MESSAGE_LIMIT_BYTES, ssl=self._verify_tls
        )
        async with connect as socket:
            await self._say(socket, "auth_required", {"type": "auth", "access_token": self._login.secret()})
            trigger = [{"platform": "state", "entity_id": sorted(self._entities)}]
            await self._say(socket, "auth_ok", {"id": 1, "type": "subscribe_trigger", "trigger": trigger})
            watch = self._arrivals.watch()
            try:
                async for message in socket:
                    self._take(message.json())
            finally:
                await end([watch])

    @staticmethod
    async def _say(socket: aiohttp.ClientWebSocketResponse, awaited: str, answer: dict[str, Any]) -> None:
        said = await socket.receive_json(timeout=10)
        if said["type"] != awaited:
            raise SourceError(f"Home Assistant says {str(said['type'])[:40]!r}")
        await socket.send_json(answer)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "result" and message["success"]:
            self.connected.set()
        elif message["type"] == "event":
            state = message["event"]["variables"]["trigger"]["to_state"]
            if isinstance(state, dict):
                self._heard[state["entity_id"]] = Heard(state, self._arrivals.now_s())


def shared_socket(shared: Shared, web: Web, url: str, login: TokenLogin, *, verify_tls: bool) -> StateSocket:
    """The WebSocket that all sources of one Home Assistant have in common."""
    key = ("homeassistant", url, login)
    socket: StateSocket = shared.connection(
        key, lambda: StateSocket(web, url, login, verify_tls=verify_tls), StateSocket.close
    )
    return socket
