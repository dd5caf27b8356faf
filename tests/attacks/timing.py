"""Whether a wrong signature takes longer the more of it is right: python -m tests.attacks.timing [--rounds N] [--leak]

Tokens whose signature is right up to a byte, and wrong from there on, are verified in turns, in an order shuffled anew
each time, over many payloads. Each is set against one that is made alike, but begins with bytes of a wrong signature,
and so is a control, with bytes of yet another: what controls differ by is noise, and the farthest that any may lie is
the noise floor, below which this tool sees nothing. A kind is told apart only where it certainly lies beyond that.
`--leak` shows what a real leak looks like: signatures are then compared byte by byte, up to the first wrong one.

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
RIGHT, CONTROL, OTHER = "right", "control", "other"
"""What a signature begins with: the right one, a wrong one, or the wrong one that both are set against."""

DOUBT = 0.001
"""How likely it may be that any of the ranges of one run does not hold the truth."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much longer one kind took than another, and how far from it the truth may lie, in ns."""

    more_ns: float
    range_ns: float

    def __str__(self) -> str:
        return f"{self.more_ns:+.1f} ns, give or take {self.range_ns:.1f}"

    @property
    def farthest_ns(self) -> float:
        """The largest difference, either way, that this may be."""
        return abs(self.more_ns) + self.range_ns

    @property
    def nearest_ns(self) -> float:
        """The smallest."""
        return max(0.0, abs(self.more_ns) - self.range_ns)


Kind = tuple[str, int]
"""What a signature begins with, and for how many bytes."""


def tokens(keyring: Keyring, now: datetime) -> dict[Kind, str]:
    """A token per kind, wrong from the byte on up to which it begins with something.

    Made alike and in any order, for which bytes others have too, and where each lies in memory, take time as well.
    """
    head, _, signature = keyring.make("home", "read", now).rpartition(".")
    good = base64.urlsafe_b64decode(signature + "=")
    begins = {RIGHT: good, CONTROL: _wrong(good), OTHER: _wrong(good)}
    kinds = [(begin, upto) for begin in begins for upto in RIGHT_BYTES]
    made = {}
    for begin, upto in random.sample(kinds, len(kinds)):
        raw = begins[begin][:upto] + _wrong(good)[upto:]
        made[begin, upto] = f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"
    return made


def _wrong(part: bytes) -> bytes:
    return bytes(byte ^ random.randint(1, 255) for byte in part)


def measure_ns(check: Callable[[str], None], kinds: dict[Kind, str]) -> dict[Kind, float]:
    """What the check of each kind takes, in ns: the median of some. Nothing but the check lies within the measure."""
    order = list(kinds)
    took_ns: dict[Kind, list[int]] = {kind: [] for kind in order}
    for _ in range(REPEATS):
        random.shuffle(order)
        for kind in order:
            token = kinds[kind]  # how long a look-up takes goes by the key's hash, and so by the kind
            began_ns = time.perf_counter_ns()
            check(token)
            ended_ns = time.perf_counter_ns()
            took_ns[kind].append(ended_ns - began_ns)
    return {kind: statistics.median(found) for kind, found in took_ns.items()}


def difference(rounds_ns: list[float], comparisons: int) -> Difference:
    """The mean of what each round found, and its range, wide enough for so many comparisons.

    A round counts as one value, for what lasts disturbs neighbours alike: many payloads would only seem to be many.
    """
    certain = statistics.NormalDist().inv_cdf(1 - DOUBT / comparisons / 2)
    return Difference(statistics.fmean(rounds_ns), certain * statistics.stdev(rounds_ns) / len(rounds_ns) ** 0.5)


def apart(found: dict[Kind, Difference]) -> tuple[float, list[int]]:
    """The noise floor in ns, and the numbers of right bytes that certainly make a difference beyond it."""
    floor_ns = max(one.farthest_ns for (begin, _), one in found.items() if begin == CONTROL)
    beyond = [upto for (begin, upto), one in found.items() if begin == RIGHT and one.nearest_ns > floor_ns]
    return floor_ns, beyond


def measured(check: Callable[[str], None], keyring: Keyring, rounds: int) -> tuple[float, dict[Kind, Difference]]:
    """What a check takes, in ns, and how each kind differs from the other that begins with as many bytes.

    A round's difference is the median over its payloads: now and then something else comes between.
    """
    now = datetime.now(UTC)
    all_ns: list[float] = []
    by_round: dict[Kind, list[float]] = {}
    for number in range(rounds):
        more_ns: dict[Kind, list[float]] = {}
        for payload in range(PAYLOADS):
            age = timedelta(seconds=number * PAYLOADS + payload)
            took_ns = measure_ns(check, tokens(keyring, now - age))
            all_ns += took_ns.values()
            for begin in (RIGHT, CONTROL):
                for upto in RIGHT_BYTES:
                    more_ns.setdefault((begin, upto), []).append(took_ns[begin, upto] - took_ns[OTHER, upto])
        for kind, differences in more_ns.items():
            by_round.setdefault(kind, []).append(statistics.median(differences))
    return statistics.median(all_ns), {kind: difference(found, len(by_round)) for kind, found in by_round.items()}


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
        median_ns, found = measured(check, keyring, arguments.rounds)
    floor_ns, beyond = apart(found)
    print(f"a check: {median_ns:.0f} ns (median over {arguments.rounds * PAYLOADS} payloads)")
    for upto in RIGHT_BYTES:
        said = "APART" if upto in beyond else "no difference found"
        print(f"{upto:2} bytes right: {found[RIGHT, upto]}; control: {found[CONTROL, upto]}: {said}")
    print(f"noise floor: {floor_ns:.1f} ns; a difference below that cannot be seen here")
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
