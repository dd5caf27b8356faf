"""Whether a wrong signature takes longer the more of it is right: python -m tests.attacks.timing [--rounds N] [--leak]

Tokens whose signature is right up to a byte, and wrong from there on, are verified in turns, in an order shuffled anew
each time, over many payloads. Told is how much longer each kind took than the one that is wrong from its first byte.
Controls are as wrong as that one: what they differ by is noise, and the farthest that any of them may lie is the noise
floor, below which this tool sees nothing. A kind is told apart only where it certainly lies beyond that. `--leak` shows
what a real leak looks like: signatures are then compared byte by byte, up to the first wrong one.

It is no test, for a busy machine hides what there is; that the comparison takes constant time by construction is one
(test_tokens.py).
"""

import argparse
import base64
import hmac
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from unittest import mock

from function.tokens import ForeignToken, Keyring

ROUNDS = 100
PAYLOADS = 25
"""In a round, which is as long as the machine is about equally busy; rounds are what the ranges are reckoned from."""

REPEATS = 15
RIGHT_BYTES = (1, 8, 16, 31)
CONTROLS = 4
FIRST = "wrong from its first byte"
DOUBT = 0.001
"""How likely it may be that any of the ranges of one run does not hold the truth."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much longer one kind took than the first, and how far from it the truth may lie, in ns."""

    more_ns: float
    range_ns: float

    @property
    def farthest_ns(self) -> float:
        """The largest difference, either way, that this may be."""
        return abs(self.more_ns) + self.range_ns

    @property
    def nearest_ns(self) -> float:
        """The smallest."""
        return max(0.0, abs(self.more_ns) - self.range_ns)


def tokens(keyring: Keyring, now: datetime) -> dict[str, str]:
    """A token per kind; made in any order, so that no kind always lies at the same place in memory."""
    head, _, signature = keyring.make("home", "read", now).rpartition(".")
    good = base64.urlsafe_b64decode(signature + "=")
    kinds = {FIRST: 0}
    kinds |= {f"control {number}": 0 for number in range(1, CONTROLS + 1)}
    kinds |= {f"{right} bytes right": right for right in RIGHT_BYTES}
    made = {}
    for kind in random.sample(list(kinds), len(kinds)):
        raw = good[: kinds[kind]] + _wrong(good[kinds[kind] :])
        made[kind] = f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"
    return {kind: made[kind] for kind in kinds}


def _wrong(part: bytes) -> bytes:
    return bytes(byte ^ random.randint(1, 255) for byte in part)


def measure_ns(check: Callable[[str], None], kinds: dict[str, str]) -> dict[str, float]:
    """What the check of each kind takes, in ns: the median of some."""
    order = list(kinds)
    took_ns: dict[str, list[int]] = {kind: [] for kind in order}
    for _ in range(REPEATS):
        random.shuffle(order)
        for kind in order:
            began_ns = time.perf_counter_ns()
            check(kinds[kind])
            took_ns[kind].append(time.perf_counter_ns() - began_ns)
    return {kind: statistics.median(found) for kind, found in took_ns.items()}


def difference(rounds_ns: list[float], comparisons: int) -> Difference:
    """The mean of what each round found, and its range, wide enough for so many comparisons.

    A round counts as one value, for what lasts disturbs neighbours alike: many payloads would only seem to be many.
    """
    certain = statistics.NormalDist().inv_cdf(1 - DOUBT / comparisons / 2)
    return Difference(statistics.fmean(rounds_ns), certain * statistics.stdev(rounds_ns) / len(rounds_ns) ** 0.5)


def apart(found: dict[str, Difference]) -> tuple[float, set[str]]:
    """The noise floor in ns, and the kinds that certainly lie beyond it."""
    floor_ns = max(one.farthest_ns for kind, one in found.items() if kind.startswith("control"))
    return floor_ns, {kind for kind, one in found.items() if one.nearest_ns > floor_ns}


def measured(check: Callable[[str], None], keyring: Keyring, rounds: int) -> tuple[float, dict[str, Difference]]:
    """What the first kind takes, in ns, and how the others differ from it.

    A round's difference is the median over its payloads: now and then something else comes between.
    """
    now = datetime.now(UTC)
    first_ns: list[float] = []
    others: dict[str, list[float]] = {}
    for number in range(rounds):
        more_ns: dict[str, list[float]] = {}
        for payload in range(PAYLOADS):
            age = timedelta(seconds=number * PAYLOADS + payload)
            took_ns = measure_ns(check, tokens(keyring, now - age))
            first_ns.append(took_ns.pop(FIRST))
            for kind, kind_ns in took_ns.items():
                more_ns.setdefault(kind, []).append(kind_ns - first_ns[-1])
        for kind, differences in more_ns.items():
            others.setdefault(kind, []).append(statistics.median(differences))
    return statistics.median(first_ns), {kind: difference(found, len(others)) for kind, found in others.items()}


def leaking(one: bytes, other: bytes) -> bool:
    """A comparison that ends at the first byte that is wrong: what must not be."""
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


def main() -> int:
    """Measure and tell; status 1 where a difference was found."""
    parser = argparse.ArgumentParser(prog="tests.attacks.timing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many, at least 30 (default: %(default)s)")
    parser.add_argument("--leak", action="store_true", help="compare byte by byte, to see what a leak looks like")
    arguments = parser.parse_args()
    if arguments.rounds < 30:
        parser.error("--rounds: at least 30, for the ranges hold only over many")
    keyring = Keyring("k" * 48)
    now = datetime.now(UTC)

    def check(token: str) -> None:
        try:
            keyring.verify(token, now)
        except ForeignToken:
            return
        raise AssertionError("a wrong signature counted")

    compare = leaking if arguments.leak else hmac.compare_digest
    with mock.patch("hmac.compare_digest", compare):
        first_ns, found = measured(check, keyring, arguments.rounds)
    floor_ns, beyond = apart(found)
    print(f"{FIRST}: {first_ns:.0f} ns (median of {arguments.rounds * PAYLOADS} payloads)")
    for kind, one in found.items():
        said = "" if kind.startswith("control") else ": APART" if kind in beyond else ": no difference found"
        print(f"{kind}: {one.more_ns:+.1f} ns, give or take {one.range_ns:.1f}{said}")
    print(f"noise floor: {floor_ns:.1f} ns; a difference below that cannot be seen here")
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
