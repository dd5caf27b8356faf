"""Asks a running pusher over pusher.sock."""

import errno
import json
from pathlib import Path
from typing import Any

__all__ = ["NotRunning", "ask_status"]

TIMEOUT_S = 5


class NotRunning(Exception):
    """No pusher answers at the socket, or it does not answer in time; the message says what to look at."""


async def ask_status(path: Path) -> dict[str, Any]:
    """The running pusher's `/status`; raises NotRunning."""
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
            ) as session,
            session.get("http://pusher/status") as response,
        ):
            document: dict[str, Any] = json.loads(await response.read())
            return document
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
            raise NotRunning(f"{path} may not be opened by this user; ask as another one, such as with sudo") from None
        if isinstance(error, TimeoutError):
            raise NotRunning(
                f"the pusher at {path} does not answer within {TIMEOUT_S} s: it is stopped, or hangs; look at its log, "
                "and restart it"
            ) from None
        raise NotRunning(
            f"no pusher runs here: {path} is not there or nobody listens; "
            'start it with "nrgkick-pusher run", or look at its log'
        ) from None
