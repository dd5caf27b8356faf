"""History: means, energies, counters, gaps, repeats and the two days when clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.history import ENERGIES, RESOLUTIONS, added, day_of, day_span, steps_of, totals_of
from schemas.messages import Row
from tests.schemas.strategies import examples

START = datetime(2026, 11, 22, tzinfo=UTC)
END = START + timedelta(days=1)


def row(minute, duration_s=60.0, **devices):
    values = {}
    for name, power in devices.items():
        kind, index = name[:-1], name[-1]
        category, key = {
            "inv": ("inverters", "inv_power_ac_w"),
            "grid": ("energy_meters", "grid_power_w"),
            "bat": ("batteries", "bat_power_w"),
        }[kind]
        values.setdefault(category, {})[index] = power if isinstance(power, dict) else {key: float(power)}
    return Row(measured_at=START + timedelta(minutes=minute), duration_s=duration_s, device_values=values)


def steps(rows, step="15m", **more):
    return steps_of([("pi", it) for it in rows], START, END, RESOLUTIONS[step], **more)


def test_means_and_energies_of_a_quarter_hour():
    (step,) = steps([row(minute, inv0=1200 if minute < 5 else 600, grid0=-300, bat0=0) for minute in range(15)])
    assert step.start == START
    assert (step.pv_w, step.grid_w, step.load_w) == (800, -300, 500)
    assert (step.pv_wh, step.export_wh, step.import_wh, step.load_wh) == (200, 75, 0, 125)
    assert step.smart_load_w is None


def test_the_documents_example_in_history():
    inverter = {"inv_power_ac_w": 2225.0, "battery_connected": True}
    (step,) = steps([row(0, 3600.0, inv0=inverter, grid0=-542, bat0={"bat_power_w": -749.0, "soc": 78.2})], "1h")
    assert (step.pv_w, step.load_w, step.soc) == (2974, 1683, 78.2)
    assert (step.pv_wh, step.charge_wh, step.discharge_wh) == (2974, 749, 0)
    totals = totals_of([step])
    assert totals.self_consumption == pytest.approx(1 - 542 / 2974, abs=1e-4)
    assert totals.self_sufficiency == 1


def test_gaps_stay_gaps():
    found = steps([row(0, grid0=600), row(45, grid0=600)], "15m")
    assert [step.start.minute for step in found] == [0, 45]
    assert [step.import_wh for step in found] == [10, 10]


def test_one_of_two_inverters_missing_is_a_gap_but_one_that_comes_later_is_not():
    missing = steps([row(0, inv0=60, inv1=60), row(1, inv0=60), row(2, inv0=60, inv1=60)], "1m")
    assert [step.pv_w for step in missing] == [120, None, 120]
    later = steps([row(0, inv0=60), row(1, inv0=60, inv1=60)], "1m")
    assert [step.pv_w for step in later] == [60, 120]


def counter(wh, power=0.0):
    return {"inv_power_ac_w": power, "pv_energy_total_wh": float(wh)}


def test_energy_comes_from_a_counter_that_runs_on():
    found = steps([row(minute, inv0=counter(1000 + 20 * minute, 600)) for minute in range(15)])
    assert found[0].pv_wh == pytest.approx(14 * 20 + 10), "the first row has no counter before it: power tells"


@pytest.mark.parametrize(("before", "after"), [(1000, 3), (4294967290, 5), (5, 4294967290)])
def test_a_counter_that_was_reset_rolled_over_or_replaced_is_seen(before, after):
    found = steps([row(0, inv0=counter(before, 600)), row(1, inv0=counter(after, 600))], "1m")
    assert [step.pv_wh for step in found] == [10, 10]


def test_a_counter_over_a_gap_does_not_fill_it():
    found = steps([row(0, inv0=counter(0, 600)), row(30, inv0=counter(5000, 600))], "1d")
    assert found[0].pv_wh == 20


def test_the_row_that_began_last_counts_and_on_a_tie_the_greater_pusher():
    overlap = steps([row(0, 120.0, grid0=600), row(1, grid0=0)], "1h")
    assert overlap[0].import_wh == 10
    tie = steps_of([("b", row(0, grid0=60)), ("a", row(0, grid0=600))], START, END, RESOLUTIONS["1h"])
    assert tie[0].grid_w == 60


def test_readings_without_duration_stand_for_what_follows_for_a_while():
    found = steps([row(0, 0.0, grid0=600), row(1, 0.0, grid0=0), row(30, 0.0, grid0=0)], "1h")
    assert found[0].import_wh == 10
    assert steps([row(0, 0.0, grid0=600)], "1h")[0].grid_w == 600


def test_a_sub_meter_is_not_the_grid():
    found = steps([row(0, grid0=60, grid1=600)], "1h", sub_meters=["energy_meters/1"])
    assert found[0].grid_w == 60


rows_of_an_hour = st.lists(
    st.builds(
        row,
        st.integers(0, 59),
        st.sampled_from([0.0, 30.0, 60.0, 90.0, 900.0]),
        grid0=st.integers(-1000, 1000),
        inv0=st.integers(0, 1000),
    ),
    max_size=12,
)


@examples(2)
@given(st.data(), rows_of_an_hour)
def test_order_and_repetition_of_rows_change_nothing(data, rows):
    unique = list({it.measured_at: it for it in rows}.values())
    again = data.draw(
        st.permutations(unique + data.draw(st.lists(st.sampled_from(unique), max_size=5)) if unique else [])
    )
    assert steps(unique, "1m") == steps(again, "1m")


@examples(2)
@given(rows_of_an_hour)
def test_every_resolution_tells_the_same_energy(rows):
    unique = list({it.measured_at: it for it in rows}.values())
    totals = [totals_of(steps(unique, resolution)) for resolution in ("1m", "15m", "1h", "1d")]
    for name in ENERGIES:
        values = [getattr(it, name) for it in totals]
        assert values[0] is None or values == pytest.approx([values[0]] * 4, abs=0.02)


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 11, 22), 24)])
def test_days_begin_in_the_sites_zone_also_when_clocks_change(day, hours):
    start, end = day_span(date(*day), "Europe/Vienna")
    assert end - start == timedelta(hours=hours)
    assert day_of(start, "Europe/Vienna") == date(*day) == day_of(end - timedelta(seconds=1), "Europe/Vienna")
    rows = [
        ("pi", Row(measured_at=start + timedelta(hours=hour), duration_s=3600.0, device_values={"load_power_w": 100.0}))
        for hour in range(hours)
    ]
    assert len(steps_of(rows, start, end, RESOLUTIONS["1h"])) == hours
    assert steps_of(rows, start, end, end - start)[0].load_wh == 100 * hours


def test_sites_are_added_where_each_that_has_a_quantity_has_it():
    one, two = steps([row(0, grid0=60), row(1, grid0=60)], "1m"), steps([row(0, grid0=6, inv0=7)], "1m")
    both = added([one, two])
    assert [(step.grid_w, step.pv_w) for step in both] == [(66, 7), (None, None)]


def test_an_instant_that_is_a_devices_last_does_not_stand_for_the_time_until_another_device_is_read():
    found = steps([row(0, 0.0, grid0=600), row(60, 0.0, inv0=5)], "1h")
    assert [(step.grid_w, step.import_wh, step.pv_w) for step in found] == [(600, None, None), (None, None, 5)]
