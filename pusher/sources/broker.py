"""One connection to one MQTT broker, for all devices behind it: the last message of each watched topic, with its age.

It reconnects for ever, slower and slower up to a minute. Retained messages are ignored: the broker hands them out at
once to whoever subscribes and nobody can tell how old they are, so they must never be shown as now. (A message that is
published with the retain flag while we listen comes without it, and counts.)
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass

import aiomqtt

from pusher.clock import monotonic_s
from pusher.sources import SourceError
from pusher.sources.arrivals import Arrivals
from pusher.sources.logins import PasswordLogin
from pusher.tasks import again_and_again, end

__all__ = ["Address", "Arrived", "Broker", "Keepalive"]

PAYLOAD_LIMIT_BYTES = 64 * 1024
_QUEUE_LIMIT = 1000
_FIRST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is and how to be let in; one connection for each."""

    host: str
    port: int
    login: PasswordLogin | None = None
    tls: bool = False
    ca_file: str | None = None
    verify_tls: bool = True

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message and `monotonic_s()` of its arrival."""

    payload: bytes
    at_s: float


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A message that a device wants to hear from time to time, or it falls silent."""

    topic: str
    payload: str
    every_s: float


class Broker:
    """A broker's last messages. Nothing is connected before the first `last`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._topics: set[str] = set()
        self._keepalives: set[Keepalive] = set()
        self._arrived: dict[str, Arrived] = {}
        self._arrivals = Arrivals()
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._begun_at_s: float | None = None
        self._trouble = "is not connected yet"
        self._failed = False

    def watch(self, topics: set[str], keepalive: Keepalive | None) -> None:
        """Keep the last message of each of `topics` from now on."""
        news = topics - self._topics or {keepalive} - self._keepalives - {None}
        self._topics |= topics
        if keepalive:
            self._keepalives.add(keepalive)
        if news and self._task is not None:
            self._task.cancel()
            self._task = None

    async def last(self, topic: str) -> Arrived:
        """The topic's last message; raises SourceError if none has arrived.

        Only in the first two seconds, and while no connection has failed, it waits for one, so that one read can do.
        """
        if self._task is None:
            self._task = asyncio.create_task(again_and_again(self._connect), name=f"mqtt {self.address}")
            self._begun_at_s = self._begun_at_s or monotonic_s()
        if topic not in self._arrived:
            left_s = _FIRST_WAIT_S - (monotonic_s() - (self._begun_at_s or 0))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0, left_s)), self._news:
                    await self._news.wait_for(lambda: topic in self._arrived or self._failed)
        if topic not in self._arrived:
            connected = f'has sent nothing on "{topic}" yet (retained messages do not count: their age is unknown)'
            raise SourceError(f"the broker {self.address} {self._trouble or connected}")
        return self._arrived[topic]

    def arrived(self) -> dict[str, Arrived]:
        """The last message of every topic that has sent one."""
        return dict(self._arrived)

    @property
    def trouble(self) -> str:
        """Why there is no connection now; empty if there is one."""
        return self._trouble

    async def close(self) -> None:
        """Leave the broker."""
        if self._task is not None:
            await end([self._task])
            self._task = None

    async def _connect(self) -> None:
        try:
            await self._listen()
        except (aiomqtt.MqttError, OSError, ValueError, SourceError) as error:
            self._trouble = f"cannot be used: {str(error)[:120] or type(error).__name__}"
        async with self._news:
            self._failed = True
            self._news.notify_all()

    async def _listen(self) -> None:
        address = self.address
        client = aiomqtt.Client(
            address.host,
            address.port,
            username=address.login.user if address.login else None,
            password=address.login.secret() if address.login else None,
            tls_context=await asyncio.to_thread(_tls_context, address) if address.tls else None,
            max_queued_incoming_messages=_QUEUE_LIMIT,
            keepalive=30,
        )
        try:
            await self._hear(client)
        finally:
            # aiomqtt leaves a connection alone that it gave up before the broker's answer, which may still come.
            abandoned = client._client  # noqa: SLF001 - it offers no other way to it
            abandoned.on_disconnect = None
            abandoned.on_connect = lambda late, *_: late.disconnect()
            abandoned.disconnect()

    async def _hear(self, client: aiomqtt.Client) -> None:
        async with client:
            if self._topics:
                await client.subscribe([(topic, 0) for topic in sorted(self._topics)])
            self._trouble, self._failed = "", False
            keepers = [asyncio.create_task(_keep_alive(client, keepalive)) for keepalive in self._keepalives]
            keepers.append(self._arrivals.watch())
            try:
                async for message in client.messages:
                    await self._take(message)
            finally:
                self._trouble = "has closed the connection"
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)

    async def _take(self, message: aiomqtt.Message) -> None:
        payload = message.payload if isinstance(message.payload, bytes) else b""
        if message.retain or len(payload) > PAYLOAD_LIMIT_BYTES:
            return
        async with self._news:
            self._arrived[message.topic.value] = Arrived(payload, self._arrivals.now_s())
            self._news.notify_all()


async def _keep_alive(client: aiomqtt.Client, keepalive: Keepalive) -> None:
    while True:
        await client.publish(keepalive.topic, keepalive.payload)
        await asyncio.sleep(keepalive.every_s)


def _tls_context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=address.ca_file)
    if not address.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
