"""Entities of Home Assistant, by its REST API, and by its WebSocket API where changes are to count at once.

A state is as old as Home Assistant last heard of it (`last_reported`), by its own clock on both sides of the
difference; older than `max_age` it is an error. For a sensor that reports changes alone, `on_change: true` says that
its state holds for as long as Home Assistant does not call it unavailable. Sources: developers.home-assistant.io, REST
API and WebSocket API.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from pusher.durations import Duration
from pusher.sources import Reading, Shared, Source, SourceError
from pusher.sources.homeassistant_socket import StateSocket, shared_socket
from pusher.sources.logins import Secret, SecretFile, TokenLogin
from pusher.sources.values import Value, ValueOptions
from pusher.sources.web import Answer, Request, Web, plain_url, shared_web

__all__ = ["EntityValue", "Options", "open_source"]

_NO_STATE = {"unavailable", "unknown", "none", ""}
_THOUSANDS = {"kW": 1e3, "kWh": 1e3, "MW": 1e6, "MWh": 1e6}


class EntityValue(Value):
    """A value that is an entity's state, or one of its attributes."""

    origin: ClassVar[str] = "entity"
    entity: Annotated[str, Field(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+$")] | None = Field(
        None, description="such as sensor.grid_power"
    )
    attribute: str | None = Field(None, description="an attribute instead of the state")
    max_age: Duration = Field(60.0, gt=0, description="a state counts for this long")
    on_change: bool = Field(default=False, description="the sensor reports changes alone: its last state holds")


class Options(ValueOptions[EntityValue]):
    """`url`, a token and `values`."""

    url: Annotated[str, AfterValidator(plain_url)] = Field(description='such as "http://homeassistant.local:8123"')
    token: Secret | None = Field(None, description="a long-lived access token, from the user's profile")
    token_file: SecretFile | None = Field(None, description="file that holds the token alone")
    websocket: bool = Field(default=False, description="also listen for changes, so that they count at once")
    verify_tls: bool = True

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        self.login()
        return self

    def login(self) -> TokenLogin:
        """The token, or where it is."""
        return TokenLogin(token=self.token, token_file=self.token_file)


@dataclass(frozen=True, slots=True)
class _State:
    """An entity as Home Assistant gives it, and `monotonic_s()` of the moment until which it was heard of."""

    state: dict[str, Any]
    known_at_s: float
    """When we knew that this was the entity's state."""
    age_s: float
    """How long before that Home Assistant had last heard of it."""


@dataclass(frozen=True, slots=True)
class _HomeAssistant:
    options: Options
    category: str
    web: Web
    socket: StateSocket | None

    async def read(self) -> Reading:
        named = self.options.readings()
        entities = list(dict.fromkeys(value.entity or "" for _, value in named))
        found = dict(zip(entities, await asyncio.gather(*map(self._state, entities)), strict=True))
        values = self.options.assemble(self.category, lambda name, value: _raw(name, value, found[value.entity or ""]))
        taken_at_s = [
            (state := found[value.entity or ""]).known_at_s - (0 if value.on_change else state.age_s)
            for _, value in named
        ]
        return Reading(values, min(taken_at_s))

    async def close(self) -> None:
        """The connections are shared."""

    async def _state(self, entity: str) -> _State:
        if self.socket is not None and (heard := self.socket.last(entity)) is not None:
            return _State(heard.state, heard.at_s, 0)
        options = self.options
        request = Request(
            str(URL(options.url) / "api/states" / entity),
            headers=(("Authorization", f"Bearer {options.login().secret()}"),),
            verify_tls=options.verify_tls,
        )
        try:
            answer = await self.web.fetch(request)
        except SourceError as error:
            raise SourceError(f"{entity}: {error}") from error
        if not isinstance(answer.document, dict):
            raise SourceError(f"{entity}: Home Assistant answers with no state")
        return _State(answer.document, answer.begun_at_s, _age_s(entity, answer))


def _age_s(entity: str, answer: Answer) -> float:
    """How long ago Home Assistant last heard of the state, by its own clock."""
    state = answer.document
    reported = state.get("last_reported") or state.get("last_updated")
    try:
        heard_at = datetime.fromisoformat(reported)
        age = (answer.dated - heard_at).total_seconds() if answer.dated else None
    except (TypeError, ValueError) as error:
        raise SourceError(f"{entity}: Home Assistant does not say when it last heard of it") from error
    if age is None:
        raise SourceError(f"{entity}: the answer has no Date, so its age cannot be told")
    return max(0.0, age)


def _raw(name: str, value: EntityValue, found: _State) -> Any:
    """The state's text or the attribute; None if Home Assistant has none now; raises SourceError if it is too old."""
    attributes = found.state.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    state = found.state.get("state")
    if str(state).lower() in _NO_STATE:
        return None
    if found.age_s > value.max_age and not value.on_change:
        raise SourceError(
            f"{name}: {value.entity} was last reported {found.age_s:.0f} s ago, "
            f"more than max_age ({value.max_age:g} s);"
            ' if it reports changes alone, write "on_change: true"'
        )
    if value.attribute is not None:
        return attributes.get(value.attribute)
    unit = attributes.get("unit_of_measurement")
    factor = _THOUSANDS.get(unit) if isinstance(unit, str) else None
    if factor is not None and abs(value.scale) == 1:
        raise SourceError(f'{name}: {value.entity} is in {unit}; write "scale: {factor * value.scale:g}"')
    return state


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)
    web = shared_web(shared)
    socket = None
    if options.websocket:
        socket = shared_socket(shared, web, options.url, options.login(), verify_tls=options.verify_tls)
        socket.watch({value.entity for _, value in options.readings() if value.entity})
    return _HomeAssistant(options, category, web, socket)
