"""`values.json` and `info.json`: what the wallbox polls, from a copy at most a second old.

This is the path that a car's charging hangs on; it does as little as it can. What may be shown is decided in
`schemas.render`, never here. Source: design sections 3.1 and 5.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from function.access import require_generation
from function.app import Call
from function.http import Answer, Failure
from function.logs import log_now_and_then
from schemas.render import Documents
from schemas.site import WallboxAsked

__all__ = ["info_json", "values_json"]

RETRY_AFTER_S = "5"
SERVED = {"Content-Type": "application/json", "Cache-Control": "max-age=1"}


async def values_json(call: Call) -> Response:
    """`GET /api/v1/values.json`: the fresh devices' values; 503 where nobody knows the surplus."""
    name, rendered = await _documents(call)
    if rendered.values is None:
        log_now_and_then(
            "WARNING", f"the wallbox was told nothing: {rendered.detail}", call.request, event="stale_poll", site=name
        )
        call.sites.asked(name, WallboxAsked(at=call.now, status=503, detail=rendered.detail))
        raise _unavailable(rendered.detail)
    call.sites.asked(
        name,
        WallboxAsked.model_construct(
            at=call.now, status=200, detail=rendered.detail, device_values=rendered.values["device_values"]
        ),
    )
    return Answer(200, _body(rendered.values), SERVED)


async def info_json(call: Call) -> Response:
    """`GET /api/v1/info.json`: what the devices are; 503 for a site never heard of."""
    _, rendered = await _documents(call)
    if rendered.info is None:
        raise _unavailable("nothing has been heard of this site yet; is its pusher running?")
    return Answer(200, _body(rendered.info), SERVED)


async def _documents(call: Call) -> tuple[str, Documents]:
    name, claims = call.app.access.reader_site(call.request, call.now)
    copy, rendered = await call.sites.documents(name, call.now)
    if claims is not None:
        require_generation(claims, copy.site.settings.token_generation)
    return name, rendered


def _body(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _unavailable(detail: str) -> Failure:
    return Failure(503, detail, headers={"Retry-After": RETRY_AFTER_S})
