"""The simulated house is physically sound, and the same seed lives the same day."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusher.sources import Shared
from pusher.sources.simulated import House, Options, open_source

MINUTE_S = 60.0
CATEGORIES = ("inverters", "energy_meters", "batteries", "smart_loads", "load_power_w")


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    battery=st.sampled_from(["inverter", "ac", "none"]),
    start=st.sampled_from(["00:00", "10:00", "23:59"]),
)
def test_power_balances_at_every_minute_and_the_battery_keeps_its_bounds(seed, battery, start):
    house = House(Options(seed=seed, battery=battery, start=start))
    energy_wh = 0.0
    for minute in range(0, 26 * 60, 5):
        now = house.at(minute * MINUTE_S)
        on_the_ac_side = now.battery_w if battery == "ac" else 0
        assert now.load_w == pytest.approx(now.inverter_w + on_the_ac_side + now.grid_w)
        assert now.boiler_w <= now.load_w
        assert 0 <= now.soc <= 100
        assert now.pv_w >= 0
        assert now.pv_total_wh >= energy_wh
        energy_wh = now.pv_total_wh
        if battery == "none":
            assert now.battery_w == 0


def test_a_day_has_sun_at_noon_none_at_night_and_both_feed_in_and_consumption():
    house = House(Options(seed=3, start="00:00"))
    day = [house.at(minute * MINUTE_S) for minute in range(24 * 60)]
    assert day[60].pv_w == day[23 * 60].pv_w == 0
    assert max(now.pv_w for now in day) > 3000
    assert min(now.grid_w for now in day) < -200
    assert max(now.grid_w for now in day) > 200
    assert min(now.battery_w for now in day) < 0 < max(now.battery_w for now in day)
    assert max(now.soc for now in day) - min(now.soc for now in day) > 20
    assert max(now.boiler_c for now in day) > min(now.boiler_c for now in day)


def test_the_same_seed_gives_the_same_day_however_often_it_is_asked():
    often, seldom = House(Options(seed=7)), House(Options(seed=7))
    for second in range(0, 7200, 7):
        often.at(second)
    assert often.at(7200) == seldom.at(7200)
    assert House(Options(seed=8)).at(7200) != seldom.at(7200)


def test_the_day_counter_begins_anew_at_midnight_and_the_total_does_not():
    house = House(Options(start="12:00"))
    before, after = house.at(11.9 * 3600), house.at(12.1 * 3600)
    assert before.pv_day_wh > 1000
    assert after.pv_day_wh == 0
    assert after.pv_total_wh == before.pv_total_wh


async def test_devices_of_one_configuration_agree():
    shared = Shared()
    options = Options(start="11:00", battery="ac")
    values = {}
    for category in CATEGORIES:
        values |= (await open_source(options, category, shared).read()).values
    assert values["load_power_w"] == pytest.approx(
        values["inv_power_ac_w"] + values["grid_power_w"] + values["bat_power_w"], abs=1
    )
    assert values["battery_connected"] is False
    await shared.close()


async def test_a_battery_behind_the_inverter_is_in_the_inverters_power():
    shared = Shared()
    values = {}
    for category in CATEGORIES:
        values |= (await open_source(Options(start="11:00"), category, shared).read()).values
    assert values["battery_connected"] is True
    assert values["load_power_w"] == pytest.approx(values["inv_power_ac_w"] + values["grid_power_w"], abs=1)
    await shared.close()
