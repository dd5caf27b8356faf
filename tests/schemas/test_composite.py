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
