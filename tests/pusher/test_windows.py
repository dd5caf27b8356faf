"""Rows made of readings: aligned, never across a quarter hour, means of powers and the last of the rest."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.windows import Windows, slot_of

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def fill(windows, samples):
    """Samples as (second, devices); the rows that they finish."""
    rows = []
    for second, devices in samples:
        rows += windows.add(devices, 1000 + second, at(second))
    return rows


def grid(power_w):
    return {"energy_meters/0": {"grid_power_w": power_w}}


@given(st.integers(0, 10**6), st.floats(1, 900))
def test_a_slot_holds_its_moment_and_lies_within_one_quarter_hour(second, every_s):
    start, end = slot_of(at(second), every_s)
    assert start <= at(second) < end
    assert (end - start).total_seconds() <= every_s + 1e-6
    quarter = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
    assert end <= quarter + timedelta(minutes=15)


def test_powers_are_means_and_everything_else_is_as_at_the_end():
    battery = [
        {"batteries/0": {"bat_power_w": 100, "soc": 50, "mode": 1}},
        {"batteries/0": {"bat_power_w": 300, "soc": 51, "mode": 0}},
    ]
    [row] = fill(Windows(60), [(0, battery[0]), (5, battery[1]), (60, {})])
    assert row.devices == {"batteries/0": {"bat_power_w": 200, "soc": 51, "mode": 0}}
    assert (row.started_at, row.duration_s) == (at(0), 60)


def test_windows_that_follow_each_other_begin_where_the_last_one_ended():
    rows = fill(Windows(60), [(55, grid(1)), (62, grid(2)), (118, grid(4)), (121, grid(8))])
    assert [(row.started_at, row.duration_s) for row in rows] == [(at(55), 5), (at(60), 60)]
    assert rows[1].started_s == pytest.approx(1060)


def test_a_window_that_is_joined_late_claims_no_time_before_its_first_sample():
    windows = Windows(60)
    fill(windows, [(37, grid(1)), (40, grid(3))])
    [row] = windows.close(1050)
    assert (row.started_at, row.duration_s) == (at(37), 13)


def test_a_row_ends_at_the_quarter_hour_also_where_its_length_does_not_divide_it():
    rows = fill(Windows(420), [(second, grid(1)) for second in range(0, 1000, 5)])
    assert [(row.started_at, row.duration_s) for row in rows] == [(at(0), 420), (at(420), 420), (at(840), 60)]


def test_a_device_that_falls_silent_keeps_the_mean_of_what_it_said():
    both = {**grid(10), "inverters/0": {"inv_power_ac_w": 500}}
    [row] = fill(Windows(60), [(0, both), (5, grid(20)), (60, {})])
    assert row.devices["inverters/0"]["inv_power_ac_w"] == 500
    assert row.devices["energy_meters/0"]["grid_power_w"] == 15


def test_a_clock_that_steps_ends_the_window_with_the_time_that_passed():
    windows = Windows(60)
    fill(windows, [(0, grid(1)), (20, grid(1))])
    [row] = windows.add(grid(2), 1025, at(-7200))
    assert row.duration_s == 25
