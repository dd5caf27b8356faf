"""Sites over HTTP: who am I, one site with all that is known of it, its settings, its end.

Source: design sections 3.4 and 5 (Settings).
"""

import re

from starlette.responses import Response

from function.access import require_generation
from function.app import Call
from function.http import Failure, json_answer
from function.sites import BadMember
from schemas.messages import Whoami
from schemas.overview import SiteOverview, overview
from schemas.problem import FieldError
from schemas.render import documents
from schemas.site import NAME_PATTERN, SettingsPut, Site, settled, tombstone

__all__ = ["delete_site", "get_site", "put_site", "whoami"]


async def whoami(call: Call) -> Response:
    """`GET /api/v1/whoami`: what the token is good for, and the settings of its site."""
    claims = call.claims()
    copy = await call.current(claims)
    settings = copy.site.settings if copy else None
    return json_answer(Whoami(site=claims.sub, scope=claims.scope, server_time=call.now, settings=settings))


async def get_site(call: Call) -> Response:
    """`GET /api/v1/sites/{site}`: all that is known of one site."""
    name, _ = await call.allow("read", call.path["site"])
    return json_answer(await _overview(call, name))


async def put_site(call: Call) -> Response:
    """`PUT /api/v1/sites/{site}`: replace the settings, make the site if it is new."""
    name, claims = await call.allow("admin", call.path["site"])
    if not re.fullmatch(NAME_PATTERN, name):
        message = "a name is made of a-z, 0-9 and hyphens, at most 63, and does not begin with a hyphen"
        raise Failure(422, message, errors=[FieldError(loc=["site"], msg=message)])
    wanted = await call.body(SettingsPut)
    if wanted.members and claims.site is not None:
        raise Failure(403, 'a composite site reads other sites; it takes an admin token made with --site "*"')
    try:
        await call.sites.check_members(name, wanted.members or ())
    except BadMember as error:
        loc: list[str | int] = ["members", error.index, "site"]
        raise Failure(422, str(error), errors=[FieldError(loc=loc, msg=str(error))]) from None

    def decide(site: Site, exists: bool) -> Site:
        require_generation(claims, site.settings.token_generation)
        try:
            settings = settled(wanted, site.settings)
        except ValueError as error:
            raise Failure(422, str(error), errors=[FieldError(loc=["token_generation"], msg=str(error))]) from None
        return site if exists and settings == site.settings else site.model_copy(update={"settings": settings})

    await call.sites.change(name, decide, call.now)
    return json_answer(await _overview(call, name))


async def delete_site(call: Call) -> Response:
    """`DELETE /api/v1/sites/{site}`: remove it with its history; tokens made for it so far are revoked."""
    name, claims = await call.allow("admin", call.path["site"])

    def decide(site: Site, exists: bool) -> Site:
        require_generation(claims, site.settings.token_generation)
        if not exists:
            raise _no_site(name)
        return tombstone(site)

    await call.sites.get(name)  # not decided on an old copy
    await call.sites.store.forget(name)  # first, so that a failure can be tried again
    await call.sites.change(name, decide, call.now)
    await call.sites.store.forget(name)  # what came in meanwhile
    return json_answer({"site": name, "status": "deleted"})


async def _overview(call: Call, name: str) -> SiteOverview:
    copy, house = await call.sites.house(name)
    if not copy.exists:
        raise _no_site(name)
    told = documents(house, call.now)
    why = None if told.detail == "fresh" else told.detail
    return overview(name, copy.site, house, why, call.sites.last_asked(name, copy.site), call.now)


def _no_site(name: str) -> Failure:
    return Failure(404, f'there is no site "{name[:63]}"; `nrgkick-cloud sites list` shows those that there are')
