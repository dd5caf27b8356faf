"""How a live post changes what is known of a site. Pure: time is passed in, nothing is read or written.

Everything kept is a maximum over the posts seen (newest time; on a tie the greater canonical JSON), so `merge` gives
the same state in any order of posts and however often each arrives. Which claim then holds for a device is decided
when it is looked at, in `house`. Source of every rule: design sections 3.2 and 5.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from schemas.document import LOAD, flat, nested
from schemas.site import Claim, Said, Site, later
from schemas.times import CLOCK_TOLERANCE, format_time

if TYPE_CHECKING:
    from schemas.messages import LivePost

__all__ = ["ClockSkew", "TooManyPushers", "canonical", "check_clock", "check_post", "flat_times", "is_ahead", "merge"]

PUSHER_LIMIT = 32
"""Pushers that one site remembers; bounds the size of its document."""


class ClockSkew(ValueError):
    """A post's times do not fit the server's clock; nothing of it was stored."""

    def __init__(self, loc: str, message: str) -> None:
        super().__init__(message)
        self.loc = loc


class TooManyPushers(ValueError):
    """The site remembers as many pushers as it can."""


def canonical(values: dict[str, Any] | None) -> str:
    """The JSON by which ties are broken: of a device as it stands in the document (the load is a bare number)."""
    bare = values[LOAD] if values and set(values) == {LOAD} else values
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def is_ahead(measured_at: datetime, now: datetime) -> bool:
    """Whether a reading's time lies further in the future than clocks may differ."""
    return measured_at - now > CLOCK_TOLERANCE


def check_clock(sent_at: datetime, now: datetime) -> None:
    """Refuse a post whose sender's clock is too far off; raises ClockSkew."""
    off_s = (sent_at - now).total_seconds()
    if abs(off_s) > CLOCK_TOLERANCE.total_seconds():
        raise ClockSkew(
            "sent_at",
            f"the sender's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the server's "
            f"({format_time(now)}); set it, for example with NTP, and send again",
        )


def check_post(post: "LivePost", now: datetime) -> None:
    """Refuse a live post whose times do not fit the server's clock; raises ClockSkew."""
    check_clock(post.sent_at, now)
    times = {"measured_at": post.measured_at}
    if post.measured:
        times |= {f"measured/{device}": time for device, time in flat_times(post).items()}
    for loc, time in times.items():
        if is_ahead(time, now):
            raise ClockSkew(loc, f"{loc} is {(time - now).total_seconds():.0f} s ahead of the server's time")


def flat_times(post: "LivePost") -> dict[str, datetime]:
    """The times that a post gives for single devices, by device."""
    return {device: time for device, time in flat(post.measured).items() if time} if post.measured else {}


def merge(site: Site, post: "LivePost", now: datetime) -> Site:
    """The site after one more post. `site` is unchanged; the result is equal to it where nothing was news.

    `now` is the server's time and only says when the site was last heard of. Raises TooManyPushers.
    """
    said = site.pushers.get(post.pusher)
    if said is None:
        if len(site.pushers) >= PUSHER_LIMIT:
            raise TooManyPushers(
                f"this site knows {PUSHER_LIMIT} pushers already; give the pusher one of their names, or remove one "
                "that is gone with `nrgkick-cloud sites forget`"
            )
        said = Said()
    news = _with_claims(said, post)
    news = _with_info(news, post)
    return site.model_copy(
        update={
            "pushers": {**site.pushers, post.pusher: news},
            "heard_at": later(site.heard_at, now),
            "deleted": False,
        }
    )


def _with_claims(said: Said, post: "LivePost") -> Said:
    claims = dict(said.claims)
    times = flat_times(post)
    for device, values in flat(post.device_values).items():
        claims[device] = _claimed(claims.get(device, Claim()), values, times.get(device, post.measured_at))
    return said.model_copy(update={"claims": claims})


def _claimed(claim: Claim, values: dict[str, Any] | None, time: datetime) -> Claim:
    if values is None:
        return claim.model_copy(update={"withdrawn_at": later(claim.withdrawn_at, time)})
    if claim.measured_at is not None and (claim.measured_at, canonical(claim.values)) >= (time, canonical(values)):
        return claim
    return claim.model_copy(update={"measured_at": time, "values": values})


def _with_info(said: Said, post: "LivePost") -> Said:
    if post.device_info is None:
        return said
    info = flat(post.device_info)
    listed = sorted({*info, *flat(post.device_values)})
    if said.info_at is not None and _info_rank(said.info_at, said.info, said.listed) >= _info_rank(
        post.measured_at, info, listed
    ):
        return said
    return said.model_copy(update={"info_at": post.measured_at, "info": info, "listed": listed})


def _info_rank(time: datetime, info: dict[str, Any], listed: list[str]) -> tuple[datetime, str, list[str]]:
    return time, canonical(nested(info)), listed
