"""The pusher's clock: learnt from the function, never newer than the truth, growing."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pusher.clock import Clock, Offset, Stamps, boot_id, monotonic_s

TRUTH = datetime(2026, 11, 22, 12, tzinfo=UTC)
"""Wall time at monotonic 0."""


def clock(wall_s=0.0):
    return Clock(wall_s=wall_s, monotonic_s=0, boot="this")


def true_time(moment_s):
    return TRUTH + timedelta(seconds=moment_s)


def test_until_the_function_has_spoken_the_hosts_clock_is_a_guess_taken_once():
    guessing = Clock(wall_s=1_000_000, monotonic_s=50, boot="this")
    assert not guessing.known
    assert guessing.at(60) == datetime.fromtimestamp(1_000_010, UTC)


def test_the_exchange_with_the_smallest_round_trip_counts():
    learning = clock()
    assert learning.learn(true_time(10), sent_s=10, received_s=10.05)
    assert not learning.learn(true_time(20), sent_s=19, received_s=22)
    assert learning.learn(true_time(30.01), sent_s=30, received_s=30.02)
    assert abs(learning.at(100) - true_time(100)) < timedelta(milliseconds=20)


def test_an_old_exchange_loses_to_a_new_one_once_it_may_have_drifted_by_more():
    learning = clock()
    learning.learn(true_time(0), sent_s=0, received_s=0.01)
    assert not learning.learn(true_time(100), sent_s=99.9, received_s=100.1)
    assert learning.learn(true_time(10_000), sent_s=9_999.9, received_s=10_000.1)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 5), st.floats(0, 1)), min_size=1, max_size=20),
    st.floats(0, 1e6),
)
def test_no_stamp_is_newer_than_the_truth_however_the_round_trips_fall(exchanges, moment_s):
    learning = clock()
    for sent_s, round_trip_s, share in exchanges:
        learning.learn(true_time(sent_s + share * round_trip_s), sent_s, sent_s + round_trip_s)
    assert learning.at(moment_s) <= true_time(moment_s) + timedelta(microseconds=100)


def test_a_refused_time_voids_what_was_learnt():
    learning = clock()
    learning.learn(true_time(3600), sent_s=0, received_s=0.001)
    epoch = learning.epoch
    learning.correct(true_time(10), sent_s=10, received_s=11)
    assert learning.epoch > epoch
    assert abs(learning.at(20) - true_time(20)) <= timedelta(seconds=1)


def test_an_offset_of_the_same_boot_is_taken_up():
    resumed = clock()
    resumed.take_up(Offset(TRUTH.timestamp(), 0.01, 5))
    assert resumed.known
    assert resumed.at(7) == true_time(7)


@given(st.lists(st.tuples(st.integers(0, 60), st.floats(-5, 5)), min_size=2, max_size=30))
def test_the_stamps_of_a_device_only_grow_whatever_the_offset_does(steps):
    learning = clock()
    learning.take_up(Offset(TRUTH.timestamp(), 0.01, 0))
    stamps = Stamps(learning)
    moment_s, given_out = 0.0, []
    for step_s, error_s in steps:
        moment_s += step_s + 1
        learning.offset = Offset(TRUTH.timestamp() + error_s, 0.01, moment_s)
        given_out.append(stamps.of("inverters/0", moment_s))
    assert given_out == sorted(set(given_out))


def test_the_same_reading_keeps_its_stamp_when_the_offset_gets_better():
    learning = clock()
    learning.learn(true_time(0), sent_s=0, received_s=2)
    stamps = Stamps(learning)
    first = stamps.of("inverters/0", 5)
    learning.learn(true_time(6), sent_s=6, received_s=6.01)
    assert stamps.of("inverters/0", 5) == first


def test_a_stamp_passes_by_what_the_function_has_already():
    learning = clock()
    learning.take_up(Offset(TRUTH.timestamp(), 0.01, 0))
    stamps = Stamps(learning)
    stamps.pass_by("inverters/0", true_time(20))
    assert stamps.of("inverters/0", 10) == true_time(20) + timedelta(milliseconds=1)


def test_monotonic_time_and_boot_are_the_systems_own():
    assert monotonic_s() <= monotonic_s()
    assert boot_id() == boot_id() or len(boot_id()) == 36


def test_an_exchange_that_excludes_what_was_learnt_counts_however_slow_it_was():
    """A host that stood still, or a function whose clock was set, by less than the function refuses."""
    for step_s in (-40, -1, 1, 40):
        learning = clock()
        learning.learn(true_time(10), sent_s=9.99, received_s=10)
        assert not learning.learn(true_time(20), sent_s=19.5, received_s=20)
        assert learning.learn(true_time(30 + step_s), sent_s=29.5, received_s=30)
        assert abs(learning.at(30) - true_time(30 + step_s)) < timedelta(milliseconds=2)
