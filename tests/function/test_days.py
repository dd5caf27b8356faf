"""Totals of a finished day rest on all rows acknowledged, whoever was faster and whichever clock was ahead."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from function.stores import Contended, open_store
from schemas.messages import Row
from schemas.times import format_time
from tests.function.conftest import serving

DAY = datetime(2026, 11, 20, tzinfo=UTC)


def row(at):
    return Row.model_validate({"measured_at": at, "duration_s": 60, "device_values": {"load_power_w": 60}})


async def test_rows_for_a_day_that_is_due_already_keep_it_from_being_totalled_without_them(store):
    day = DAY.date()
    await store.append("home", "barn-pi", [row(DAY)], [day])
    seen = (await store.days("home", day, day))[day]
    await store.append("home", "barn-pi", [row(DAY + timedelta(minutes=1))], [day])
    with pytest.raises(Contended):
        await store.finish_day("home", day, "{}", seen.version, [], DAY)
    assert (await store.days("home", day, day))[day].due


async def test_a_day_is_not_totalled_for_good_while_another_clock_may_still_be_in_it(store_address):
    store, other_store = open_store(store_address), open_store(store_address)
    async with serving(store) as ahead, serving(other_store) as behind:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        ahead.ahead = midnight + timedelta(seconds=50) - datetime.now(UTC)
        behind.ahead = midnight - timedelta(seconds=50) - datetime.now(UTC)
        start = midnight - timedelta(days=1)
        days = f"/api/v1/sites/home/history?resolution=1d&from={format_time(start)}&to={format_time(midnight)}"
        token, read = behind.token(), behind.token(scope="read")
        for minutes in (3, 2):
            at = format_time(midnight - timedelta(minutes=minutes))
            late = {"measured_at": at, "duration_s": 60, "device_values": {"load_power_w": 60}}
            assert (await behind.call("POST", "/api/v1/readings", token, behind.readings(late)))[0] == 200
            _, answer, _ = await ahead.call("GET", days, read)
        assert answer["totals"]["load_wh"] == 2
    await store.close()
    await other_store.close()


async def test_a_day_whose_totals_cannot_be_kept_is_told_all_the_same_and_kept_later(tmp_path, capsys):
    path = tmp_path / "cloud.db"
    store = open_store(f"sqlite:{path}")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=2)
    days = f"/api/v1/sites/home/history?resolution=1d&from={format_time(start)}&to={format_time(midnight)}"
    async with serving(store) as server:
        token, read = server.token(), server.token(scope="read")
        late = {"measured_at": format_time(start), "duration_s": 60, "device_values": {"load_power_w": 60}}
        refuses = "CREATE TRIGGER refuses BEFORE {} ON days WHEN NEW.due = 0 BEGIN SELECT RAISE(ABORT, 'no'); END"
        with sqlite3.connect(path) as db:
            assert (await server.call("POST", "/api/v1/readings", token, server.readings(late)))[0] == 200
            db.execute(refuses.format("UPDATE"))
            db.commit()
            for _ in range(2):
                status, answer, _ = await server.call("GET", days, read)
                assert (status, answer["totals"]["load_wh"]) == (200, 1)
            assert "are made later" in capsys.readouterr().err
            (record,) = (await store.days("home", start.date(), start.date())).values()
            assert record.due
            db.execute("DROP TRIGGER refuses")
            db.commit()
            assert (await server.call("GET", days, read))[0] == 200
        (record,) = (await store.days("home", start.date(), start.date())).values()
        assert (record.due, bool(record.totals)) == (False, True)
    await store.close()
