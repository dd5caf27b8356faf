"""The function as Google Cloud and `nrgkick-cloud serve` run it: target `nrgkick` for functions-framework, ASGI.

Builds the application from the environment, once per worker and at the first request, so that nothing that a fork
would break is made before it. Environment: NRGKICK_STORE, NRGKICK_SIGNING_KEY, NRGKICK_PREVIOUS_SIGNING_KEY,
NRGKICK_DEFAULT_SITE (design sections 3.1, 4 and 6).
"""

import gc
import os
import re
from functools import cache
from importlib import import_module
from importlib.resources import files

if gc.isenabled():
    gc.disable()  # until the last line: imports make no garbage, and looking for it is a fifth of the time to start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some reads what every package says of itself

import functions_framework.aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from function.access import Access
from function.app import Application, Call, Handler
from function.capacity import Capacity
from function.http import Answer, json_answer
from function.sites import Sites
from function.stores import Store, open_store
from function.tokens import Keyring
from function.wallbox import info_json, values_json
from schemas.site import NAME_PATTERN

__all__ = ["ROUTES", "build", "default_store", "keyring_for", "nrgkick"]


EMBEDDED_AT_ONCE = 4
"""Posts at work over an embedded store, which writes one after the other on a thread of its own."""


async def health(call: Call) -> Response:  # noqa: ARG001 - a handler takes its call
    """`GET /health`: the process answers. Touches no store, so that a slow store does not restart it."""
    return json_answer({"status": "ok"})


async def openapi(call: Call) -> Response:  # noqa: ARG001 - a handler takes its call
    """`GET /openapi.json`: the contract."""
    return Answer(200, _contract(), {"Content-Type": "application/json", "Cache-Control": "max-age=300"})


@cache
def _contract() -> bytes:
    return files("schemas").joinpath("openapi.json").read_bytes()


def late(place: str) -> Handler:
    """The handler "module:name", imported by its first request: a start pays for what the wallbox asks alone."""
    module, _, name = place.partition(":")

    async def handle(call: Call) -> Response:
        handler: Handler = getattr(import_module(module), name)
        return await handler(call)

    return handle


ROUTES: dict[str, dict[str, Handler]] = {
    "/api/v1/values.json": {"GET": values_json},
    "/api/v1/info.json": {"GET": info_json},
    "/api/v1/live": {"POST": late("function.lanes:post_live")},
    "/api/v1/readings": {"POST": late("function.lanes:post_readings")},
    "/api/v1/whoami": {"GET": late("function.site_routes:whoami")},
    "/api/v1/sites/{site}": {
        "GET": late("function.site_routes:get_site"),
        "PUT": late("function.site_routes:put_site"),
        "DELETE": late("function.site_routes:delete_site"),
    },
    "/api/v1/sites": {"GET": late("function.fleet_routes:get_sites")},
    "/api/v1/sites/{site}/history": {"GET": late("function.history:get_history")},
    "/api/v1/sites/{site}/chart.svg": {"GET": late("function.charts:get_chart")},
    "/api/v1/fleet": {"GET": late("function.fleet_routes:get_fleet")},
    "/": {"GET": late("function.page:page")},
    "/sign-in": {"POST": late("function.page:sign_in")},
    "/sign-out": {"POST": late("function.page:sign_out")},
    "/health": {"GET": health},
    "/openapi.json": {"GET": openapi},
}


def default_store() -> str:
    """Where sites are kept if nobody says: Firestore on Cloud Run, a file in the working directory elsewhere."""
    return os.environ.get("NRGKICK_STORE") or ("firestore" if os.environ.get("K_SERVICE") else "sqlite:nrgkick.db")


def keyring_for(store: Store) -> Keyring:
    """The keys of the environment, else the one that an embedded store keeps; raises ValueError if there is none."""
    if keyring := Keyring.from_environment():
        return keyring
    signing_key = getattr(store, "signing_key", None)
    if signing_key is None:
        raise ValueError(
            "NRGKICK_SIGNING_KEY is not set, and Firestore keeps no key; make one with: openssl rand -base64 48"
        )
    return Keyring(signing_key())


def build(store_address: str, default_site: str | None) -> Application:
    """The application over a store; raises ValueError for an environment that does not fit together."""
    if default_site and not re.fullmatch(NAME_PATTERN, default_site):
        raise ValueError(f'"{default_site}" is no name of a site; use a-z, 0-9 and hyphens')
    store = open_store(store_address)
    capacity = Capacity(at_once=EMBEDDED_AT_ONCE) if store_address.startswith("sqlite:") else Capacity()
    return Application(Sites(store), Access(keyring_for(store), default_site or None), ROUTES, capacity=capacity)


@cache
def _application() -> Application:
    return build(default_store(), os.environ.get("NRGKICK_DEFAULT_SITE"))


@cache
def _pass_everything(framework: Starlette) -> None:
    """Let the framework pass what it would answer itself: methods such as TRACE, `/robots.txt`, a line break in a path.

    Our contract says what they get; and the wallbox's way past its table of routes is shorter.
    """
    for route in list(framework.routes):
        if isinstance(route, Route) and "path" in route.param_convertors:
            route.methods = None
            route.path_regex = re.compile("(?P<path>.*)", re.DOTALL)
            framework.router.routes[:] = [route]


@functions_framework.aio.http
async def nrgkick(request: Request) -> Response:
    """Answer one request."""
    _pass_everything(request.app)
    return await _application()(request)


if os.environ.get("K_SERVICE") or __name__ != "function.main":
    _application()  # the framework has loaded this file: what is wrong with the environment ends it now, not a request
gc.freeze()  # what is there now stays; the collector need not look at it again
gc.enable()
