"""Requests to devices that speak HTTP: bounded, careful with redirects, one request for all who ask the same at once.

Answers are JSON documents. A message names the host that was asked, never a path, a query or a header: those may hold
secrets.
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
from yarl import URL

from pusher.clock import monotonic_s
from pusher.sources import Shared, SourceError
from pusher.sources.conversion import shown
from pusher.sources.sml import readings_in

__all__ = ["Answer", "LoginRefused", "Request", "Web", "plain_url", "shared_web"]

BODY_LIMIT_BYTES = 1 << 20
_REDIRECT_LIMIT = 3
_ABANDONED_AFTER_S = 30.0


def plain_url(text: str) -> str:
    """`text`, if it is an http(s) address without a login in it; else ValueError."""
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError('an address looks like "http://192.168.1.20/status"')
    if url.user is not None or url.password is not None:
        raise ValueError('no login in an address: write "basic" or "digest" beside it')
    return text


class LoginRefused(SourceError):
    """The device answered with 401 or 403."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; equal requests that overlap are sent once."""

    url: str
    body: str | None = field(default=None, repr=False)
    """JSON to POST; without it the request is a GET."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    digest: tuple[str, str] | None = field(default=None, repr=False)
    verify_tls: bool = True
    format: Literal["json", "sml"] = "json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A document and `monotonic_s()` of the moment at which its request was begun."""

    document: Any
    begun_at_s: float
    dated: datetime | None = None
    """The device's own clock when it answered (the Date header), if it says."""


@dataclass(slots=True)
class _Fetch:
    """One request under way and how many wait for it."""

    task: asyncio.Task[Answer]
    waiting: int = 0


class Web:
    """The one HTTP client of all sources."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._under_way: dict[Request, _Fetch] = {}
        self._digests: dict[tuple[str, str, str], aiohttp.DigestAuthMiddleware] = {}

    async def fetch(self, request: Request) -> Answer:
        """What the device answers; raises SourceError."""
        shared = self._under_way.get(request)
        if shared is None or shared.task.done():
            shared = self._under_way[request] = _Fetch(asyncio.create_task(self._fetch(request), name="http source"))
        shared.waiting += 1
        try:
            await asyncio.wait([shared.task])
            return shared.task.result()
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                shared.task.cancel()
                if self._under_way.get(request) is shared:
                    del self._under_way[request]

    async def close(self) -> None:
        """End what is under way and close the connections."""
        for shared in self._under_way.values():
            shared.task.cancel()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def session(self) -> aiohttp.ClientSession:
        """The session, opened at its first use."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_ABANDONED_AFTER_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def _fetch(self, request: Request) -> Answer:
        begun_at_s = monotonic_s()
        host = str(URL(request.url).origin())
        try:
            body, dated = await self._body(request)
            return Answer(_parsed(host, body, request.format), begun_at_s, dated)
        except TimeoutError as error:
            raise SourceError(f"{host} does not answer") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise SourceError(
                f"{host} shows a certificate that nobody known has signed; if it is the device's own, "
                'write "verify_tls: false"'
            ) from error
        except aiohttp.ClientConnectorDNSError as error:
            raise SourceError(f"{host}: the name is not known; is the device on the network?") from error
        except aiohttp.ClientConnectorError as error:
            raise SourceError(f"{host} cannot be reached: {error.os_error.strerror or 'no connection'}") from error
        except aiohttp.ClientResponseError as error:
            raise SourceError(f"{host} does not speak HTTP as it should: {error.message[:80]!r}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise SourceError(f"{host} broke off: {type(error).__name__}") from error

    async def _body(self, request: Request) -> tuple[bytes, datetime | None]:
        url = first = URL(request.url)
        for _ in range(_REDIRECT_LIMIT + 1):
            async with self.session().request(
                "GET" if request.body is None else "POST",
                url,
                data=request.body,
                headers=_headers(request),
                middlewares=self._middlewares(request, first),
                allow_redirects=False,
                ssl=request.verify_tls,
            ) as response:
                location = response.headers.get("Location")
                if response.status not in (301, 302, 303, 307, 308) or location is None:
                    return await _read(first, response), _date(response.headers.get("Date"))
                url = _next_url(first, url.join(URL(location)))
        raise SourceError(f"{first.origin()} redirects in a circle")

    def _middlewares(self, request: Request, url: URL) -> tuple[aiohttp.DigestAuthMiddleware, ...]:
        if request.digest is None:
            return ()
        key = (str(url.origin()), *request.digest)
        if key not in self._digests:
            self._digests[key] = aiohttp.DigestAuthMiddleware(*request.digest)
        return (self._digests[key],)


def _headers(request: Request) -> dict[str, str]:
    fixed = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if request.body else {})
    return fixed | dict(request.headers)


def _next_url(first: URL, target: URL) -> URL:
    """A redirect stays on the host that the owner named: a login must not wander off."""
    same_host = target.host == first.host
    if same_host and (target.origin() == first.origin() or (first.scheme == "http" and target.scheme == "https")):
        return target
    raise SourceError(
        f"{first.origin()} redirects to another host, {target.host}; if that is right, name it in the configuration"
    )


async def _read(url: URL, response: aiohttp.ClientResponse) -> bytes:
    if response.status in (401, 403):
        raise LoginRefused(
            f"{url.origin()} refuses the login (status {response.status}); check user, password or token"
        )
    if not 200 <= response.status < 300:
        raise SourceError(f"{url.origin()} answers with status {response.status}; is the path right?")
    body = bytearray()
    async for part in response.content.iter_chunked(65_536):
        body += part
        if len(body) > BODY_LIMIT_BYTES:
            raise SourceError(f"{url.origin()} answers with more than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


def _date(header: str | None) -> datetime | None:
    try:
        dated = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return dated if dated.tzinfo else dated.replace(tzinfo=UTC)


def _parsed(host: str, body: bytes, form: Literal["json", "sml"]) -> Any:
    try:
        return readings_in(body) if form == "sml" else json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{host} answers with something that is not {form.upper()}: {shown(body)}") from error


def shared_web(shared: Shared) -> Web:
    """The client that the sources of one configuration have in common."""
    client: Web = shared.connection("web", Web, Web.close)
    return client
