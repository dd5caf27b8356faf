"""What a live post holds, and what counts as news."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.posts import Given, live_post, moved
from schemas.document import flat
from schemas.messages import LivePost

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "values", "news"),
    [
        (None, {"grid_power_w": 1}, True),
        ({"grid_power_w": 1}, None, True),
        (None, None, False),
        ({"grid_power_w": 100}, {"grid_power_w": 120}, False),
        ({"grid_power_w": 100}, {"grid_power_w": 121}, True),
        ({"inv_power_ac_w": 1, "pv_energy_day_wh": 5}, {"inv_power_ac_w": 1, "pv_energy_day_wh": 500}, False),
        ({"bat_power_w": 1, "soc": 5}, {"bat_power_w": 1, "soc": 6}, False),
        ({"bat_power_w": 1, "mode": 0}, {"bat_power_w": 1, "mode": 1}, True),
        ({"inv_power_ac_w": 1}, {"inv_power_ac_w": 1, "battery_connected": True}, True),
    ],
)
def test_news_is_a_power_beyond_the_dead_band_or_another_state(told, values, news):
    assert moved(told, values, 20) is news


@given(
    st.dictionaries(
        st.sampled_from(["inverters/0", "inverters/4", "energy_meters/0", "batteries/0"]),
        st.tuples(st.booleans(), st.integers(0, 100)),
    )
)
def test_a_post_says_of_every_device_its_values_and_its_own_time(devices):
    powers = {"inverters": "inv_power_ac_w", "energy_meters": "grid_power_w", "batteries": "bat_power_w"}
    given_devices = {
        key: Given({powers[key.partition("/")[0]]: age} if there else None, 0, NOW - timedelta(seconds=age))
        for key, (there, age) in devices.items()
    }
    post = LivePost.model_validate(live_post("barn", NOW, given_devices, None))
    own = flat(post.measured) if post.measured else {}
    assert flat(post.device_values) == {key: device.values for key, device in given_devices.items()}
    assert {key: own.get(key, post.measured_at) for key in devices} == {
        key: device.time for key, device in given_devices.items()
    }


def test_the_load_is_withdrawn_like_any_device():
    post = live_post("barn", NOW, {"load_power_w": Given(None, 0, NOW)}, None)
    assert post["device_values"] == {"load_power_w": None}
    assert flat(LivePost.model_validate(post).device_values) == {"load_power_w": None}


def test_a_description_lists_every_device_also_one_without_any():
    post = live_post("barn", NOW, {}, {"inverters/0": {"name": "Roof"}, "batteries/0": {}})
    assert post["device_info"] == {"inverters": {"0": {"name": "Roof"}}, "batteries": {"0": {}}}
    assert post["measured_at"] == post["sent_at"]
