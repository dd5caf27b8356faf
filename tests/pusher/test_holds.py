"""Holds: both lanes wait, and neither waits for ever for the other."""

import pytest

from pusher.holds import Holds


@pytest.fixture
def now(monkeypatch):
    at = [100.0]
    monkeypatch.setattr("pusher.holds.monotonic_s", lambda: at[0])
    return at


def test_what_one_lane_meets_holds_both_and_each_tries_every_30_s(now):
    holds = Holds()
    tried = {"live": [], "archive": []}
    for second in range(300):
        now[0] = 100.0 + second
        for lane in ("archive", "live"):  # the archive lane is always the quicker one, and always refused
            if not holds.left_s(lane):
                holds.tries(lane)
                tried[lane].append(second)
                if lane == "archive":
                    holds.hold(lane, "a firewall's answer")
                else:
                    holds.clear(lane)
    assert tried["archive"] == list(range(0, 300, 30))
    assert len(tried["live"]) >= 5
    assert set(holds.reasons) == {"archive"}


def test_a_lane_that_is_refused_holds_the_other_too(now):
    holds = Holds()
    holds.tries("live")
    holds.hold("live", "401")
    assert (holds.left_s("live"), holds.left_s("archive"), holds.left_s()) == (30, 30, 30)
    now[0] += 30
    assert holds.left_s() == 0
