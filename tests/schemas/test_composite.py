"""Composite sites: powers are preserved, the order of members decides the indices and nothing else."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.composite import Part, compose
from schemas.document import CATEGORIES
from schemas.house import POWER_KEYS, house_of
from schemas.render import documents
from schemas.site import Settings
from tests.schemas.strategies import EPOCH, examples, fold, posts
from tests.schemas.test_merge import post

ALL = tuple(CATEGORIES)


def member(values, include=ALL, **more):
    return Part(house_of(fold([post(device_values=values, **more)])), include)


def composite(*parts, **more):
    return compose(Settings(**more), parts)


def shown(house, now=EPOCH):
    return documents(house, now).values["device_values"]


PLAIN = {"inverters": {"0": {"inv_power_ac_w": 100}}, "energy_meters": {"0": {"grid_power_w": 10}}}
members = st.lists(
    st.tuples(st.lists(posts(), max_size=4), st.lists(st.sampled_from(ALL), min_size=1, unique=True)), max_size=9
)


@examples(2)
@given(members, st.integers(0, 90))
def test_the_sum_of_powers_is_preserved(sites, seconds):
    now = EPOCH + timedelta(seconds=seconds)
    parts = [Part(house_of(fold(sequence)), tuple(include)) for sequence, include in sites]
    house = compose(Settings(), parts)
    for category in ALL:
        ours, theirs = house.of(category), [device for part in parts for device in part.counted(category)]
        if all(device.values for device in theirs):
            assert sum(device.power_w for device in ours) == sum(device.power_w for device in theirs)
        if all(device.fresh(now) for device in theirs):
            assert all(device.fresh(now) for device in ours)
        assert len({device.index for device in ours}) == len(ours)
        assert all(device.index < (5 if category in ("inverters", "energy_meters") else 1) for device in ours)
    assert house.power(now).keys() == {"pv_w", "grid_w", "battery_w", "load_w", "smart_load_w"}
    documents(house, now)


@examples(1.5)
@given(members, st.data())
def test_the_order_of_members_decides_the_indices_and_nothing_else(sites, data):
    parts = [Part(house_of(fold(sequence)), tuple(include)) for sequence, include in sites]
    shuffled = data.draw(st.permutations(parts))
    one, other = compose(Settings(), parts), compose(Settings(), shuffled)
    assert one.power(EPOCH) == other.power(EPOCH)
    assert one.load_w(EPOCH) == other.load_w(EPOCH)
    assert one.status(EPOCH) == other.status(EPOCH)
    for category in ALL:
        assert len(one.of(category)) == len(other.of(category))
        known = [device for part in parts for device in part.counted(category)]
        if len(known) <= 5 and category in ("inverters", "energy_meters"):
            order = [device for part in shuffled for device in part.counted(category)]
            assert [(it.values, it.measured_at) for it in other.of(category)] == [
                (it.values, it.measured_at) for it in order
            ]


def test_no_device_changes_its_number_when_another_dies():
    first = Part(
        house_of(
            fold(
                [
                    post(device_values=PLAIN),
                    post(device_values={"inverters": {"0": None}}, measured_at="2026-11-22T12:00:01Z"),
                ]
            )
        ),
        ALL,
    )
    second = member({"inverters": {"0": {"inv_power_ac_w": 7}}})
    assert shown(composite(first, second))["inverters"] == {"1": {"inv_power_ac_w": 7}}


def test_more_than_five_are_summed_in_the_last_and_left_out_if_one_of_them_is_stale():
    parts = [member({"inverters": {"0": {"inv_power_ac_w": 2**number}}}) for number in range(7)]
    assert shown(composite(*parts))["inverters"] == {
        "0": {"inv_power_ac_w": 1}, "1": {"inv_power_ac_w": 2}, "2": {"inv_power_ac_w": 4},
        "3": {"inv_power_ac_w": 8}, "4": {"inv_power_ac_w": 16 + 32 + 64},
    }  # fmt: skip
    old = member({"inverters": {"0": {"inv_power_ac_w": 1}}}, measured_at="2026-11-22T11:58:00Z")
    assert sorted(shown(composite(*parts[:6], old))["inverters"]) == ["0", "1", "2", "3"]


def test_batteries_become_one_weighted_by_capacity():
    def battery(power, soc, mode, **info):
        return member(
            {"batteries": {"0": {"bat_power_w": power, "soc": soc, "mode": mode}}},
            device_info={"batteries": {"0": info}},
        )

    both = composite(battery(-100, 100, 3, capacity_wh=1000), battery(300, 0, 0, capacity_wh=3000))
    assert shown(both)["batteries"] == {"0": {"bat_power_w": 200, "soc": 25.0, "mode": 3}}
    assert documents(both, EPOCH).info["device_info"]["batteries"]["0"]["capacity_wh"] == 4000
    equal = composite(battery(0, 100, 3), battery(0, 0, 0, capacity_wh=3000))
    assert shown(equal)["batteries"]["0"]["soc"] == 50.0


def test_loads_are_summed_only_of_members_that_are_included_with_inverter_and_meter():
    assert shown(composite(member(PLAIN), member(PLAIN)))["load_power_w"] == 220
    half = composite(member(PLAIN), member(PLAIN, ("inverters",)))
    assert "load_power_w" not in shown(half)
    battery_only = member({"batteries": {"0": {"bat_power_w": 5}}})
    assert shown(composite(member(PLAIN), battery_only))["load_power_w"] == 110


def test_a_member_with_a_dead_grid_meter_stops_the_whole():
    dead = Part(
        house_of(
            fold(
                [
                    post(device_values=PLAIN),
                    post(device_values={"energy_meters": {"0": None}}, measured_at="2026-11-22T12:00:01Z"),
                ]
            )
        ),
        ALL,
    )
    assert documents(composite(member(PLAIN), dead), EPOCH).values is None
    assert shown(composite(member(PLAIN), dead, on_stale="no_surplus"))["load_power_w"] == 220
    assert (
        POWER_KEYS["inverters"] in shown(composite(member(PLAIN), Part(dead.house, ("inverters",))))["inverters"]["1"]
    )


EACH = PLAIN | {"batteries": {"0": {"bat_power_w": 3}}, "smart_loads": {"0": {"sl_power_w": 1}}}
OLD = {"measured_at": "2026-11-22T11:58:00Z"}


def test_each_power_is_summed_over_the_members_that_include_it():
    both = composite(member(EACH), member(EACH))
    assert both.power(EPOCH) == {"pv_w": 200, "grid_w": 20, "battery_w": 6, "load_w": 226, "smart_load_w": 2}
    half = composite(member(EACH), member(EACH, ("inverters", "energy_meters")))
    assert half.power(EPOCH) == {"pv_w": 200, "grid_w": 20, "battery_w": 3, "load_w": 226, "smart_load_w": 1}
    nothing = composite(member({"load_power_w": 5}))
    assert nothing.power(EPOCH) == {"pv_w": None, "grid_w": None, "battery_w": None, "load_w": 5, "smart_load_w": None}


def test_a_power_is_unknown_where_a_members_is():
    house = composite(member(EACH), member(EACH, **OLD))
    assert set(house.power(EPOCH).values()) == {None}


def test_a_member_with_no_meter_but_a_sub_meter_leaves_the_grids_power_known():
    sub_meter = member(
        {"energy_meters": {"0": {"grid_power_w": 7}}}, device_info={"energy_meters": {"0": {"location": 5}}}
    )
    assert composite(member(EACH), sub_meter).power(EPOCH)["grid_w"] == 10


def test_a_load_with_a_fraction_is_a_whole_number_among_the_powers():
    house = composite(member({"load_power_w": 5.4}), member({"load_power_w": 5.4}))
    assert house.load_w(EPOCH) == 10.8
    assert house.power(EPOCH)["load_w"] == 11


def test_a_member_with_an_inverter_and_no_meter_leaves_the_load_unknown_and_so_does_one_with_a_meter_alone():
    for half in ({"inverters": PLAIN["inverters"]}, {"energy_meters": PLAIN["energy_meters"]}):
        assert composite(member(PLAIN), member(half)).load_w(EPOCH) is None


def test_there_is_no_load_where_no_member_has_one():
    assert composite(member({"batteries": {"0": {"bat_power_w": 1}}})).load_w(EPOCH) is None


def test_the_last_known_load_is_that_of_the_members_whose_load_was_ever_known():
    assert composite(member(PLAIN), member({"batteries": {"0": {"bat_power_w": 1}}})).last_known_load_w() == 110
    assert composite(member({"batteries": {"0": {"bat_power_w": 1}}})).last_known_load_w() is None


def test_a_composite_is_as_fresh_as_its_members_devices():
    assert composite(Part(house_of(fold([])), ALL)).status(EPOCH) == "new"
    assert composite(member(PLAIN)).status(EPOCH) == "live"
    assert composite(member(PLAIN), member(PLAIN, **OLD)).status(EPOCH) == "partial"
    assert composite(member(PLAIN, **OLD)).status(EPOCH) == "stale"
    assert composite(member(PLAIN), member(PLAIN, ("inverters",), **OLD)).status(EPOCH) == "partial"
    battery = {"batteries": {"0": {"bat_power_w": 1}}}
    assert composite(member(battery), member(battery, **OLD)).status(EPOCH) == "partial", "before they are summed"
    assert composite(member(PLAIN)).heard_at == EPOCH


def test_one_dead_inverter_among_the_summed_ones_makes_the_site_partial():
    parts = [member({"inverters": {str(index): {"inv_power_ac_w": 1} for index in range(5)}}) for _ in range(2)]
    parts[1] = member({"inverters": {"0": {"inv_power_ac_w": 1}}}, **OLD)
    assert composite(*parts).status(EPOCH) == "partial"


def inverters(*values, info=None, **more):
    info = {"device_info": {"inverters": {str(index): it for index, it in enumerate(info)}}} if info else {}
    return member({"inverters": {str(index): it for index, it in enumerate(values)}}, **info, **more)


ONE = {"inv_power_ac_w": 1}
FOUR = inverters(ONE, ONE, ONE, ONE)


def test_five_keep_their_numbers_and_only_a_sixth_is_summed():
    five = composite(FOUR, inverters(ONE))
    assert ([device.values for device in five.of("inverters")], five.info) == ([ONE] * 5, {})
    six = composite(FOUR, inverters(ONE, {"inv_power_ac_w": 2}))
    assert [device.values["inv_power_ac_w"] for device in six.of("inverters")] == [1, 1, 1, 1, 3]


def test_the_summed_one_adds_its_counters_where_each_has_them():
    whole = {"inv_power_ac_w": 1, "pv_energy_day_wh": 10, "pv_energy_total_wh": 1000}
    half = {"inv_power_ac_w": 1, "pv_energy_day_wh": 20}
    assert composite(FOUR, inverters(whole, whole)).devices[4].values == {
        "inv_power_ac_w": 2, "pv_energy_day_wh": 20, "pv_energy_total_wh": 2000,
    }  # fmt: skip
    assert composite(FOUR, inverters(whole, half)).devices[4].values == {"inv_power_ac_w": 2, "pv_energy_day_wh": 30}


def test_the_summed_one_has_a_battery_if_one_of_its_parts_has():
    with_battery, without = ONE | {"battery_connected": True}, ONE | {"battery_connected": False}
    for parts, connected in (
        ((with_battery, without), True),
        ((ONE, with_battery), True),
        ((without, ONE), False),
    ):
        assert composite(FOUR, inverters(*parts)).devices[4].values["battery_connected"] is connected
    assert "battery_connected" not in composite(FOUR, inverters(ONE, ONE)).devices[4].values


def test_the_summed_one_is_described_by_all_its_parts():
    described = composite(
        FOUR,
        inverters(ONE, ONE, info=[{"name": "Roof", "max_ac_w": 5000, "max_dc_w": 6000}, {"max_ac_w": 3000}]),
    )
    assert described.info["inverters/4"] == {"name": "Roof + inverter 1", "max_ac_w": 8000}
    both = [{"name": "A", "max_dc_w": 1}, {"name": "B", "max_dc_w": 2}]
    assert composite(FOUR, inverters(ONE, ONE, info=both)).info["inverters/4"] == {"name": "A + B", "max_dc_w": 3}


def test_a_long_name_is_cut_where_the_document_ends_it():
    long = [{"name": "x" * 150}, {"name": "y" * 150}]
    name = composite(FOUR, inverters(ONE, ONE, info=long)).info["inverters/4"]["name"]
    assert name == "x" * 150 + " + " + "y" * 47


def test_the_summed_one_names_each_of_its_pushers_once():
    parts = [inverters(ONE, ONE, pusher="roof-pi"), inverters(ONE, pusher="barn-pi")]
    assert composite(FOUR, *parts).devices[4].pusher == "roof-pi, barn-pi"


def meters(*locations):
    return member(
        {"energy_meters": {str(index): {"grid_power_w": 1} for index in range(len(locations))}},
        device_info={
            "energy_meters": {str(i): {} if it is None else {"location": it} for i, it in enumerate(locations)}
        },
    )


def test_summed_meters_are_where_they_all_are_and_unknown_where_they_differ():
    for last, location in (((1, 1), 1), ((5, 5), 5), ((None, None), 0), ((1, 5), 0), ((None, 1), 0), ((0, None), 0)):
        assert composite(meters(1, 1, 1, 1), meters(*last)).info["energy_meters/4"]["location"] == location
    assert "location" not in composite(FOUR, inverters(ONE, ONE)).info["inverters/4"]


def test_the_summed_one_holds_as_long_as_the_first_of_its_parts_to_end():
    def at(second, stale_after_s):
        site = fold([post(device_values={"inverters": {"0": ONE}}, measured_at=f"2026-11-22T12:00:{second:02}Z")])
        return Part(house_of(site.model_copy(update={"settings": Settings(stale_after_s=stale_after_s)})), ALL)

    summed = composite(FOUR, at(30, 10), at(0, 60)).devices[4]
    assert (summed.measured_at, summed.stale_after) == (EPOCH + timedelta(seconds=30), timedelta(seconds=10))
    assert summed.fresh(EPOCH + timedelta(seconds=40))
    assert not summed.fresh(EPOCH + timedelta(seconds=41))
    summed = composite(FOUR, at(30, 60), at(0, 60)).devices[4]
    assert summed.fresh_until == EPOCH + timedelta(seconds=60)


def test_the_summed_one_is_withdrawn_with_the_last_of_its_parts_and_not_known_without_one():
    def gone(second, values=True):
        first = [post(device_values={"inverters": {"0": ONE}})] if values else []
        last = post(device_values={"inverters": {"0": None}}, measured_at=f"2026-11-22T12:00:{second:02}Z")
        return Part(house_of(fold([*first, last])), ALL)

    summed = composite(FOUR, gone(5), gone(3), inverters(ONE)).devices[4]
    assert summed.withdrawn_at == EPOCH + timedelta(seconds=5)
    assert not summed.fresh(EPOCH)
    assert summed.values == {"inv_power_ac_w": 3}
    for parts in ((gone(5, values=False), inverters(ONE)), (inverters(ONE), gone(5, values=False))):
        unread = composite(FOUR, *parts).devices[4]
        assert (unread.values, unread.measured_at, unread.fresh(EPOCH)) == (None, None, False)
    assert composite(FOUR, inverters(ONE, ONE)).devices[4].withdrawn_at is None


def test_batteries_without_a_state_of_charge_have_none_together():
    full = member({"batteries": {"0": {"bat_power_w": 1, "soc": 90, "mode": 2}}})
    bare = member({"batteries": {"0": {"bat_power_w": 1}}})
    assert composite(full, bare).devices[0].values == {"bat_power_w": 2, "mode": 2}
    assert composite(bare, full).devices[0].values == {"bat_power_w": 2}


def test_the_state_of_charge_has_one_digit_after_the_point():
    def battery(soc):
        return member({"batteries": {"0": {"bat_power_w": 1, "soc": soc}}})

    assert composite(battery(50), battery(50), battery(51)).soc(EPOCH) == 50.3


def test_several_smart_loads_become_one_with_the_firsts_temperature_and_mode():
    def load(power, **more):
        return member({"smart_loads": {"0": {"sl_power_w": power, **more}}})

    assert composite(load(100, temp=46.8, mode=1), load(200, temp=20, mode=2)).devices[0].values == {
        "sl_power_w": 300, "temp": 46.8, "mode": 1,
    }  # fmt: skip
    assert composite(load(100), load(200, temp=20, mode=2)).devices[0].values == {"sl_power_w": 300}


def test_the_composites_own_settings_say_what_happens_on_stale():
    assert composite(member(PLAIN), on_stale="no_surplus").on_stale == "no_surplus"
    assert composite(member(PLAIN)).on_stale == "unavailable"
