"""`values.json` and `info.json`: what the wallbox polls, from a copy at most a second old.

This is the path that a car's charging hangs on; it does as little as it can. What may be shown is decided in
`schemas.render`, never here. Source: design sections 3.1 and 5.
"""

from starlette.responses import Response

from function.access import require_generation
from function.app import Call
from function.http import Answer, Failure
from function.logs import log_now_and_then
from schemas.render import Documents

__all__ = ["info_json", "values_json"]

RETRY_AFTER_S = "5"
SERVED = ((b"content-type", b"application/json"), (b"cache-control", b"max-age=1"))


async def values_json(call: Call) -> Response:
    """`GET /api/v1/values.json`: the fresh devices' values; 503 where nobody knows the surplus."""
    name, rendered = await _documents(call)
    call.sites.asked(name, call.now, rendered)
    if rendered.values is None:
        message = f"the wallbox was told nothing: {rendered.detail}"
        log_now_and_then("WARNING", message, call.request, event="stale_poll", site=name)
        raise _unavailable(rendered.detail)
    return Answer(200, rendered.values_body, SERVED)


async def info_json(call: Call) -> Response:
    """`GET /api/v1/info.json`: what the devices are; 503 for a site never heard of."""
    _, rendered = await _documents(call)
    if rendered.info is None:
        raise _unavailable("nothing has been heard of this site yet; is its pusher running?")
    return Answer(200, rendered.info_body, SERVED)


async def _documents(call: Call) -> tuple[str, Documents]:
    name, claims = call.app.access.reader_site(call.request, call.now)
    copy, rendered = await call.sites.documents(name, call.now)
    if claims is not None:
        require_generation(claims, copy.site.settings.token_generation)
    return name, rendered


def _unavailable(detail: str) -> Failure:
    return Failure(503, detail, headers={"Retry-After": RETRY_AFTER_S})
