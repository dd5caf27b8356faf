"""The pusher's clock: monotonic time plus the offset learnt from the function's `server_time`.

The host's wall clock may be wrong or may step; it only serves as a guess, taken once, until the offset is known.
Readings are stamped in monotonic time and turned into wall time by the offset; what is stamped is never newer than
it is, and the stamps of one device only grow. Source: design section 5, Clock.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["Clock", "Offset", "Stamps", "boot_id", "monotonic_s"]

DRIFT = 100e-6
"""How fast a host's oscillator may run off, at worst, in seconds per second; cheap boards stay within 50 ppm."""

SLACK_S = 0.05
"""By how much two exchanges may differ beyond their round trips before one of them is held to be outdated."""


def monotonic_s() -> float:
    """Seconds since boot, counting sleep where the system can (CLOCK_BOOTTIME); never steps within one boot."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """Names the running boot: monotonic times compare within one only. Without Linux's own, this process stands in."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Offset:
    """What one exchange with the function said: wall time minus monotonic time, and how far off that may be."""

    offset_s: float
    round_trip_s: float
    learnt_at_s: float
    """Monotonic."""

    def doubt_s(self, now_s: float) -> float:
        """How far off it may be at a monotonic time: the round trip, and the drift since."""
        return self.round_trip_s + max(0.0, now_s - self.learnt_at_s) * DRIFT


def _exclude(old: Offset, new: Offset) -> bool:
    """Whether two exchanges cannot both be true: one of the clocks was set, or stood still, between them."""
    slack_s = SLACK_S + max(0.0, new.learnt_at_s - old.learnt_at_s) * DRIFT
    lead_s = new.offset_s - old.offset_s
    return lead_s > old.round_trip_s + slack_s or -lead_s > new.round_trip_s + slack_s


class Clock:
    """Wall time as the function has it. `wall_s` is the host's, in seconds since 1970, and is asked only once."""

    def __init__(self, *, wall_s: float, monotonic_s: float, boot: str, offset: Offset | None = None) -> None:
        """Start with what is known: an offset of the same boot, else the host's wall clock as a guess."""
        self.boot = boot
        self.offset = offset
        self.epoch = 0
        """Counts how often everything said before turned out not to bind: the time became known, or was corrected."""
        self._guess_s = wall_s - monotonic_s

    @property
    def known(self) -> bool:
        """Whether the function has said what time it is."""
        return self.offset is not None

    @property
    def offset_s(self) -> float:
        """Wall time minus monotonic time: learnt, else the host's own."""
        return self._guess_s if self.offset is None else self.offset.offset_s

    def learn(self, server_time: datetime, sent_s: float, received_s: float) -> bool:
        """Take in one exchange (monotonic times of its ends); True if it is now the one the clock goes by.

        The server read its clock at some moment between the two. Taking the last one makes every stamp at most a round
        trip too old, and none too new.
        """
        news = Offset(server_time.timestamp() - received_s, received_s - sent_s, received_s)
        old = self.offset
        if old is not None and news.doubt_s(received_s) > old.doubt_s(received_s) and not _exclude(old, news):
            return False
        self.epoch += self.offset is None
        self.offset = news
        return True

    def take_up(self, offset: Offset) -> None:
        """Go by an offset that was learnt earlier in this boot."""
        self.epoch += 1
        self.offset = offset

    def correct(self, server_time: datetime, sent_s: float, received_s: float) -> None:
        """Take in an exchange in which the server refused our time: what was learnt before is void."""
        self.offset = None
        self.learn(server_time, sent_s, received_s)

    def at(self, moment_s: float) -> datetime:
        """A monotonic time as wall time, cut to the millisecond."""
        milliseconds = int((moment_s + self.offset_s) * 1000 // 1)
        return datetime.fromtimestamp(milliseconds // 1000, UTC) + timedelta(milliseconds=milliseconds % 1000)

    def now(self) -> datetime:
        """The present, as far as it is known."""
        return self.at(monotonic_s())


class Stamps:
    """Turns monotonic times of readings into the times that are sent, each device's only growing."""

    STEP = timedelta(milliseconds=1)

    def __init__(self, clock: Clock) -> None:
        """Begin with no device."""
        self._clock = clock
        self._epoch = clock.epoch
        self._last: dict[str, tuple[float, datetime]] = {}

    def of(self, device: str, moment_s: float) -> datetime:
        """The time of what was read at a monotonic time; the same whenever it is asked for again.

        A better offset that sets the clock back does not make it older than the last one: it is then a millisecond
        later. Only what the function refused, or was never told, does not bind.
        """
        if self._epoch != self._clock.epoch:
            self._epoch = self._clock.epoch
            self._last.clear()
        time = self._clock.at(moment_s)
        last = self._last.get(device)
        if last is not None:
            if last[0] == moment_s:
                return last[1]
            time = max(time, last[1] + self.STEP)
        self._last[device] = (moment_s, time)
        return time

    def pass_by(self, device: str, time: datetime) -> None:
        """Let the next stamp be later than a time that the function has already."""
        last = self._last.get(device)
        if last is None or last[1] < time:
            self._last[device] = (-1.0, time)
