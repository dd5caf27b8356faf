"""The pusher's clock: monotonic time plus the offset learnt from the function's `server_time`.

The host's wall clock may be wrong or may step; readings are therefore stamped in monotonic time and turned into
wall time by the offset. Never stamp a reading newer than it is. Source: design section 5, Clock.
"""

import time

__all__ = ["monotonic_s"]


def monotonic_s() -> float:
    """Seconds since boot, counting sleep where the system can (CLOCK_BOOTTIME); never steps within one boot."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
