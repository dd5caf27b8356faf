"""When a message arrived that nobody asked for, also if this process or its host was held up meanwhile.

What comes while a process is stopped or a host asleep lies in the socket, and is taken out as if it had just come. Its
time is then that of the last moment at which the loop is known to have run: a value is never stamped newer than it is.
Source: design section 3.2.
"""

import asyncio
from typing import NoReturn

from pusher.clock import monotonic_s

__all__ = ["Arrivals"]

BEAT_S = 1.0
HELD_UP_S = 2.5
"""A beat that comes later than this after the last one: the loop did not run."""

SETTLED_AFTER_S = 1.0
"""How long after it was held up messages may still be some that lay in the socket."""


class Arrivals:
    """Times of arrival at one connection."""

    def __init__(self) -> None:
        """Begin now."""
        self._beat_s = monotonic_s()
        self._since_s = self._until_s = 0.0

    def watch(self) -> "asyncio.Task[NoReturn]":
        """Begin at a connection that is new: look at the time every second, so that silence is not taken for more."""
        self._beat_s = monotonic_s()
        return asyncio.create_task(self._watch())

    async def _watch(self) -> NoReturn:
        while True:
            await asyncio.sleep(BEAT_S)
            self.now_s()

    def now_s(self) -> float:
        """The time (monotonic) at which what is taken out now arrived, at the latest."""
        now_s = monotonic_s()
        if now_s - self._beat_s > HELD_UP_S:
            self._since_s, self._until_s = self._beat_s, now_s + SETTLED_AFTER_S
        self._beat_s = now_s
        return self._since_s if now_s < self._until_s else now_s
