"""History: means, energies, counters, gaps, repeats and the two days when clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.history import (
    ENERGIES,
    POWERS,
    RESOLUTIONS,
    Step,
    added,
    day_of,
    day_span,
    steps_of,
    totals_of,
    without,
)
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
            "smart": ("smart_loads", "sl_power_w"),
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
    held = steps([row(0, 0.0, grid0=600), row(60, 0.0, grid0=0)], "1d")
    assert held[0].import_wh == 600 * 5 / 60, "five minutes"
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


def test_a_row_that_lasts_over_several_steps_is_told_in_each_of_them():
    found = steps([row(5, 3600.0, grid0=600)], "15m")
    assert [(step.start.minute, step.grid_w, step.import_wh) for step in found] == [
        (0, 600, 100), (15, 600, 150), (30, 600, 150), (45, 600, 150), (0, 600, 50),
    ]  # fmt: skip


def test_what_lasts_beyond_the_end_counts_to_the_last_step():
    late = row(23 * 60, 7200.0, grid0=600)
    for step in ("15m", "1h", "1d"):
        found = steps([late], step)
        assert found[-1].start == END - RESOLUTIONS[step]
        assert sum(it.import_wh for it in found) == 1200
    assert [it.import_wh for it in steps([late], "1d")] == [1200]


def test_the_last_step_may_be_a_short_one():
    minute = timedelta(minutes=1)
    rows = [("pi", row(it, grid0=60)) for it in range(20)]
    found = steps_of(rows, START, START + 20 * minute, 15 * minute)
    assert [(it.start, it.import_wh) for it in found] == [(START, 15), (START + 15 * minute, 5)]


def test_a_device_that_ends_before_the_others_is_missed_no_longer():
    found = steps([row(0, inv0=60, inv1=60), row(1, inv0=60)], "1m")
    assert [step.pv_w for step in found] == [120, 60]


def test_the_days_border_is_told_in_utc():
    start, end = day_span(date(2026, 11, 22), "Europe/Vienna")
    assert (start.tzinfo, end.tzinfo) == (UTC, UTC)
    assert start.tzinfo is UTC


HYBRID = {"inv_power_ac_w": 100.0, "battery_connected": True}


def test_a_battery_on_the_ac_side_is_part_of_the_load_and_not_of_the_sun():
    [step] = steps([row(0, inv0=100, grid0=10, bat0=5)])
    assert (step.pv_w, step.load_w) == (100, 115)
    missing = steps([row(0, inv0=100, grid0=10, bat0=5), row(1, inv0=100, grid0=10), row(2, bat0=5)], "1m")
    assert [(step.pv_w, step.load_w) for step in missing] == [(100, 115), (100, None), (None, None)]


def test_the_sun_behind_a_battery_is_unknown_while_the_battery_is():
    found = steps([row(0, inv0=HYBRID, grid0=10, bat0=5), row(1, inv0=HYBRID, grid0=10), row(2, bat0=5)], "1m")
    assert [(step.pv_w, step.load_w) for step in found] == [(95, 110), (None, 110), (None, None)]
    assert steps([row(0, inv0=HYBRID, grid0=10)])[0].pv_w == 100, "no battery was ever read"


def test_neither_sun_nor_load_is_below_nothing():
    [step] = steps([row(0, inv0=-5, grid0=-10)])
    assert (step.pv_w, step.load_w, step.pv_wh, step.load_wh) == (0, 0, 0, 0)
    [step] = steps([row(0, inv0=HYBRID, bat0=300)])
    assert step.pv_w == 0


def test_every_energy_flows_one_way():
    [step] = steps([row(0, 3600.0, grid0=60, bat0=-30)], "1h")
    assert (step.import_wh, step.export_wh, step.charge_wh, step.discharge_wh) == (60, 0, 30, 0)
    [step] = steps([row(0, 3600.0, grid0=-60, bat0=30)], "1h")
    assert (step.import_wh, step.export_wh, step.charge_wh, step.discharge_wh) == (0, 60, 0, 30)


def test_a_smart_load_has_a_power():
    assert steps([row(0, smart0=1241)])[0].smart_load_w == 1241


def test_a_step_ends_with_the_last_state_of_charge_that_was_read_in_it():
    full, empty = {"bat_power_w": 0.0, "soc": 90.0}, {"bat_power_w": 0.0, "soc": 10.0}
    [step] = steps([row(0, bat0=full), row(1, bat0=empty), row(2, bat0=0), row(3, grid0=1)])
    assert step.soc == 10


def test_a_moment_that_is_all_there_was_has_every_power_and_no_energy():
    [step] = steps([row(0, 0.0, bat0=5, inv0=HYBRID, grid0=1)])
    assert (step.pv_w, step.grid_w, step.battery_w, step.load_w) == (95, 1, 5, 101)
    assert {getattr(step, name) for name in ENERGIES} == {None}
    apart = steps([row(0, 0.0, grid0=600), row(1, 0.0, grid1=0)])
    assert [step.grid_w for step in apart] == [300], "the mean of the two moments"


def test_powers_are_told_to_a_tenth_of_a_watt_and_energies_to_a_tenth_of_a_milliwatt_hour():
    [step] = steps([row(0, grid0=0), row(1, grid0=0), row(2, grid0=0.55)])
    assert (step.grid_w, step.import_wh) == (0.2, 0.0092)
    totals = totals_of([Step(start=START, pv_wh=value) for value in (0.1, 0.2, 0.00006)])
    assert totals.pv_wh == 0.3001


def test_nothing_is_never_written_with_a_minus():
    [step] = steps([row(0, grid0=-0.01)])
    assert str(step.grid_w) == "0.0"


def test_totals_are_of_what_is_known():
    totals = totals_of([Step(start=START, pv_wh=3.0), Step(start=START, pv_wh=None, load_wh=2.0)])
    assert (totals.pv_wh, totals.load_wh, totals.import_wh) == (3, 2, None)


def test_the_shares_rest_on_the_steps_in_which_both_sides_are_known():
    both = [
        Step(start=START, pv_wh=0.6, export_wh=0.2, load_wh=3.0, import_wh=1.0),
        Step(start=START, pv_wh=9.0, load_wh=9.0),
        Step(start=START, export_wh=9.0, import_wh=9.0),
    ]
    totals = totals_of(both)
    assert (totals.self_consumption, totals.self_sufficiency) == (0.6667, 0.6667)
    dark = totals_of([Step(start=START, pv_wh=0.0, export_wh=0.0, load_wh=2.0, import_wh=5.0)])
    assert (dark.self_consumption, dark.self_sufficiency) == (None, 0)


def counted(*wh, power=600, minutes=1.0, apart=1.0):
    """Energies by the minute of an inverter whose counter reads so, one row after another."""
    rows = [row(number * apart, minutes * 60, inv0=counter(it, power)) for number, it in enumerate(wh)]
    return [step.pv_wh for step in steps(rows, "1m" if apart < 60 else "1h")]


def test_a_counter_that_stands_still_says_that_nothing_was_made():
    assert counted(1000, 1000, 1000.5) == [10, 0, 0.5]


def test_a_counter_may_run_as_fast_as_the_largest_power_and_no_faster():
    assert counted(0, 1_000_000, minutes=60, apart=60) == [600, 1_000_000]
    assert counted(0, 1_000_001, minutes=60, apart=60) == [600, 600]
    assert counted(0, 16_600) == [10, 16_600]
    assert counted(0, 17_000) == [10, 10]


def test_rows_up_to_five_seconds_apart_are_told_by_their_counters():
    def second_of(gap_s):
        late = row(1 + gap_s / 60, inv0=counter(20, 600))
        return sum(it.pv_wh for it in steps([row(0, inv0=counter(0, 600)), late], "1h"))

    assert second_of(5) == 30
    assert second_of(6) == 20


def test_after_a_gap_the_counter_goes_on():
    rows = [row(minute, inv0=counter(wh, 600)) for minute, wh in ((0, 0), (30, 5000), (31, 5020))]
    assert [step.pv_wh for step in steps(rows, "1m")] == [10, 10, 20]


def test_readings_without_duration_are_told_by_their_counters_too():
    rows = [row(minute, 0.0, inv0=counter(minute * 20, 600)) for minute in range(4)]
    assert sum(step.pv_wh for step in steps(rows, "1h")) == pytest.approx(10 + 20 + 20)
    rows = [row(minute, 0.0, inv0=counter(7, 600)) for minute in range(4)]
    assert sum(step.pv_wh for step in steps(rows, "1h")) == pytest.approx(10), "it stands still"


def test_the_total_is_the_counter_that_counts_and_the_days_is_where_there_is_no_total():
    day = {"inv_power_ac_w": 600.0, "pv_energy_day_wh": 0.0}
    later = day | {"pv_energy_day_wh": 15.0}
    assert [step.pv_wh for step in steps([row(0, inv0=day), row(1, inv0=later)], "1m")] == [10, 15]
    total, both = counter(0, 600), later | {"pv_energy_total_wh": 20.0}
    assert [step.pv_wh for step in steps([row(0, inv0=day | total), row(1, inv0=both)], "1m")] == [10, 20]
    assert [step.pv_wh for step in steps([row(0, inv0=day), row(1, inv0=total)], "1m")] == [10, 10]
    assert [step.pv_wh for step in steps([row(0, inv0=total), row(1, inv0=later)], "1m")] == [10, 10]


def test_one_inverter_without_a_counter_leaves_it_to_power():
    rows = [row(minute, inv0=counter(minute * 20, 600), inv1=60) for minute in range(2)]
    assert [step.pv_wh for step in steps(rows, "1m")] == [11, 11]


def test_a_step_without_some_categories_is_without_what_follows_from_them():
    full = Step(start=START, **dict.fromkeys((*POWERS, *ENERGIES, "soc"), 1.0))
    assert without(full, []) == full
    for category, gone in (
        ("inverters", {"pv_w", "pv_wh", "load_w", "load_wh"}),
        ("energy_meters", {"grid_w", "import_wh", "export_wh", "load_w", "load_wh"}),
        ("batteries", {"battery_w", "soc", "charge_wh", "discharge_wh"}),
        ("smart_loads", {"smart_load_w"}),
    ):
        left = without(full, [category]).model_dump()
        assert {name for name, value in left.items() if value is None} == gone
        assert left["start"] == START
    assert without(full, ["inverters", "smart_loads"]).smart_load_w is None
