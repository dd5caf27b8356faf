"""The end of asyncio tasks, also of those that did not hear that they should."""

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["end"]

AGAIN_S = 3


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
