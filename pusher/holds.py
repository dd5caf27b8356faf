"""When the lanes may try: an answer that is not the function's, or a token that it refuses, holds both of them.

Nothing is deleted meanwhile; each lane tries again every 30 s, whatever the other meets. Source: design section 7,
Retry.
"""

import asyncio

from pusher.clock import monotonic_s

__all__ = ["HOLD_S", "Holds"]

HOLD_S = 30
STEP_S = 5
"""A waiting lane shows at least this often that it is alive."""


class Holds:
    """How long each lane is held, and what the lanes were answered."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        """Begin with nothing held."""
        self._hold_s = hold_s
        self._until_s = {"live": 0.0, "archive": 0.0}
        self._tried = set(self._until_s)
        """The lanes that have tried since the last hold. The others still may, or one could hold both for ever."""
        self.reasons: dict[str, str] = {}

    def hold(self, lane: str, reason: str) -> None:
        """Hold both lanes for 30 s, for what one of them was answered."""
        for held in {lane, *self._tried}:
            self._until_s[held] = monotonic_s() + self._hold_s
        self._tried.clear()
        self.reasons[lane] = reason

    def tries(self, lane: str) -> None:
        """A lane is about to try."""
        self._tried.add(lane)

    def clear(self, lane: str) -> None:
        """A lane was answered in order; only what it met itself is over by that."""
        self._until_s[lane] = 0.0
        self.reasons.pop(lane, None)

    def left_s(self, lane: str | None = None) -> float:
        """How much longer a lane (None: either) may not try; 0: it may."""
        until_s = max(self._until_s.values()) if lane is None else self._until_s[lane]
        return max(0.0, until_s - monotonic_s())

    async def step(self, lane: str) -> bool:
        """Wait while a lane is held, a few seconds at most; True if it may try."""
        left_s = self.left_s(lane)
        if left_s:
            await asyncio.sleep(min(left_s, STEP_S))
        return not self.left_s(lane)
