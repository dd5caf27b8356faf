"""Whether a wrong signature takes longer the more of it is right: python -m tests.attacks.timing [--payloads N]

For each of many payloads, tokens whose signature is right up to a byte, and wrong from there on, are verified in turns,
in an order shuffled anew each time. Told is how much longer each kind took than the one that is wrong from its first
byte, payload by payload, with the range in which that lies with 99.9 % certainty; the control is as wrong as that one,
and shows what noise does. It is no test, for a busy machine says anything; that the comparison takes constant time by
construction is one (test_tokens.py).
"""

import argparse
import base64
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from function.tokens import ForeignToken, Keyring

REPEATS = 15
RIGHT_BYTES = (0, 1, 8, 16, 31)
CERTAIN = 3.291
"""Standard errors to either side, for 99.9 %."""


def tokens(keyring: Keyring, now: datetime) -> dict[str, str]:
    """A token per kind: how many bytes of its signature are right."""
    head, _, signature = keyring.make("home", "read", now).rpartition(".")
    good = base64.urlsafe_b64decode(signature + "=")
    kinds = {f"{right:2} bytes right": good[:right] + _wrong(good[right:]) for right in RIGHT_BYTES}
    kinds["the control"] = _wrong(good)
    return {kind: f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}" for kind, raw in kinds.items()}


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


def longer_ns(took_ns: list[float], than_ns: list[float]) -> tuple[float, float]:
    """The mean of the differences by payload, and how far from it the truth may lie.

    A tenth at either end is left out, for something else came between there.
    """
    differences = sorted(one - other for one, other in zip(took_ns, than_ns, strict=True))
    kept = differences[len(differences) // 10 : len(differences) * 9 // 10]
    return statistics.fmean(kept), CERTAIN * statistics.stdev(kept) / len(kept) ** 0.5


def main() -> int:
    """Measure and tell; status 1 where a difference was found."""
    parser = argparse.ArgumentParser(prog="tests.attacks.timing", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--payloads", type=int, default=2000, help="how many are tried (default: %(default)s)")
    payloads = parser.parse_args().payloads
    now = datetime.now(UTC)
    keyring = Keyring("k" * 48)

    def check(token: str) -> None:
        try:
            keyring.verify(token, now)
        except ForeignToken:
            return
        raise AssertionError("a wrong signature counted")

    found: dict[str, list[float]] = {}
    for age_s in range(payloads):
        for kind, took_ns in measure_ns(check, tokens(keyring, now - timedelta(seconds=age_s))).items():
            found.setdefault(kind, []).append(took_ns)
    first, *others = found
    differs = False
    print(f"{first}: {statistics.median(found[first]):.0f} ns (median of {payloads} payloads)")
    for kind in others:
        more_ns, range_ns = longer_ns(found[kind], found[first])
        apart = abs(more_ns) > range_ns
        differs |= apart
        said = "APART" if apart else "no difference found"
        print(f"{kind}: {more_ns:+.1f} ns, give or take {range_ns:.1f}: {said}")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
