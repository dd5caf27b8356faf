"""The outbox: nothing committed is lost, whatever happens to the disk, and nothing keeps it from opening."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher.clock import Offset
from pusher.outbox import Outbox
from pusher.salvage import Unstamped
from tests.schemas.strategies import examples

BOOT = "this-boot"
OFFSET = Offset(1_700_000_000.0, 0.01, 0)
EVER_MS = 10**15


def row(second, boot=BOOT, stamp_ms=None, wall_s=1_600_000_000.0):
    devices = json.dumps({"energy_meters": {"0": {"grid_power_w": second}}})
    return Unstamped(boot, float(second), wall_s + second, stamp_ms, 60.0, devices)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


def outbox(path, **bounds):
    opened = Outbox(path, **{"max_bytes": 10**8, "max_age_s": 30 * 86400, "boot": BOOT, **bounds})
    opened.open()
    return opened


def powers(rows):
    return [json.loads(row.devices)["energy_meters"]["0"]["grid_power_w"] for row in rows]


def everything(box):
    return box.batch(max_rows=10**6, max_bytes=10**9, until_ms=EVER_MS)


def test_rows_come_out_in_order_and_stay_until_they_are_removed(path):
    box = outbox(path)
    box.add([row(1), row(2), row(3)])
    box.stamp(OFFSET)
    assert powers(everything(box)) == [1, 2, 3]
    box.remove(everything(box)[:1])
    box.close()
    assert powers(everything(outbox(path))) == [2, 3]


def test_a_row_without_a_time_is_not_sent(path):
    box = outbox(path)
    box.add([row(1)])
    assert everything(box) == []
    assert box.counts().rows == 1


def test_rows_of_this_boot_are_stamped_by_the_offset_and_those_of_an_earlier_one_by_their_wall_clock(path):
    box = outbox(path)
    box.add([row(1, boot="an earlier one"), row(2)])
    box.stamp(OFFSET)
    assert [found.stamp_ms for found in everything(box)] == [1_600_000_001_000, 1_700_000_002_000]


def test_a_stamp_once_given_does_not_change(path):
    box = outbox(path)
    box.add([row(1)])
    box.stamp(OFFSET)
    box.stamp(Offset(1_800_000_000.0, 0.001, 5))
    assert everything(box)[0].stamp_ms == 1_700_000_001_000


def test_no_two_rows_share_a_stamp(path):
    box = outbox(path)
    box.add([row(1, boot="a", wall_s=5.0), row(1, boot="b", wall_s=5.0), row(9, stamp_ms=6_000)])
    box.stamp(OFFSET)
    stamps = [found.stamp_ms for found in everything(box)]
    assert len(set(stamps)) == 3


def test_a_row_whose_time_has_not_come_waits(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1_000), row(2, stamp_ms=9_000)])
    assert powers(box.batch(max_rows=10, max_bytes=10**6, until_ms=5_000)) == [1]


def test_a_batch_is_bounded_by_rows_and_by_bytes_but_holds_one_at_least(path):
    box = outbox(path)
    box.add([row(second, stamp_ms=second) for second in range(50)])
    assert len(box.batch(max_rows=7, max_bytes=10**6, until_ms=EVER_MS)) == 7
    assert len(box.batch(max_rows=50, max_bytes=1, until_ms=EVER_MS)) == 1
    assert 1 < len(box.batch(max_rows=50, max_bytes=2_000, until_ms=EVER_MS)) < 20


def test_beyond_its_bytes_the_oldest_go_first_and_are_counted(path):
    box = outbox(path, max_bytes=20_000)
    for second in range(300):
        box.add([row(second, stamp_ms=second)])
    counts = box.counts()
    assert counts.bytes <= 20_000
    assert counts.rows + counts.dropped == 300
    assert powers(everything(box))[-1] == 299
    box.close()
    assert outbox(path).counts().dropped == counts.dropped


def test_beyond_its_age_a_row_goes_and_is_counted(path):
    box = outbox(path, max_age_s=100)
    box.add([row(1, stamp_ms=1_000), row(2, stamp_ms=500_000)])
    box.drop_older(now_ms=501_000)
    assert powers(everything(box)) == [2]
    assert box.counts().dropped == 1


def test_a_refused_row_is_kept_as_a_dead_letter_with_its_errors(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1), row(2, stamp_ms=2)])
    box.bury(everything(box)[0], [{"loc": ["x"], "msg": "too high"}], now_s=7)
    assert powers(everything(box)) == [2]
    [dead] = box.dead()
    assert json.loads(dead.errors)[0]["msg"] == "too high"
    assert box.counts().dead == 1


def test_the_offset_survives_a_restart_but_not_a_reboot(path):
    box = outbox(path)
    box.note_offset(OFFSET)
    box.close()
    assert outbox(path).noted_offset() == OFFSET
    assert outbox(path, boot="the next").noted_offset() is None


def filled(path, count=2_000):
    box = outbox(path)
    box.add([row(second, stamp_ms=second) for second in range(count)])
    box.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"not a database at all" * 500, random.Random(1).randbytes(50_000)],
    ids=["nothing", "text", "noise"],
)
def test_rubbish_is_put_aside_and_reported_and_rows_go_on(path, rubbish):
    path.write_bytes(rubbish)
    box = outbox(path)
    box.add([row(1, stamp_ms=1)])
    assert powers(everything(box)) == [1]
    assert box.trouble is None
    if rubbish:
        assert "put aside" in box.reports[0]
        assert [p for p in path.parent.iterdir() if "damaged" in p.name]


def test_a_torn_page_costs_only_its_own_rows(path):
    whole = bytearray(filled(path))
    torn = len(whole) // 2 // 4096 * 4096
    whole[torn : torn + 4096] = random.Random(2).randbytes(4096)
    path.write_bytes(whole)
    box = outbox(path)
    kept = powers(everything(box))
    assert len(kept) > 1_900
    assert kept[0] == 0
    assert kept[-1] == 1_999


def test_a_truncated_file_gives_what_is_left_of_it(path):
    whole = filled(path)
    path.write_bytes(whole[: len(whole) * 2 // 3 // 4096 * 4096])
    kept = powers(everything(outbox(path)))
    assert len(kept) > 500
    assert kept[0] == 0


@settings(examples(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_damaged_it_opens_and_takes_rows(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "outbox.db"
    whole = bytearray(filled(path, 200))
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(whole) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=64))
        whole[position : position + len(noise)] = noise
    path.write_bytes(whole)
    box = outbox(path)
    box.add([row(10_000, stamp_ms=10**9)])
    assert row(10_000).devices in [found.devices for found in everything(box)]
    box.close()


def test_text_that_is_none_any_more_is_met_when_it_is_read(path):
    whole = bytearray(filled(path, 200))
    whole[whole.index(b'grid_power_w": 100}')] = 0x80
    path.write_bytes(whole)
    box = outbox(path)
    kept = powers(everything(box))
    assert set(kept) == set(range(200)) - {100}
    assert "199 rows were still readable" in box.reports[0]


def test_a_disk_that_takes_nothing_leaves_rows_in_memory_until_it_does(path):
    path.parent.joinpath("in-the-way").write_text("a file where a folder should be")
    blocked = path.parent / "in-the-way" / "outbox.db"
    box = outbox(blocked)
    box.add([row(1, stamp_ms=1)])
    assert "in-the-way" in box.trouble
    assert box.counts().in_memory == 1
    blocked.parent.unlink()
    box.add([row(2, stamp_ms=2)])
    assert box.trouble is None
    assert powers(everything(box)) == [1, 2]


def test_damage_that_shows_while_it_runs_is_met_alike(path):
    box = outbox(path)
    box.add([row(second, stamp_ms=second) for second in range(200)])
    box.close()
    box = outbox(path)
    whole = bytearray(path.read_bytes())
    whole[4096:] = random.Random(3).randbytes(len(whole) - 4096)
    path.write_bytes(whole)
    for second in range(200, 260):
        box.add([row(second, stamp_ms=second)])
    box.close()
    again = outbox(path)
    assert powers(everything(again))[-1] == 259
    assert again.trouble is None
