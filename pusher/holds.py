"""When the lanes may try: an answer that is not the function's, or a token that it refuses, holds both of them.

Nothing is deleted meanwhile; each lane tries again every 30 s. Source: design section 7, Retry.
"""

import asyncio

from pusher.clock import monotonic_s

__all__ = ["HOLD_S", "Holds"]

HOLD_S = 30
STEP_S = 5
"""A waiting lane shows at least this often that it is alive."""


class Holds:
    """What holds the lanes, by the lane that met it."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        """Begin with nothing held."""
        self._hold_s = hold_s
        self._until_s: dict[str, float] = {}
        self.reasons: dict[str, str] = {}

    def hold(self, lane: str, reason: str) -> None:
        """Hold both lanes for 30 s, for what one of them was answered."""
        self._until_s[lane] = monotonic_s() + self._hold_s
        self.reasons[lane] = reason

    def clear(self, lane: str) -> None:
        """A lane was answered in order; only what it met itself is over by that."""
        self._until_s.pop(lane, None)
        self.reasons.pop(lane, None)

    def left_s(self) -> float:
        """How much longer nothing may be sent; 0: a lane may try."""
        return max(0.0, max(self._until_s.values(), default=0.0) - monotonic_s())

    async def step(self) -> bool:
        """Wait while held, a few seconds at most; True if a lane may try."""
        left_s = self.left_s()
        if left_s:
            await asyncio.sleep(min(left_s, STEP_S))
        return not self.left_s()
