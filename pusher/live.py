"""The live lane: the newest reading to the function, at most one post a tick and one in flight, never queued.

A post that fails is not sent again: what it would have said is still news at the next tick, which says it with what is
newest then. Source: design sections 3.2 and 7, Live lane.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime

from pusher.clock import Clock, Stamps, monotonic_s
from pusher.config import Live
from pusher.holds import Holds
from pusher.posts import Given, Told, live_post, moved
from pusher.readers import Device
from pusher.site_copy import SiteCopy
from pusher.state_log import StateLog
from pusher.uplink import Held, Refused, Skewed, Unreachable, Uplink, UplinkError
from schemas.document import LOAD
from schemas.messages import LiveAnswer
from schemas.site import Said

__all__ = ["LiveLane"]

LANE = "live"
WAKE_S = 5
"""A lane that waits shows at least this often that it is alive."""

log = logging.getLogger(__name__)


class LiveLane:
    """Posts what is new of the devices. All times are monotonic but those that are sent."""

    def __init__(
        self,
        pusher: str,
        options: Live,
        devices: Sequence[Device],
        *,
        tick_s: float,
        clock: Clock,
        uplink: Uplink,
        holds: Holds,
        copy: SiteCopy,
        said: StateLog,
    ) -> None:
        """Take the parts; `run` posts, `tick` and `late` tell it when."""
        self._pusher, self._options, self._devices, self._tick_s = pusher, options, devices, tick_s
        self._clock, self._uplink, self._holds, self._copy, self._said = clock, uplink, holds, copy, said
        self._stamps = Stamps(clock)
        self._told: dict[str, Told] = {}
        self._info_told = False
        self._wake = asyncio.Event()
        self._tick_open = False
        self._not_before_s = 0.0
        self.posted_at_s: float | None = None
        self.error: str | None = None
        self.posts = 0
        self.progress_s = monotonic_s()

    # ------------------------------------------------------------------ what there is to say

    def readings(self) -> dict[str, Given]:
        """The newest reading of each device that has one."""
        return {
            device.key: Given(
                device.newest.values, device.newest.taken_at_s, self._stamps.of(device.key, device.newest.taken_at_s)
            )
            for device in self._devices
            if device.newest is not None
        }

    def withdrawals(self) -> dict[str, Given]:
        """The devices whose last reading may no longer be shown."""
        now_s = monotonic_s()
        return {
            device.key: Given(None, ends_s, self._stamps.of(f"{device.key} withdrawn", ends_s))
            for device in self._devices
            if (ends_s := device.withdrawn_at_s(now_s)) is not None
        }

    def info(self) -> dict[str, dict[str, object]]:
        """The description of every configured device; one without any is listed all the same."""
        return {device.key: device.config.info for device in self._devices if device.key != LOAD}

    def _news(self) -> dict[str, Given]:
        """What the function has not acknowledged yet."""
        return {
            key: given
            for key, given in {**self.readings(), **self.withdrawals()}.items()
            if (told := self._told.get(key)) is None
            or told.moment_s != given.moment_s
            or (told.values is None) != (given.values is None)
        }

    @property
    def heartbeat_s(self) -> float:
        """The longest time between posts: as configured, and at most a third of the site's `stale_after_s`."""
        return min(self._options.heartbeat, self._copy.settings.stale_after_s / 3)

    def _heartbeat_due(self, now_s: float) -> bool:
        if self.posted_at_s is None:
            return True
        # Due at the last tick before it would be late; a tenth of a tick is what ticks differ by.
        return now_s + 0.9 * self._tick_s > self.posted_at_s + self.heartbeat_s

    def _worth_a_post(self, news: dict[str, Given], now_s: float) -> bool:
        if not self._info_told or self._heartbeat_due(now_s):
            return True
        return any(
            moved(told.values if (told := self._told.get(key)) else None, given.values, self._options.dead_band_w)
            or key not in self._told
            for key, given in news.items()
        )

    # ------------------------------------------------------------------ when it is said

    def tick(self) -> None:
        """A tick has read what answered in time: one post may go out."""
        self._tick_open = True
        self._wake.set()

    def late(self) -> None:
        """A reading arrived after its tick; it goes out now if its tick's post did not."""
        self._wake.set()

    async def run(self) -> None:
        """Post for ever."""
        while True:
            self.progress_s = monotonic_s()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAKE_S):  # Python 3.11's wait_for can swallow the order to end
                    await self._wake.wait()
            self._wake.clear()
            now_s = monotonic_s()
            if not self._tick_open or now_s < self._not_before_s or self._holds.left_s(LANE):
                continue
            news = self._news()
            if self._worth_a_post(news, now_s):
                self._tick_open = False
                await self.post()

    async def post(self) -> bool:
        """Say what is new, once; whether the function took it. Learns the time first if it is not known."""
        self.posts += 1
        self._holds.tries(LANE)
        try:
            if not self._clock.known:
                self._copy.take_settings((await self._uplink.whoami()).settings)
            try:
                await self._post()
            except Skewed as skew:
                self._said.bad("clock", f"the clock was off and is corrected: {skew}", kind=str(self._clock.epoch))
                await self._post()
        except Held as held:
            self._holds.hold(LANE, str(held))
            self._failed(f"both lanes hold, and try every 30 s: {held}", kind="held")
        except Unreachable as gone:
            self._not_before_s = monotonic_s() + gone.retry_after_s
            self._failed(f"the live lane does not get through: {gone}", kind="unreachable")
        except (Refused, Skewed) as refused:
            self._failed(f"the function refused a live post: {refused}", kind="refused")
        except UplinkError as error:
            self._failed(f"the live lane failed: {error}", kind="other")
        else:
            return True
        return False

    async def _post(self) -> None:
        news = self._news()
        info = None if self._info_told else self.info()
        now_s = monotonic_s()
        with_state = self.posted_at_s is None or self._heartbeat_due(now_s) or info is not None
        post = live_post(self._pusher, self._clock.now(), news, info)
        answer = await self._uplink.live(post, with_state=with_state)
        self._info_told = True
        for key, given in news.items():
            self._told[key] = Told(given.values, given.moment_s)
        self.posted_at_s = now_s
        self.error = None
        self._holds.clear(LANE)
        self._said.good("live", "the live lane gets through")
        self._take(answer)

    def _failed(self, message: str, *, kind: str) -> None:
        self.error = message
        self._said.bad("live", message, kind=kind)

    def _take(self, answer: LiveAnswer) -> None:
        """Learn from the site as it stands: what others say, and whether all that we said is in it."""
        if answer.state is None:
            return
        self._copy.take(answer.state)
        own = answer.state.pushers.get(self._pusher, Said())
        described = {key: info for key, info in own.info.items() if key != LOAD}
        if described != self.info():
            self._info_told = False
        for device in self._devices:
            claim = own.claims.get(device.key)
            if claim is None:
                self._told.pop(device.key, None)
                continue
            for time in filter(None, (claim.measured_at, claim.withdrawn_at)):
                self._pass_by(device.key, time)

    def _pass_by(self, key: str, time: datetime) -> None:
        if time > self._clock.at(monotonic_s()):
            self._stamps.pass_by(key, time)
