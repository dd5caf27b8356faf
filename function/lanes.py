"""The two lanes in: the newest reading, which is merged and may be superseded, and history, which is kept.

Nothing is acknowledged before it is stored; what is not answered 200 stored nothing. Source: design sections 3.2, 3.3.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from starlette.responses import Response

from function.access import require_generation
from function.app import Call
from function.http import Failure, clock_skew, header, json_answer
from function.logs import log, log_now_and_then
from function.sites import GENERATION_COPY_S
from schemas.house import stands
from schemas.merge import ClockSkew, TooManyPushers, check_clock, check_post, is_ahead, merge
from schemas.messages import LiveAnswer, LivePost, ReadingsAnswer, ReadingsPost, RejectedRow, Row
from schemas.problem import FieldError
from schemas.site import Site
from schemas.times import format_time

__all__ = ["post_live", "post_readings"]

Post = TypeVar("Post", LivePost, ReadingsPost)


async def post_live(call: Call) -> Response:
    """`POST /api/v1/live`: merge the newest reading into the site."""
    name, claims = await call.allow("push")
    post = await _accepted(call, name, LivePost, lambda it: check_post(it, call.now))

    def decide(site: Site, _exists: bool) -> Site:
        require_generation(claims, site.settings.token_generation)
        merged = merge(site, post, call.now)
        return site if merged.pushers == site.pushers else merged

    try:
        copy = await call.sites.change(name, decide, call.now)
    except TooManyPushers as error:
        raise Failure(422, str(error), errors=[FieldError(loc=["pusher"], msg=str(error))]) from None
    log_now_and_then("INFO", "live readings stored", call.request, event="live_stored", site=name)
    wanted = "return=representation" in (header(call.request, b"prefer") or "").replace(" ", "").lower()
    answer = LiveAnswer(
        status="stored" if stands(copy.site, post) else "superseded",
        server_time=call.now,
        state=copy.site if wanted else None,
    )
    return json_answer(answer) if wanted else json_answer(answer.model_dump(mode="json", exclude={"state"}))


async def post_readings(call: Call) -> Response:
    """`POST /api/v1/readings`: keep rows of history, each judged by itself."""
    name, claims = await call.allow("push")
    post = await _accepted(call, name, ReadingsPost, lambda it: check_clock(it.sent_at, call.now))
    settings = (await call.sites.get(name, GENERATION_COPY_S)).site.settings
    require_generation(claims, settings.token_generation)  # its body may have taken its time
    kept_since = call.now - timedelta(days=settings.retention_days)
    good, rejected = post.rows()
    rows: list[Row] = []
    for index, row in good:
        message = None
        if is_ahead(row.measured_at, call.now):
            message = f"measured_at is more than 60 s ahead of the server's time ({format_time(call.now)})"
        elif row.measured_at < kept_since:
            message = f"measured_at is older than the {settings.retention_days} days for which this site keeps rows"
        if message:
            error = FieldError(loc=["readings", index, "measured_at"], msg=message)
            rejected.append(RejectedRow(index=index, errors=[error]))
        else:
            rows.append(row)
    if rows:
        await call.app.days.keep(name, post.pusher, rows, call.now)
    log("INFO", "readings stored", call.request, event="readings_stored", site=name, rows=len(rows))
    if rejected:
        log("WARNING", "readings rejected", call.request, event="rejected", site=name, rows=len(rejected))
    rejected.sort(key=lambda item: item.index)
    return json_answer(ReadingsAnswer(stored=len(rows), rejected=rejected, server_time=call.now))


async def _accepted(call: Call, site: str, model: type[Post], check: Callable[[Post], None]) -> Post:
    """The body of a post whose times fit the server's clock; raises Failure, which the log tells too."""
    try:
        post = await call.body(model)
        try:
            check(post)
        except ClockSkew as skew:
            raise clock_skew(skew.loc, str(skew), call.now) from None
    except Failure as failure:
        log_now_and_then("WARNING", f"a post was refused: {failure}", call.request, event="rejected", site=site)
        raise
    return post
