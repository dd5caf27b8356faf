"""How much is worked on at once: a post waits its turn or is sent away, so that the wallbox is always answered.

A GET takes no place and waits for no turn. Posts begin one by one, with a turn of the event loop between them, in which
whoever asks for values is answered; posts beyond the capacity are told when to come again. Bodies are counted in bytes,
on their way in and at work, for a client that is slow must not cost others their place, and parsed readings take
some thirty times the room of their JSON. Source: design section 3.5; the figures are this module's own.
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

    posts_limit: int = 64
    incoming_limit_bytes: int = 8 * 2**20
    """All bodies that are on their way in, taken together."""
    work_limit_bytes: int = 2**19
    """All bodies that are parsed and not yet answered, unpacked; one alone may be larger."""

    def __post_init__(self) -> None:
        """Begin with nothing at work."""
        self.posts = self.incoming_bytes = self.work_bytes = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """A place for one post, until the block ends; raises Failure 503 where there is none."""
        await self.turn()
        place = Place(self)
        place.enter()
        try:
            yield place
        finally:
            place.leave()

    async def turn(self) -> None:
        """Wait until this post alone begins something in this turn of the event loop."""
        async with self._turn:
            await asyncio.sleep(0)


class Place:
    """One post's place: with its body on its way in, it is not at work."""

    def __init__(self, capacity: Capacity) -> None:
        """Belong to `capacity`."""
        self._capacity = capacity
        self._posts = self._incoming_bytes = self._work_bytes = 0

    def enter(self) -> None:
        """Be at work; raises Failure 503."""
        if self._capacity.posts >= self._capacity.posts_limit:
            raise _full("too many posts at once; try again")
        self._posts = 1
        self._capacity.posts += 1

    def incoming(self, size_bytes: int) -> None:
        """Count a piece of a body that came in; raises Failure 503."""
        self._capacity.posts -= self._posts
        self._posts = 0
        if self._capacity.incoming_bytes + size_bytes > self._capacity.incoming_limit_bytes:
            raise _full("too many large bodies at once; try again")
        self._incoming_bytes += size_bytes
        self._capacity.incoming_bytes += size_bytes

    async def received(self) -> None:
        """The body is here as it was sent: wait for a turn and be at work again; raises Failure 503."""
        await self._capacity.turn()
        self._capacity.incoming_bytes -= self._incoming_bytes
        self._incoming_bytes = 0
        if not self._posts:
            self.enter()

    def work(self, size_bytes: int) -> None:
        """Count a body that is about to be parsed; raises Failure 503."""
        if self._capacity.work_bytes and self._capacity.work_bytes + size_bytes > self._capacity.work_limit_bytes:
            raise _full("too many readings at once; try again")
        self._work_bytes += size_bytes
        self._capacity.work_bytes += size_bytes

    def leave(self) -> None:
        """Give everything back."""
        self._capacity.posts -= self._posts
        self._capacity.incoming_bytes -= self._incoming_bytes
        self._capacity.work_bytes -= self._work_bytes
        self._posts = self._incoming_bytes = self._work_bytes = 0


def _full(detail: str) -> Failure:
    return Failure(503, detail, headers={"Retry-After": RETRY_AFTER_S, **CLOSE})
