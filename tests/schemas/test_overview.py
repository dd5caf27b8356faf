"""A site as people see it: every device with its age, its pusher, and who else claims it."""

from datetime import timedelta

import pytest

from schemas.house import house_of
from schemas.overview import overview, summarise
from schemas.site import WallboxAsked
from tests.schemas.strategies import EPOCH, fold
from tests.schemas.test_merge import post

BATTERY = {"batteries": {"0": {"bat_power_w": -749, "soc": 78.2}}}
METER = {"energy_meters": {"1": {"grid_power_w": 5}}}


def seen(*posts, seconds=0.0, why=None, wallbox=None, **settings):
    site = fold(list(posts), settings)
    return overview("home", site, house_of(site), why, wallbox, EPOCH + timedelta(seconds=seconds))


def test_a_row_of_the_list_says_how_a_site_stands():
    site = fold([post(device_values=BATTERY | METER | {"load_power_w": 7})], {"name": "The barn"})
    row = summarise("barn", site, house_of(site), EPOCH)
    assert row.model_dump() == {
        "site": "barn",
        "name": "The barn",
        "status": "live",
        "updated_at": EPOCH,
        "power": {"pv_w": None, "grid_w": 5, "battery_w": -749, "load_w": 7, "smart_load_w": None},
        "soc": 78.2,
    }
    later = summarise("barn", site, house_of(site), EPOCH + timedelta(seconds=61))
    assert (later.status, later.soc, set(later.power.model_dump().values())) == ("stale", None, {None})


def test_a_site_is_its_row_and_its_settings_and_what_the_wallbox_was_told():
    asked = WallboxAsked(at=EPOCH, status=503, detail="energy meter 1 could not be read yet")
    shown = seen(post(device_values=METER), why=asked.detail, wallbox=asked, stale_after_s=90)
    assert (shown.site, shown.status, shown.power.grid_w, shown.updated_at) == ("home", "live", 5, EPOCH)
    assert shown.settings.stale_after_s == 90
    assert shown.why == asked.detail
    assert shown.wallbox == asked


def test_a_device_is_shown_with_its_age_and_its_pusher_and_its_description():
    info = {"energy_meters": {"1": {"name": "Grid", "location": 1}}}
    [device] = seen(post(device_values=METER, device_info=info), seconds=1.23456).devices
    assert device.model_dump() == {
        "category": "energy_meters",
        "index": 1,
        "name": "Grid",
        "fresh": True,
        "withdrawn": False,
        "measured_at": EPOCH,
        "age_s": 1.235,
        "pusher": "pi",
        "values": {"grid_power_w": 5},
        "info": {"name": "Grid", "location": 1},
        "conflicts": [],
    }


def test_a_device_that_is_withdrawn_keeps_its_last_values_and_is_not_fresh():
    gone = post(device_values={"energy_meters": {"1": None}}, measured_at="2026-11-22T12:00:02Z")
    [device] = seen(post(device_values=METER), gone, seconds=3).devices
    assert (device.fresh, device.withdrawn, device.values, device.age_s) == (False, True, {"grid_power_w": 5}, 3)


def test_a_device_that_was_never_read_has_no_age():
    [device] = seen(post(device_values={"batteries": {"0": None}})).devices
    assert (device.measured_at, device.age_s, device.values, device.withdrawn) == (None, None, None, True)


def test_the_house_load_has_no_index_and_no_name():
    [load] = seen(post(device_values={"load_power_w": 3})).devices
    assert (load.category, load.index, load.name) == ("load_power_w", None, None)


@pytest.mark.parametrize(("seconds", "claimed"), [(0, True), (60, True), (60.001, False)])
def test_another_pusher_that_claims_a_device_shows_as_a_conflict_while_its_word_is_fresh(seconds, claimed):
    newer = {"measured_at": "2026-11-22T12:00:30Z"}
    [device] = seen(
        post(device_values=METER), post(device_values=METER, pusher="barn-pi", **newer), seconds=seconds
    ).devices
    assert device.pusher == "barn-pi"
    assert [(it.pusher, it.measured_at) for it in device.conflicts] == ([("pi", EPOCH)] if claimed else [])


def test_conflicts_come_by_name():
    names = ["c", "a", "z", "b"]
    [device] = seen(*(post(device_values=METER, pusher=name) for name in names)).devices
    assert device.pusher == "z"
    assert [it.pusher for it in device.conflicts] == ["a", "b", "c"]
