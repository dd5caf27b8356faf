"""Devices that answer HTTP requests with JSON.

`path` is a JMESPath into the answer. A device that spreads its values over several addresses has a `url` at the value,
on the same host. A value without a place in the answer is an error unless it is `optional`, never 0.
"""

import asyncio
import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from yarl import URL

from pusher.sources import Reading, Shared, Source
from pusher.sources.conversion import look_up
from pusher.sources.logins import PasswordLogin, TokenLogin
from pusher.sources.values import JsonValue, ValueOptions
from pusher.sources.web import Request, Web, plain_url, shared_web

__all__ = ["HttpValue", "Options", "open_source"]


class HttpValue(JsonValue):
    """A value in the device's answer."""

    url: str | None = Field(None, description="another address of the same device, relative to the source's url")


class Options(ValueOptions[HttpValue]):
    """`url` and `values`; the rest for devices that ask for more."""

    url: Annotated[str, AfterValidator(plain_url)] = Field(description="what is asked at every read")
    body: dict[str, Any] | list[Any] | None = Field(None, description="JSON to POST; without it a GET is sent")
    headers: dict[str, SecretStr] = Field({}, description="further headers")
    basic: PasswordLogin | None = Field(None, description="HTTP basic login")
    digest: PasswordLogin | None = Field(None, description="HTTP digest login")
    bearer: TokenLogin | None = Field(None, description="login by a token in the Authorization header")
    verify_tls: bool = Field(default=True, description="false for a device that signs its own certificate")

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if sum(login is not None for login in (self.basic, self.digest, self.bearer)) > 1:
            raise ValueError('only one of "basic", "digest" and "bearer"')
        return self

    @model_validator(mode="after")
    def _one_host(self) -> Self:
        for name, value in self.readings():
            if URL(self.address(value)).origin() != URL(self.url).origin():
                raise ValueError(f'the url of "{name}" is on another host; write it as a path')
        return self

    def address(self, value: HttpValue) -> str:
        """Where `value` is asked for."""
        return self.url if value.url is None else str(URL(self.url).join(URL(value.url)))


@dataclass(frozen=True, slots=True)
class _Http:
    options: Options
    category: str
    web: Web

    async def read(self) -> Reading:
        options = self.options
        addresses = dict.fromkeys(options.address(value) for _, value in options.readings())
        fetches = [asyncio.ensure_future(self.web.fetch(self._request(address))) for address in addresses]
        try:
            answers = dict(zip(addresses, await asyncio.gather(*fetches), strict=True))
        finally:
            for fetch in fetches:
                fetch.cancel()
        values = options.assemble(
            self.category, lambda _, value: look_up(value.path or "@", answers[options.address(value)].document)
        )
        return Reading(values, min(answer.begun_at_s for answer in answers.values()))

    async def close(self) -> None:
        """Nothing is held alone."""

    def _request(self, url: str) -> Request:
        options = self.options
        headers = [(name, value.get_secret_value()) for name, value in options.headers.items()]
        if options.basic:
            login = b64encode(f"{options.basic.user}:{options.basic.secret()}".encode()).decode()
            headers.append(("Authorization", f"Basic {login}"))
        if options.bearer:
            headers.append(("Authorization", f"Bearer {options.bearer.secret()}"))
        return Request(
            url,
            body=None if options.body is None else json.dumps(options.body),
            headers=tuple(headers),
            digest=(options.digest.user, options.digest.secret()) if options.digest else None,
            verify_tls=options.verify_tls,
        )


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)
    return _Http(options, category, shared_web(shared))
