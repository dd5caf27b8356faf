"""How much is worked on at once: a post waits its turn or is sent away, so that the wallbox is always answered.

A poll takes no place and waits for no turn. Posts, and looks into history, begin one by one, with a turn of the event
loop between them, in which whoever asks for values is answered; those beyond the capacity are told when to come again.
Bodies are counted in bytes, on their way in and at work, for a client that is slow must not cost others their place,
and parsed readings take some thirty times the room of their JSON. Source: design section 3.5; the figures are this
module's own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from function.http import CLOSE, Failure

__all__ = ["Capacity", "Place"]

RETRY_AFTER_S = "2"


@dataclass
class Capacity:
    """What may be at work at once, and what is."""

    what: str = "posts"
    """What this is the capacity of, in words."""
    posts_limit: int = 64
    """Posts that are at work or wait for it; beyond it they are sent away."""
    at_once: int = 64
    """Of these at work. A store that writes one after the other is given few: posts that wait in its own queue would
    have a poll wait behind them."""
    incoming_limit_bytes: int = 8 * 2**20
    """All bodies that are on their way in, taken together."""
    work_limit_bytes: int = 2**19
    """All bodies that are parsed and not yet answered, unpacked; the next one waits, unless it is alone."""

    def __post_init__(self) -> None:
        """Begin with nothing at work."""
        self.posts = self.incoming_bytes = self.work_bytes = 0
        self._turn = asyncio.Lock()
        self._free = asyncio.Semaphore(self.at_once)
        self._scales = asyncio.Lock()
        self._lighter = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """A place for one post, until the block ends; raises Failure 503 where there is none."""
        await self.turn()
        place = Place(self)
        try:
            await place.enter()
            yield place
        finally:
            place.leave()

    async def turn(self) -> None:
        """Wait until this post alone begins something in this turn of the event loop."""
        async with self._turn:
            await asyncio.sleep(0)

    async def begin(self) -> None:
        """Wait until a post may be at work."""
        await self._free.acquire()

    def end(self, work_bytes: int) -> None:
        """Let the next post be at work, now that this one and its body are not."""
        self._free.release()
        self.work_bytes -= work_bytes
        self._lighter.set()

    async def weigh(self, work_bytes: int) -> None:
        """Wait until there is room for a body among those at work, one after the other."""
        async with self._scales:
            while self.work_bytes and self.work_bytes + work_bytes > self.work_limit_bytes:
                self._lighter.clear()
                await self._lighter.wait()
            self.work_bytes += work_bytes


class Place:
    """One post's place: with its body on its way in, it is not at work."""

    def __init__(self, capacity: Capacity) -> None:
        """Belong to `capacity`."""
        self._capacity = capacity
        self._posts = self._incoming_bytes = self._work_bytes = 0
        self._works = False

    async def enter(self) -> None:
        """Be at work, perhaps after others; raises Failure 503."""
        if self._capacity.posts >= self._capacity.posts_limit:
            raise _full(f"too many {self._capacity.what} at once; try again")
        self._posts = 1
        self._capacity.posts += 1
        await self._capacity.begin()
        self._works = True

    def incoming(self, size_bytes: int) -> None:
        """Count a piece of a body that came in; raises Failure 503."""
        self._rest()
        if self._capacity.incoming_bytes + size_bytes > self._capacity.incoming_limit_bytes:
            raise _full("too many large bodies at once; try again")
        self._incoming_bytes += size_bytes
        self._capacity.incoming_bytes += size_bytes

    async def received(self) -> None:
        """The body is here as it was sent: be at work again, in a turn of its own; raises Failure 503."""
        if not self._posts:
            await self.enter()
        await self._capacity.turn()
        self._capacity.incoming_bytes -= self._incoming_bytes
        self._incoming_bytes = 0

    async def work(self, size_bytes: int) -> None:
        """Count a body that is about to be parsed, perhaps after others."""
        await self._capacity.weigh(size_bytes)
        self._work_bytes += size_bytes

    def leave(self) -> None:
        """Give everything back."""
        self._rest()
        self._capacity.incoming_bytes -= self._incoming_bytes
        self._incoming_bytes = 0

    def _rest(self) -> None:
        self._capacity.posts -= self._posts
        self._posts = 0
        if self._works:
            self._works = False
            self._capacity.end(self._work_bytes)
            self._work_bytes = 0


def _full(detail: str) -> Failure:
    return Failure(503, detail, headers={"Retry-After": RETRY_AFTER_S, **CLOSE})
