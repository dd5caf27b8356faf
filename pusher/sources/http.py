"""Devices that answer HTTP requests with JSON (or, meters' reading heads, with an SML telegram).

`path` is a JMESPath into the answer. A device that spreads its values over several addresses has a `url` at the value,
on the same host. A value without a place in the answer is an error unless it is `optional`, never 0.
"""

import asyncio
import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from yarl import URL

from pusher.sources import Reading, Shared, Source, SourceError
from pusher.sources.conversion import look_up
from pusher.sources.logins import PasswordLogin, TokenLogin
from pusher.sources.values import JsonPath, JsonValue, ValueOptions
from pusher.sources.web import LoginRefused, Request, Web, plain_url, shared_web
from schemas.document import Part

__all__ = ["HttpValue", "Options", "open_source"]


class HttpValue(JsonValue):
    """A value in the device's answer."""

    url: str | None = Field(None, description="another address of the same device, relative to the source's url")


class TokenRequest(Part):
    """A login that is a request of its own: what it posts, and where the token is in the answer."""

    url: str = Field(description="relative to the source's url")
    body: dict[str, SecretStr | bool | int] = Field(description="JSON to POST")
    token: JsonPath = Field("token", description="JMESPath of the token, which is then sent as bearer")

    def body_json(self) -> str:
        """What is posted."""
        revealed = {
            key: value.get_secret_value() if isinstance(value, SecretStr) else value for key, value in self.body.items()
        }
        return json.dumps(revealed)


class Options(ValueOptions[HttpValue]):
    """`url` and `values`; the rest for devices that ask for more."""

    url: Annotated[str, AfterValidator(plain_url)] = Field(description="what is asked at every read")
    body: dict[str, Any] | list[Any] | None = Field(None, description="JSON to POST; without it a GET is sent")
    headers: dict[str, SecretStr] = Field({}, description="further headers")
    basic: PasswordLogin | None = Field(None, description="HTTP basic login")
    digest: PasswordLogin | None = Field(None, description="HTTP digest login")
    bearer: TokenLogin | None = Field(None, description="login by a token in the Authorization header")
    login: TokenRequest | None = Field(None, description="a request that gives a token")
    format: Literal["json", "sml"] = Field("json", description='sml: paths are OBIS codes, such as "1-0:16.7.0"')
    verify_tls: bool = Field(default=True, description="false for a device that signs its own certificate")

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if sum(login is not None for login in (self.basic, self.digest, self.bearer, self.login)) > 1:
            raise ValueError('only one of "basic", "digest", "bearer" and "login"')
        return self

    @model_validator(mode="after")
    def _one_host(self) -> Self:
        for name, value in self.readings():
            self._on_this_host(f'the url of "{name}"', self.address(value))
        if self.login:
            self._on_this_host("the url of the login", self.absolute(self.login.url))
        return self

    def _on_this_host(self, what: str, url: str) -> None:
        if URL(url).origin() != URL(self.url).origin():
            raise ValueError(f"{what} is on another host; write it as a path")

    def absolute(self, url: str) -> str:
        """`url` as seen from the source's."""
        return str(URL(self.url).join(URL(url)))

    def address(self, value: HttpValue) -> str:
        """Where `value` is asked for."""
        return self.url if value.url is None else self.absolute(value.url)


class _Tokens:
    """The token of a login by request, kept until the device no longer takes it."""

    def __init__(self) -> None:
        self.token: str | None = None

    async def get(self, web: Web, options: Options, login: TokenRequest) -> str:
        if self.token is None:
            request = Request(options.absolute(login.url), body=login.body_json(), verify_tls=options.verify_tls)
            token = look_up(login.token, (await web.fetch(request)).document)
            if not isinstance(token, str) or not token:
                raise SourceError(f'the login gives no token at "{login.token}"')
            self.token = token
        return self.token


@dataclass(frozen=True, slots=True)
class _Http:
    options: Options
    category: str
    web: Web
    tokens: _Tokens

    async def read(self) -> Reading:
        try:
            return await self._read()
        except LoginRefused:
            if self.tokens.token is None:
                raise
            self.tokens.token = None  # it has run out, perhaps: ask for another, once
            return await self._read()

    async def _read(self) -> Reading:
        options = self.options
        token = await self.tokens.get(self.web, options, options.login) if options.login else None
        addresses = dict.fromkeys(options.address(value) for _, value in options.readings())
        fetches = [asyncio.ensure_future(self.web.fetch(self._request(address, token))) for address in addresses]
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

    def _request(self, url: str, token: str | None) -> Request:
        options = self.options
        headers = [(name, value.get_secret_value()) for name, value in options.headers.items()]
        if options.basic:
            login = b64encode(f"{options.basic.user}:{options.basic.secret()}".encode()).decode()
            headers.append(("Authorization", f"Basic {login}"))
        if options.bearer:
            token = options.bearer.secret()
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        return Request(
            url,
            body=None if options.body is None else json.dumps(options.body),
            headers=tuple(headers),
            digest=(options.digest.user, options.digest.secret()) if options.digest else None,
            verify_tls=options.verify_tls,
            format=options.format,
        )


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)

    async def nothing_to_close(_: _Tokens) -> None:
        pass

    key = ("http login", options.url, options.login.body_json() if options.login else "")
    tokens: _Tokens = shared.connection(key, _Tokens, nothing_to_close) if options.login else _Tokens()
    return _Http(options, category, shared_web(shared), tokens)
