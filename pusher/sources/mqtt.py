"""Devices that publish over MQTT: the last message of each topic counts until it is older than its `max_age`.

A read never waits for the device. A reading is as old as the oldest message in it. A value that is `optional` is left
out while its message is missing or too old. Retained messages do not count (see `pusher.sources.broker`).
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from pusher.clock import monotonic_s
from pusher.durations import Duration
from pusher.sources import Reading, Shared, Source, SourceError
from pusher.sources.broker import Address, Arrived, Broker, Keepalive
from pusher.sources.conversion import look_up, shown
from pusher.sources.logins import PasswordLogin
from pusher.sources.values import JsonPath, Value, ValueOptions
from schemas.document import Part

__all__ = ["MqttValue", "Options", "open_source"]


def _one_topic(topic: str) -> str:
    if any(sign in topic for sign in "+#\0"):
        raise ValueError("a topic of a value has no wildcards (+ or #)")
    return topic


Topic = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_one_topic)]


class MqttValue(Value):
    """A value in the messages of a topic: JSON or a plain number."""

    origin: ClassVar[str] = "topic"
    topic: Topic | None = None
    path: JsonPath = Field("@", description="JMESPath into the message; without it the whole message is the value")
    max_age: Duration = Field(60.0, gt=0, description="a message counts for this long")


class KeepaliveOptions(Part):
    """A message that keeps the device talking."""

    topic: Topic
    payload: str = ""
    every: Duration = Field(30.0, ge=1)


class Options(ValueOptions[MqttValue]):
    """`host` and `values`; the rest for brokers that ask for a login."""

    host: str = Field(min_length=1, description="the broker")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="1883, with tls 8883")
    login: PasswordLogin | None = Field(None, description="user and password at the broker")
    tls: bool = Field(default=False, description="encrypt; the broker's certificate is checked")
    ca_file: str | None = Field(None, description="who signed the broker's certificate, if it is not a public one")
    verify_tls: bool = Field(default=True, description="false: take any certificate")
    keepalive: KeepaliveOptions | None = Field(None, description="a message that the device wants to hear")

    def address(self) -> Address:
        """Where the broker is."""
        port = self.port or (8883 if self.tls else 1883)
        return Address(self.host, port, self.login, self.tls, self.ca_file, self.verify_tls)


@dataclass(frozen=True, slots=True)
class _Mqtt:
    options: Options
    category: str
    broker: Broker

    async def read(self) -> Reading:
        topics = dict.fromkeys(value.topic or "" for _, value in self.options.readings())
        last = {topic: await self._last(topic) for topic in topics}
        now_s = monotonic_s()
        arrived_at_s: list[float] = []

        def raw(name: str, value: MqttValue) -> Any:
            arrived = last[value.topic or ""]
            if isinstance(arrived, SourceError):
                if value.optional:
                    return None
                raise arrived
            age_s = now_s - arrived.at_s
            if age_s > value.max_age:
                if value.optional:
                    return None
                trouble = f"; the broker {self.broker.trouble}" if self.broker.trouble else ""
                raise SourceError(
                    f'{name}: the last message on "{value.topic}" is {age_s:.0f} s old, '
                    f"more than max_age ({value.max_age:g} s){trouble}"
                )
            arrived_at_s.append(arrived.at_s)
            return _found(name, value, arrived.payload)

        values = self.options.assemble(self.category, raw)
        return Reading(values, min(arrived_at_s))

    async def _last(self, topic: str) -> Arrived | SourceError:
        try:
            return await self.broker.last(topic)
        except SourceError as error:
            return error

    async def close(self) -> None:
        """The broker is shared."""


def _found(name: str, value: MqttValue, payload: bytes) -> Any:
    """What the message says: JSON, or else its text as it is."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        if value.path != "@":
            raise SourceError(f'{name}: the message on "{value.topic}" is not JSON: {shown(payload)}') from error
        return payload.decode(errors="replace") or None
    return look_up(value.path, document)


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)
    address = options.address()
    broker: Broker = shared.connection(address, lambda: Broker(address), Broker.close)
    keep = options.keepalive
    topics = {value.topic for _, value in options.readings() if value.topic}
    broker.watch(topics, Keepalive(keep.topic, keep.payload, keep.every) if keep else None)
    return _Mqtt(options, category, broker)
