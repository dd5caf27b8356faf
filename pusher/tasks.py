"""Tasks that go on for ever, and their end, also of those that did not hear that they should."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

from pusher.clock import monotonic_s

__all__ = ["again_and_again", "end"]

AGAIN_S = 3
"""How long a task may take to end before it is told again."""

BACKOFF_FROM_S, BACKOFF_TO_S = 1.0, 60.0


async def again_and_again(connect: Callable[[], Awaitable[None]]) -> NoReturn:
    """Connect for ever, slower and slower up to a minute; after a connection that lasted longer, quickly again.

    `connect` returns when the connection has ended, and raises nothing.
    """
    backoff_s = BACKOFF_FROM_S
    while True:
        begun_at_s = monotonic_s()
        await connect()
        if monotonic_s() - begun_at_s > BACKOFF_TO_S:
            backoff_s = BACKOFF_FROM_S
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
        backoff_s = min(2 * backoff_s, BACKOFF_TO_S)


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait until all have ended, however they do.

    A cancel may be swallowed where a library waits (Python 3.11's `wait_for` does, if what it waits for comes in the
    same step of the event loop), so whoever has not ended soon is cancelled again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
