"""The two documents: never an old number as if it were now, and what the rules make of what is fresh."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.house import house_of
from schemas.render import Documents, render
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


@pytest.mark.parametrize("location", range(6))
def test_a_meter_of_unknown_place_counts_as_the_grids_and_one_that_is_elsewhere_does_not(location):
    meter = {"energy_meters": {"0": {"grid_power_w": 7}}}
    seen = house(meter, device_info={"energy_meters": {"0": {"location": location}}})
    assert (seen.power(EPOCH)["grid_w"] == 7) is (location in (0, 1))
    assert house(meter).power(EPOCH)["grid_w"] == 7


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
    assert house_of(fold([post(device_values=EXAMPLE), gone("inverters")])).status(EPOCH) == "partial"


def gone(category, second=1):
    return post(device_values={category: {"0": None}}, measured_at=f"2026-11-22T12:00:{second:02}Z")


def test_the_documents_are_sent_without_a_blank_and_in_plain_utf_8():
    site = fold([post(device_values={"load_power_w": 1.4}, device_info={"inverters": {"0": {"name": "Süd"}}})])
    sent = render(site, EPOCH)
    assert sent.values_body == b'{"device_values":{"load_power_w":1}}'
    assert sent.info_body == '{"device_info":{"inverters":{"0":{"name":"Süd"}}}}'.encode()


def test_a_number_that_is_none_is_never_sent():
    with pytest.raises(ValueError, match="JSON"):
        Documents({"device_values": {"load_power_w": float("nan")}}, None, "", None).values_body  # noqa: B018


@pytest.mark.parametrize("on_stale", ["unavailable", "no_surplus"])
def test_an_answer_without_surplus_holds_until_the_next_device_ceases_to_be_fresh(on_stale):
    battery = post(device_values={"batteries": {"0": {"bat_power_w": 1}}}, measured_at="2026-11-22T12:00:05Z")
    described = post(device_values=EXAMPLE, device_info={"inverters": {"0": {"name": "Roof"}}})
    site = fold([described, battery, gone("energy_meters")], {"on_stale": on_stale})
    said = render(site, EPOCH + timedelta(seconds=1))
    assert said.until == EPOCH + timedelta(seconds=60)
    assert said.info == {"device_info": {"inverters": {"0": {"name": "Roof"}}}}
    assert render(site, EPOCH + timedelta(seconds=60)).until == EPOCH + timedelta(seconds=60)
    assert render(site, EPOCH + timedelta(seconds=60.001)).until == EPOCH + timedelta(seconds=65)
    assert render(site, EPOCH + timedelta(seconds=65.001)).until is None
    assert render(fold([], {"on_stale": on_stale}), EPOCH).until is None


def test_why_the_surplus_is_unknown_is_told_with_the_device_and_its_time():
    def why(*sequence, seconds=0):
        return render(fold(list(sequence)), EPOCH + timedelta(seconds=seconds)).detail

    named = {"device_info": {"energy_meters": {"0": {"name": "Grid"}}, "batteries": {"0": {"name": "Cellar"}}}}
    assert why() == "nothing has been heard of this site's devices yet"
    assert why(post(device_values=EXAMPLE)) == "fresh"
    assert why(gone("energy_meters")) == "energy meter 0 could not be read yet"
    assert why(post(device_values=EXAMPLE, **named), gone("energy_meters")) == (
        'energy meter 0 "Grid" was last read at 2026-11-22T12:00:00Z'
    )
    battery, load = {"batteries": {"0": {"bat_power_w": 1}}}, post(device_values={"load_power_w": 1})
    assert why(load, seconds=61) == (
        "no device is fresh; the last was house load, which was last read at 2026-11-22T12:00:00Z"
    )
    newer = post(device_values=battery, measured_at="2026-11-22T12:00:01Z", **named)
    assert why(load, newer, seconds=62) == (
        'no device is fresh; the last was battery 0 "Cellar", which was last read at 2026-11-22T12:00:01Z'
    )
    assert why(gone("smart_loads"), load, seconds=61).startswith("no device is fresh; the last was house load")
    assert why(gone("smart_loads")) == ("no device is fresh; the last was smart load 0, which could not be read yet")
    assert why(gone("inverters")) == "no device is fresh; the last was inverter 0, which could not be read yet"


def test_no_surplus_says_why():
    site = fold([post(device_values=EXAMPLE), gone("energy_meters")], {"on_stale": "no_surplus"})
    assert render(site, EPOCH).detail == ("no surplus, for energy meter 0 was last read at 2026-11-22T12:00:00Z")


def test_watts_are_served_whole_and_degrees_and_percent_as_decimals():
    values = {
        "inverters": {"0": {"inv_power_ac_w": 1.6, "pv_energy_day_wh": 2.4, "battery_connected": False}},
        "batteries": {"0": {"bat_power_w": -1.6, "soc": 50, "mode": 3}},
        "smart_loads": {"0": {"sl_power_w": 0.4, "temp": 46, "mode": 1}},
    }
    body = render(fold([post(device_values=values)]), EPOCH).values_body
    assert json.loads(body) == {
        "device_values": {
            "inverters": {"0": {"inv_power_ac_w": 2, "pv_energy_day_wh": 2, "battery_connected": False}},
            "batteries": {"0": {"bat_power_w": -2, "soc": 50.0, "mode": 3}},
            "smart_loads": {"0": {"sl_power_w": 0, "temp": 46.0, "mode": 1}},
        }
    }
    for written in (b'"battery_connected":false', b'"soc":50.0,"mode":3}', b'"temp":46.0,"mode":1}'):
        assert written in body


def test_what_a_device_is_does_not_age():
    info = {"inverters": {"0": {"name": "Roof"}}}
    site = fold([post(device_values=EXAMPLE, device_info=info)])
    late = render(site, EPOCH + timedelta(days=1))
    assert (late.values, late.info) == (None, {"device_info": info})
    assert render(Site(), EPOCH).info is None
    assert render(fold([post()]), EPOCH).info == {"device_info": {}}


def test_no_surplus_takes_the_load_as_it_was_last_known_from_whichever_is_newer():
    def load(*sequence):
        return house_of(fold(list(sequence))).last_known_load_w()

    def at(second, values):
        return post(device_values=values, measured_at=f"2026-11-22T12:00:{second:02}Z")

    assert load() is None
    assert load(at(0, {"load_power_w": 7})) == 7
    assert load(at(0, EXAMPLE)) == 1683
    assert load(at(5, EXAMPLE), at(4, {"load_power_w": 7})) == 1683
    assert load(at(5, EXAMPLE), at(5, {"load_power_w": 7})) == 7
    assert load(at(5, EXAMPLE), at(6, {"load_power_w": 7})) == 7
    assert load(at(5, EXAMPLE), at(6, {"inverters": {"0": {"inv_power_ac_w": 1}}}), at(5, {"load_power_w": 7})) == 7
    assert load(at(5, EXAMPLE), at(4, {"load_power_w": 7}), gone("energy_meters", 6)) == 1683
    assert load(at(5, {"load_power_w": 7}), at(6, {"load_power_w": None})) == 7
    assert load(at(6, {"load_power_w": None})) is None
    assert load(at(0, {"batteries": {"0": {"bat_power_w": 5}}}), at(1, {"load_power_w": None})) is None


def test_the_state_of_charge_is_the_batterys_while_it_is_fresh():
    seen = house(EXAMPLE)
    assert seen.soc(EPOCH) == 78.2
    assert seen.soc(EPOCH + timedelta(seconds=61)) is None
    assert house({"batteries": {"0": {"bat_power_w": 5}}}).soc(EPOCH) is None
    assert house({"inverters": {"0": {"inv_power_ac_w": 5}}}).soc(EPOCH) is None


def test_a_power_is_unknown_unless_every_known_device_in_it_is_fresh():
    roof_and_barn = {"inverters": {"0": {"inv_power_ac_w": 2225.4}, "1": {"inv_power_ac_w": 100.3}}}
    assert house(roof_and_barn).power(EPOCH)["pv_w"] == 2326
    one_gone = house_of(fold([post(device_values=roof_and_barn), gone("inverters")]))
    assert one_gone.power(EPOCH)["pv_w"] is None
    battery_gone = house_of(fold([post(device_values=EXAMPLE), gone("batteries")]))
    assert battery_gone.power(EPOCH)["pv_w"] is None, "it cannot be told from the battery's"
    assert battery_gone.power(EPOCH)["load_w"] == 1683
    smart = house({"smart_loads": {"0": {"sl_power_w": 1241}}})
    assert smart.power(EPOCH)["smart_load_w"] == 1241
    assert smart.power(EPOCH + timedelta(seconds=61))["smart_load_w"] is None


def test_the_suns_power_is_never_below_nothing():
    assert house({"inverters": {"0": {"inv_power_ac_w": -5}}}).power(EPOCH)["pv_w"] == 0
    hybrid = {"inverters": {"0": {"inv_power_ac_w": 100, "battery_connected": True}}}
    assert house(hybrid | {"batteries": {"0": {"bat_power_w": 300}}}).power(EPOCH)["pv_w"] == 0
    assert house(hybrid).power(EPOCH)["pv_w"] == 100


def test_a_device_is_described_by_the_pusher_whose_word_holds_for_it():
    def described(pusher, second, name, values=None):
        return post(
            pusher=pusher,
            measured_at=f"2026-11-22T12:00:{second:02}Z",
            device_values=values or {},
            device_info={"energy_meters": {"0": {"name": name}}},
        )

    def name(*sequence):
        return house_of(fold(list(sequence))).info["energy_meters/0"]["name"]

    meter = {"energy_meters": {"0": {"grid_power_w": 1}}}
    assert name(described("a", 1, "A", meter), described("b", 2, "B")) == "A", "it reads the device"
    assert name(described("a", 1, "A", meter), described("b", 2, "B", meter)) == "B", "it read it last"
    assert name(described("a", 2, "A"), described("b", 1, "B")) == "A", "it described it last"
    withdrawn = post(pusher="b", measured_at="2026-11-22T12:00:03Z", device_values={"energy_meters": {"0": None}})
    assert name(described("a", 2, "A", meter), described("b", 1, "B"), withdrawn) == "B", "its word is the newest"
    assert name(described("a", 1, "A"), described("b", 1, "B")) == "B", "its name is greater"
