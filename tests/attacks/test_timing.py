"""The timing tool reckons as it says: noise is no difference, and a leak beyond the noise is one."""

import random

from tests.attacks.timing import CONTROL, RIGHT, RIGHT_BYTES, apart, difference, leaking


def found(chance, shifts_ns):
    kinds = {(CONTROL, upto): 0 for upto in RIGHT_BYTES} | {
        (RIGHT, upto): shifts_ns.get(upto, 0) for upto in RIGHT_BYTES
    }
    return {
        kind: difference([chance.gauss(shift_ns, 50) for _ in range(100)], len(kinds))
        for kind, shift_ns in kinds.items()
    }


def test_noise_is_told_apart_in_no_run_of_hundreds():
    chance = random.Random(1)
    assert not any(apart(found(chance, {}))[1] for _ in range(300))


def test_what_lasts_beyond_the_noise_floor_is_told_apart():
    floor_ns, beyond = apart(found(random.Random(2), {16: 200}))
    assert beyond == [16]
    assert 0 < floor_ns < 100


def test_the_leak_it_shows_compares_as_it_should():
    assert leaking(b"abc", b"abc")
    assert not leaking(b"abc", b"abd")
    assert not leaking(b"abc", b"ab")
