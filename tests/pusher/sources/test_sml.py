"""SML telegrams: the readings of a whole one, and nothing of a torn or damaged one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.sources.sml import readings_in
from tests.pusher.sources.replay import sml_telegram

READINGS = {"1-0:1.8.0": [1, 12_345_678], "1-0:2.8.0": [-1, 55], "1-0:16.7.0": [-1, -5420]}
TELEGRAM = sml_telegram(READINGS)


def test_readings_are_scaled_and_signed():
    assert readings_in(b"rest of the last one" + TELEGRAM + TELEGRAM[:9]) == {
        "1-0:1.8.0": 123_456_780,
        "1-0:2.8.0": 5.5,
        "1-0:16.7.0": -542,
    }


@pytest.mark.parametrize("end", range(0, len(TELEGRAM), 7))
def test_a_torn_telegram_shows_nothing(end):
    with pytest.raises(ValueError, match="SML"):
        readings_in(TELEGRAM[:end])


@given(at=st.integers(8, len(TELEGRAM) - 9), flip=st.integers(1, 255))
def test_a_damaged_telegram_shows_nothing(at, flip):
    damaged = bytearray(TELEGRAM)
    damaged[at] ^= flip
    with pytest.raises(ValueError, match="SML"):
        readings_in(bytes(damaged))


@given(st.binary(max_size=200))
def test_rubbish_is_refused(rubbish):
    with pytest.raises(ValueError, match="SML"):
        readings_in(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + rubbish)
