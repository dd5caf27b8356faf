"""The application: which path is answered by what, and what every request has in common.

The wallbox's two documents come first and by the shortest way; everything else goes through the table of routes.
Nothing here knows how things are stored. Source: design section 3.
"""

import re
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from function.access import Access, require, require_every_site, require_generation
from function.capacity import Capacity, Place
from function.http import Failure, problem_answer, read_model
from function.logs import log
from function.sites import GENERATION_COPY_S, Copy, Sites
from function.stores import StoreUnavailable, TooMuch
from function.tokens import Claims
from schemas.site import NAME_PATTERN

if TYPE_CHECKING:
    from function.days import Days

__all__ = ["Application", "Call", "Handler"]

Model = TypeVar("Model", bound=BaseModel)

API = "/api/"
"""Where every body comes with a token. Elsewhere anybody may send one, and such take nothing from those."""

LOOKS = ("/history", "/chart.svg")
"""Ends of the paths that read and reckon so much that a poll would wait for many of them at once."""

RETRY_AFTER_S = "2"


@dataclass(slots=True)
class Call:
    """One request on its way through a handler."""

    app: "Application"
    request: Request
    now: datetime
    path: dict[str, str] = field(default_factory=dict)
    place: Place | None = None
    """Where it is no GET: its place among those that are worked on."""

    @property
    def sites(self) -> Sites:
        """The sites of the application's store."""
        return self.app.sites

    def claims(self) -> Claims:
        """What the request's token says; raises Failure 401 or 429."""
        return self.app.access.claims(self.request, self.now)

    async def allow(self, scope: str, site: str | None = None) -> tuple[str, Claims]:
        """The site that the token may touch in this way; raises Failure 401, 403 or 404. `site`: that asked for."""
        claims = self.claims()
        name = require(claims, scope, site=site)
        await self.current(claims)
        if self.request.method != "PUT" and not re.fullmatch(NAME_PATTERN, name):  # PUT says what a name is made of
            raise Failure(404, "no site can have this name")
        return name, claims

    async def allow_every_site(self) -> None:
        """Let only tokens for every site pass; raises Failure 401 or 403."""
        require_every_site(self.claims())

    async def current(self, claims: Claims) -> Copy | None:
        """The token's own site, if it has one, after a look at its generation; raises Failure 401."""
        if claims.site is None:
            return None
        copy = await self.sites.get(claims.site, GENERATION_COPY_S)
        require_generation(claims, copy.site.settings.token_generation)
        return copy

    def query(self, name: str) -> str | None:
        """A query parameter, or None."""
        value: str | None = self.request.query_params.get(name)
        return value or None

    async def body(self, model: type[Model]) -> Model:
        """The request's body; raises Failure 400, 413, 415 or 422."""
        assert self.place is not None, "a GET has no body"  # noqa: S101 - no input leads here
        return await read_model(self.request, model, self.place)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class _Route:
    pattern: re.Pattern[str]
    handlers: dict[str, Handler]


class Application:
    """Answers requests, whatever they are."""

    def __init__(
        self,
        sites: Sites,
        access: Access,
        routes: dict[str, dict[str, Handler]],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        capacity: Capacity | None = None,
    ) -> None:
        """Take the parts. `routes` maps a path such as `/api/v1/sites/{site}` to a handler per method.

        `capacity` bounds the posts that are worked on.
        """
        self.sites = sites
        self.fleet_copy: dict[str, Any] = {}
        self.access = access
        self._now = now
        self._capacity = capacity or Capacity()
        self._doorstep = Capacity(posts_limit=8, incoming_limit_bytes=2**18)
        self._looks = Capacity("looks into history", at_once=2)
        self._exact = {path: handlers for path, handlers in routes.items() if "{" not in path}
        self._routes = [
            _Route(re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]{1,200})", path)), handlers)
            for path, handlers in routes.items()
            if "{" in path
        ]

    @cached_property
    def days(self) -> "Days":
        """History of the store's sites; imported by the first request for it, for the wallbox is answered without."""
        from function.days import Days

        return Days(self.sites)

    async def __call__(self, request: Request) -> Response:
        """Answer one request; never raises."""
        try:
            return await self._answer(request)
        except Failure as failure:
            return problem_answer(failure)
        except StoreUnavailable as error:
            log("ERROR", "the store did not answer", request, event="store_unavailable", detail=str(error)[:300])
            detail = "the store did not answer, so nothing is acknowledged; try again"
            return problem_answer(Failure(503, detail, headers={"Retry-After": RETRY_AFTER_S}))
        except TooMuch as error:
            return problem_answer(Failure(422, str(error)))
        except Exception:  # noqa: BLE001 - whatever it is: the next request must not suffer from it
            log("ERROR", traceback.format_exc(), request, event="crash")
            return problem_answer(Failure(500, "this should not have happened; the server's log says more"))

    async def _answer(self, request: Request) -> Response:
        scope = request.scope
        method, path = scope["method"], scope["path"]
        handlers, arguments = self._find(path)
        handler = handlers.get(method) if handlers else None
        if handler is None:
            raise _no_such(method, path, handlers)
        call = Call(self, request, self._now(), arguments)
        capacity = self._capacity_for(method, path)
        if capacity is None:
            return await handler(call)
        async with capacity.place() as call.place:
            return await handler(call)

    def _capacity_for(self, method: str, path: str) -> Capacity | None:
        """What bounds such requests; None where nothing does."""
        if method == "GET":
            return self._looks if path.endswith(LOOKS) else None
        return self._capacity if path.startswith(API) else self._doorstep

    def _find(self, path: str) -> tuple[dict[str, Handler] | None, dict[str, Any]]:
        if handlers := self._exact.get(path):
            return handlers, {}
        for route in self._routes:
            if match := route.pattern.fullmatch(path):
                return route.handlers, match.groupdict()
        return None, {}


WALLBOX_PATHS = ("/api/v1/values.json", "/api/v1/info.json")


def _no_such(method: str, path: str, handlers: dict[str, Handler] | None) -> Failure:
    """404 for an unknown path and 500 for a method there, as the manufacturer's document has it; 405 elsewhere."""
    if handlers is None and method == "GET":
        return Failure(404, "there is nothing at this path; /openapi.json lists what there is")
    if handlers is None or path in WALLBOX_PATHS:
        return Failure(500, "only GET is known here", headers={"Connection": "close"})
    allowed = ", ".join(sorted(handlers))
    return Failure(405, f"this path knows only {allowed}", headers={"Allow": allowed, "Connection": "close"})
