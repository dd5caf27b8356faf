"""What systemd is told: that the pusher is ready, reloads, stops, and - through the watchdog - that it gets on.

Without systemd (`NOTIFY_SOCKET` not set) nothing happens. Source: sd_notify(3).
"""

import os
import socket
from contextlib import suppress

__all__ = ["notify", "watchdog_s"]


def notify(state: str) -> None:
    """Send a state such as `READY=1`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), address)


def watchdog_s() -> float | None:
    """How long systemd waits for a sign of life, in seconds; None: it does not."""
    if os.environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) else None
