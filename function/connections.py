"""Connections of `nrgkick-cloud serve` that wait for their client: none for ever, and none keeps another out.

uvicorn lets a client take as long as it likes to begin or to end a request, and lets in as many as the system has
descriptors; a few thousand idle connections then lock the wallbox out. Here those that wait for their client stand in
a row: who has waited too long is let go, and so is the first of the row where there is no room for one more. A
connection whose request is being worked on is never let go.
"""

import asyncio
import resource
from typing import Protocol

__all__ = ["MOST_CONNECTIONS", "WAIT_LIMIT_S", "Row", "raise_descriptor_limit"]

MOST_CONNECTIONS = 4096
"""Open at the same time, if the system has descriptors for so many."""

KEPT_BACK = 64
"""Descriptors that are not for connections: the store's, and what libraries open."""

WAIT_LIMIT_S = 80
"""Longer than an idle connection is kept for a proxy, so that those are closed in the ordinary way."""


class Waiting(Protocol):
    """What stands in the row."""

    def let_go(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        ...


class Row:
    """The connections of one server that wait for their client, the longest waiting first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int | None = None) -> None:
        """Take the loop whose clock counts, and how many connections there may be; default: what the system gives."""
        self._loop = loop
        self._since_s: dict[Waiting, float] = {}
        self._sweeping = False
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = limit or max(16, min(MOST_CONNECTIONS, descriptors - KEPT_BACK))

    def enter(self, connection: Waiting) -> None:
        """Let a connection stand at the row's end, also one that stands in it already."""
        self._since_s.pop(connection, None)
        self._since_s[connection] = self._loop.time()
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(WAIT_LIMIT_S, self._sweep)

    def leave(self, connection: Waiting) -> None:
        """Take a connection out: it is being worked on, or has ended."""
        self._since_s.pop(connection, None)

    def make_room(self, connections: int) -> None:
        """Let the first of the row go if there are more connections than may be."""
        if connections > self.limit and self._since_s:
            self._let_go(next(iter(self._since_s)))

    def _sweep(self) -> None:
        while self._since_s:
            connection, since_s = next(iter(self._since_s.items()))
            left_s = since_s + WAIT_LIMIT_S - self._loop.time()
            if left_s > 0:
                self._loop.call_later(left_s, self._sweep)
                return
            self._let_go(connection)
        self._sweeping = False

    def _let_go(self, connection: Waiting) -> None:
        del self._since_s[connection]
        connection.let_go()


def raise_descriptor_limit() -> None:
    """Ask the system for as many descriptors as there may be connections; what it gives less is lived with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + KEPT_BACK
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
