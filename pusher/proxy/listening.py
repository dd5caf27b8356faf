"""Whether one can listen at an address and a port: `python -m pusher.proxy.listening ADDRESS PORT`.

For Caddy, which would share them with another Caddy, so that each gets some of the polls, and which says in one line of
JSON among others why it cannot listen. What is in the way is said in words; then the exit code is 1.
"""

import errno
import socket
import sys

__all__ = ["obstacle"]


def obstacle(address: str, port: int) -> str | None:
    """What keeps this process from listening there, and what to do about it; None: nothing does."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # who has ended is no obstacle
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    who = f"sudo ss -ltnp 'sport = :{port}'"
                    return f"somebody listens at {address} port {port} already; who: {who}"
                case errno.EADDRNOTAVAIL:
                    remedy = "give it that one in your router, or call `nrgkick-pusher proxy` with another --listen"
                    return f"Cannot assign requested address: {address} is none of this machine's; {remedy}"
                case errno.EACCES:
                    return f"Permission denied: port {port} is for the unit alone, or for root; see README.txt"
            return f"{address} port {port}: {error.strerror}"
    return None


if __name__ == "__main__":
    if said := obstacle(sys.argv[1], int(sys.argv[2])):
        sys.exit(f"run: {said}")
