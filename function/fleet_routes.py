"""All sites together: the list in pages, and the sums that cost no read per site.

Source: design sections 3.4 and 6.
"""

import asyncio
import re
import time
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from function.app import Call
from function.history import bad_query
from function.http import json_answer
from function.sites import GENERATION_COPY_S
from schemas.house import house_of
from schemas.overview import FleetOverview, PowerOverview, SitePage, SiteSummary, summarise
from schemas.site import NAME_PATTERN, Site

__all__ = ["get_fleet", "get_sites"]

PAGE_SIZE = 100
LARGEST_PAGE = 500
HEARD_WITHIN = timedelta(minutes=2)
FLEET_COPY_S = 5.0


async def get_sites(call: Call) -> Response:
    """`GET /api/v1/sites`: the sites by name, a page at a time. Costs one read per site of the page."""
    await call.allow_every_site()
    size = call.query("page_size") or str(PAGE_SIZE)
    if not re.fullmatch(r"\d{1,3}", size) or not 1 <= int(size) <= LARGEST_PAGE:
        raise bad_query("page_size", f"a page has 1 to {LARGEST_PAGE} sites")
    after = call.query("page_token") or ""
    if after and not re.fullmatch(NAME_PATTERN, after):
        raise bad_query("page_token", "this is no page_token; use next_page_token of the page before")
    found = await call.sites.store.page(after, int(size))
    there = [(name, site) for name, site in found if not site.deleted]
    rows = await asyncio.gather(*(_summary(call, name, site) for name, site in there))
    return json_answer(SitePage(sites=rows, next_page_token=found[-1][0] if len(found) == int(size) else ""))


async def _summary(call: Call, name: str, site: Site) -> SiteSummary:
    house = house_of(site)
    if site.settings.members:
        house = (await call.sites.house(name, GENERATION_COPY_S))[1]
    return summarise(name, site, house, call.now)


async def get_fleet(call: Call) -> Response:
    """`GET /api/v1/fleet`: counts and sums over all sites, at most a few seconds old."""
    await call.allow_every_site()
    copy: dict[str, Any] = call.app.fleet_copy
    if time.monotonic() - copy.get("at_s", -FLEET_COPY_S) > FLEET_COPY_S:
        since = call.now - HEARD_WITHIN
        fleet = await call.sites.store.fleet(int(since.timestamp()) // 60)
        power = PowerOverview(**{name: round(watts) for name, watts in fleet.power.items()})
        copy.update(at_s=time.monotonic(), fleet=FleetOverview(sites=fleet.sites, fresh=fleet.fresh, power=power))
    return json_answer(copy["fleet"])
