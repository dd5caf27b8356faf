"""The two documents: never an old number as if it were now, and what the rules make of what is fresh."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.house import house_of
from schemas.render import render
from schemas.site import Site
from tests.schemas.strategies import EPOCH, examples, fold, posts
from tests.schemas.test_merge import post

EXAMPLE = {
    "inverters": {"0": {"inv_power_ac_w": 2225, "battery_connected": True}},
    "energy_meters": {"0": {"grid_power_w": -542}},
    "batteries": {"0": {"bat_power_w": -749, "soc": 78.2}},
}


def house(values, **more):
    return house_of(fold([post(device_values=values, **more)]))


def load_w(values, **more):
    return house(values, **more).load_w(EPOCH)


def test_the_documents_example_balances():
    assert load_w(EXAMPLE) == 1683
    assert house(EXAMPLE).power(EPOCH) == {
        "pv_w": 2974,
        "grid_w": -542,
        "battery_w": -749,
        "load_w": 1683,
        "smart_load_w": None,
    }


def test_a_battery_on_the_ac_side_adds_in():
    values = EXAMPLE | {"inverters": {"0": {"inv_power_ac_w": 2225, "battery_connected": False}}}
    assert load_w(values) == 2225 - 542 - 749
    assert house(values).power(EPOCH)["pv_w"] == 2225


def test_the_load_needs_an_inverter_and_a_grid_meter_and_is_at_least_nothing():
    assert load_w({"inverters": {"0": {"inv_power_ac_w": 5}}}) is None
    assert load_w({"energy_meters": {"0": {"grid_power_w": 5}}}) is None
    sub_meter = {"energy_meters": {"0": {"location": 5}}}
    values = {"inverters": {"0": {"inv_power_ac_w": 5}}, "energy_meters": {"0": {"grid_power_w": 7}}}
    assert load_w(values) == 12
    assert load_w(values, device_info=sub_meter | {"inverters": {"0": {}}}) is None
    assert load_w({**values, "energy_meters": {"0": {"grid_power_w": -9}}}) == 0
    assert load_w({**values, "load_power_w": 3}) == 3


@pytest.mark.parametrize(
    ("dead", "answer"), [("energy_meters", None), ("inverters", "partial"), ("batteries", "partial")]
)
def test_one_dead_device_is_left_out_and_a_dead_grid_meter_stops_everything(dead, answer):
    site = fold(
        [post(device_values=EXAMPLE), post(device_values={dead: {"0": None}}, measured_at="2026-11-22T12:00:01Z")]
    )
    rendered = render(site, EPOCH)
    if answer is None:
        assert rendered.values is None
        assert "energy meter 0" in rendered.detail
    else:
        assert dead not in rendered.values["device_values"]
        assert "load_power_w" not in rendered.values["device_values"] or dead == "batteries"
    assert house_of(site).status(EPOCH) == "partial"


def test_a_dead_sub_meter_does_not_stop_the_rest():
    info = {"energy_meters": {"0": {"location": 1}, "1": {"location": 5}}}
    site = fold(
        [
            post(
                device_values={"energy_meters": {"0": {"grid_power_w": 1}, "1": {"grid_power_w": 2}}}, device_info=info
            ),
            post(device_values={"energy_meters": {"1": None}}, measured_at="2026-11-22T12:00:01Z"),
        ]
    )
    assert render(site, EPOCH).values == {"device_values": {"energy_meters": {"0": {"grid_power_w": 1}}}}


def test_no_surplus_serves_nothing_but_a_house_on_the_grid():
    values = EXAMPLE | {
        "energy_meters": {"0": {"grid_power_w": 5}, "2": {"grid_power_w": -547}},
        "smart_loads": {"0": {"sl_power_w": 1}},
    }
    site = fold([post(device_values=values)], {"on_stale": "no_surplus"})
    late = EPOCH + timedelta(seconds=61)
    assert render(site, late).values == {
        "device_values": {
            "inverters": {"0": {"inv_power_ac_w": 0, "battery_connected": True}},
            "energy_meters": {"0": {"grid_power_w": 1683}, "2": {"grid_power_w": 0}},
            "batteries": {"0": {"bat_power_w": 0}},
            "load_power_w": 1683,
        }
    }
    withdrawn = post(device_values={"energy_meters": {"0": None}}, measured_at="2026-11-22T12:00:01Z")
    site = fold([post(device_values=values), withdrawn], {"on_stale": "no_surplus"})
    assert render(site, EPOCH).values["device_values"]["energy_meters"]["0"] == {"grid_power_w": 1683}


def test_no_surplus_reads_at_least_a_watt_and_a_new_site_reads_nothing():
    site = fold([post(device_values={"energy_meters": {"0": None}})], {"on_stale": "no_surplus"})
    assert render(site, EPOCH).values == {
        "device_values": {"energy_meters": {"0": {"grid_power_w": 1}}, "load_power_w": 1}
    }
    assert render(fold([], {"on_stale": "no_surplus"}), EPOCH).values is None


@examples(3)
@given(st.lists(posts(), max_size=5), st.integers(0, 130), st.sampled_from(["unavailable", "no_surplus"]))
def test_nothing_old_is_ever_shown(sequence, seconds, on_stale):
    site = fold(sequence, {"on_stale": on_stale})
    now = EPOCH + timedelta(seconds=seconds)
    seen = house_of(site)
    rendered = render(site, now)
    fresh = {device.key for device in seen.devices if device.fresh(now)}
    dead_meter = any(not meter.fresh(now) for meter in seen.grid_meters)
    if dead_meter or not fresh:
        if on_stale == "unavailable" or not seen.devices:
            assert rendered.values is None
        else:
            shown = rendered.values["device_values"]
            assert all(device["inv_power_ac_w"] == 0 for device in shown.get("inverters", {}).values())
            assert shown["load_power_w"] >= 1
        return
    shown = rendered.values["device_values"]
    served = {f"{category}/{index}" for category, them in shown.items() if category != "load_power_w" for index in them}
    assert served == fresh - {"load_power_w"}
    assert json.dumps(shown, allow_nan=False)
    assert not any(members == {} for members in shown.values())


@examples(2)
@given(st.lists(posts(), max_size=5), st.integers(0, 200))
def test_a_document_holds_until_the_time_it_says(sequence, seconds):
    site = fold(sequence)
    now = EPOCH + timedelta(seconds=seconds / 2)
    rendered = render(site, now)
    if rendered.until is not None:
        assert rendered.until >= now
        assert render(site, rendered.until).values == rendered.values
    else:
        assert render(site, now + timedelta(days=1)).values == rendered.values


def test_status_counts_every_known_device():
    assert house_of(Site()).status(EPOCH) == "new"
    site = fold([post(device_values=EXAMPLE)])
    assert house_of(site).status(EPOCH) == "live"
    assert house_of(site).status(EPOCH + timedelta(seconds=61)) == "stale"
