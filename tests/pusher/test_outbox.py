"""The outbox: nothing committed is lost, whatever happens to the disk, and nothing keeps it from opening."""

import json
import os
import random
import re
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher import outbox as outbox_module
from pusher import salvage as salvage_module
from pusher.clock import Offset
from pusher.outbox import Counts, Outbox, Stored
from pusher.salvage import Unstamped, readable_rows
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


def large(second):
    """A row that needs pages of its own."""
    return Unstamped(BOOT, float(second), 0.0, second, 60.0, json.dumps({"energy_meters": {}, "more": "x" * 20_000}))


def size(*rows):
    """What rows count against the bound in bytes."""
    return sum(len(it.devices) + 120 for it in rows)


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


def test_a_folder_that_it_makes_is_its_users_alone(tmp_path):
    before = os.umask(0)
    try:
        outbox(tmp_path / "state" / "outbox.db").close()
    finally:
        os.umask(before)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


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


# ---------------------------------------------------------------------- what it tells of itself


def test_an_empty_outbox_stands_at_nothing(path):
    assert Outbox(path, max_bytes=1, max_age_s=1, boot=BOOT).counts() == Counts()
    box = outbox(path)
    assert (box.trouble, box.counts(), everything(box), box.dead()) == (None, Counts(), [], [])


def test_its_folder_is_made_with_all_above_it(path):
    box = outbox(path.parent / "lib" / "nrgkick" / "outbox.db")
    assert box.trouble is None


def test_any_thread_may_call_it(path):
    box = outbox(path)
    thread = threading.Thread(target=box.add, args=[[row(1, stamp_ms=1)]])
    thread.start()
    thread.join()
    assert (powers(everything(box)), box.trouble) == ([1], None)


def test_a_row_comes_out_as_it_went_in(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=7)])
    assert everything(box) == [Stored(1, 7, 60.0, row(1).devices)]


def test_it_knows_what_it_holds_and_still_does_when_it_is_opened_again(path):
    rows = [row(1, stamp_ms=5_000), row(2, stamp_ms=3_000), row(3)]
    box = outbox(path)
    for it in rows:
        box.add([it])
    stood = Counts(rows=3, bytes=size(*rows), oldest_ms=3_000)
    assert box.counts() == stood
    box.close()
    box = outbox(path)
    assert box.counts() == stood
    box.remove(everything(box)[:1])
    assert box.counts() == Counts(rows=2, bytes=size(*rows[1:]), oldest_ms=5_000)
    box.remove(everything(box))
    assert box.counts().bytes == size(rows[2])


def test_rows_without_a_time_are_as_old_as_their_wall_clock_says(path):
    box = outbox(path)
    box.add([row(2, wall_s=1_600.5), row(1, wall_s=1_700.0)])
    assert box.counts().oldest_ms == 1_601_500 + 1_000


def test_a_closed_outbox_opens_again_for_the_next_row(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1)])
    box.close()
    assert box.batch(max_rows=1, max_bytes=1, until_ms=EVER_MS) == []
    assert box.noted_offset() is None
    box.add([row(2, stamp_ms=2)])
    assert powers(everything(box)) == [1, 2]


def test_no_row_takes_the_stamp_of_another_but_the_next_free_millisecond(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1_000), row(2, stamp_ms=1_000)])
    box.add([row(3, stamp_ms=1_000)])
    assert [(it.stamp_ms, powers([it])[0]) for it in everything(box)] == [(1_000, 1), (1_001, 2), (1_002, 3)]


def test_a_batch_takes_what_just_fits(path):
    rows = [row(second, stamp_ms=second) for second in range(1, 6)]
    box = outbox(path)
    box.add(rows)
    for count in (1, 2, 3):
        assert len(box.batch(max_rows=9, max_bytes=size(*rows[:count]), until_ms=EVER_MS)) == count
        assert len(box.batch(max_rows=9, max_bytes=size(*rows[: count + 1]) - 1, until_ms=EVER_MS)) == count
    assert powers(box.batch(max_rows=9, max_bytes=10**6, until_ms=3)) == [1, 2, 3]


def test_dead_letters_come_newest_first_and_are_bounded(path, monkeypatch):
    monkeypatch.setattr(outbox_module, "DEAD_LIMIT", 2)
    box = outbox(path)
    box.add([row(second, stamp_ms=second) for second in (1, 2, 3)])
    for number, it in enumerate(everything(box)):
        box.bury(it, [{"msg": "zu groß"}], now_s=100.0 + number)
    assert [(it.stamp_ms, it.buried_s, it.devices) for it in box.dead()] == [
        (3, 102.0, row(3).devices),
        (2, 101.0, row(2).devices),
    ]
    assert "zu groß" in box.dead()[0].errors
    assert box.counts() == Counts(dead=2, dead_at_s=102.0)


def test_the_errors_of_a_dead_letter_are_cut_at_20000_characters(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1)])
    box.bury(everything(box)[0], "x" * 30_000, now_s=7)
    assert len(box.dead()[0].errors) == 20_000


# ---------------------------------------------------------------------- its bounds


def test_one_row_too_many_costs_the_oldest_alone(path):
    rows = [row(second, stamp_ms=second) for second in range(1, 8)]
    box = outbox(path, max_bytes=size(*rows[:5]))
    box.add(rows[:5])
    assert box.counts() == Counts(rows=5, bytes=size(*rows[:5]), oldest_ms=1), "as many as there is room for"
    before_s = time.time()
    box.add(rows[5:6])
    counts = box.counts()
    assert powers(everything(box)) == [2, 3, 4, 5, 6]
    assert (counts.dropped, counts.bytes) == (1, size(*rows[1:6]))
    assert before_s <= counts.dropped_at_s <= time.time()
    box.add(rows[6:])
    assert box.counts().dropped == 2


def test_as_many_of_the_oldest_go_as_the_newest_need(path):
    rows = [row(second, stamp_ms=second) for second in range(100, 200)]
    box = outbox(path, max_bytes=size(*rows[:10]))
    box.add(rows)
    assert powers(everything(box)) == list(range(190, 200))
    assert box.counts().dropped == 90
    box.close()
    assert outbox(path).counts().bytes == size(*rows[90:])


def test_a_row_goes_when_it_is_older_than_its_age_and_not_before(path):
    box = outbox(path, max_age_s=100)
    box.add([row(1, stamp_ms=400_999), row(2, stamp_ms=401_000), row(3)])
    box.drop_older(now_ms=501_000)
    assert powers(everything(box)) == [2]
    assert box.counts().rows == 2, "one without a time has no age"
    assert box.counts().bytes == size(row(2), row(3))


def test_memory_is_bounded_while_the_disk_takes_nothing_and_what_goes_is_counted(path, monkeypatch):
    monkeypatch.setattr(outbox_module, "KEPT_IN_MEMORY", 3)
    path.mkdir()
    box = outbox(path)
    for second in range(1, 6):
        box.add([row(second, stamp_ms=second)])
        counts = box.counts()
        assert (counts.rows, counts.in_memory, counts.dropped) == (min(second, 3), min(second, 3), max(0, second - 3))
    path.rmdir()
    box.add([])
    assert powers(everything(box)) == [3, 4, 5]
    assert (box.counts().dropped, box.counts().in_memory) == (2, 0)
    box.close()
    assert outbox(path).counts().dropped == 2


# ---------------------------------------------------------------------- disks that are full, busy or not there


def fill(box):
    """Let the disk be full: SQLite may not make the file any longer."""
    [pages] = box._db.execute("pragma page_count").fetchone()
    box._db.execute(f"pragma max_page_count={pages}")


def relieve(box):
    box._db.execute("pragma max_page_count=1000000")


def interrupt(box):
    """Let the next thing that is asked of the file fail with no damage to it."""
    box._db.set_progress_handler(lambda: 1, 1)


def test_a_full_disk_says_so_keeps_rows_in_memory_and_still_gives_those_it_has(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1), row(2, stamp_ms=2), row(3, stamp_ms=3)])
    fill(box)
    box.add([large(4)])
    assert box.trouble == f"cannot write to {path}: database or disk is full"
    assert box.reports == []
    assert powers(everything(box)) == [1, 2, 3]
    assert box.counts() == Counts(
        rows=4, bytes=size(row(1), row(2), row(3)), oldest_ms=1, in_memory=1, trouble=box.trouble
    )
    relieve(box)
    box.add([])
    assert [it.stamp_ms for it in everything(box)] == [1, 2, 3, 4]
    assert box.counts() == Counts(rows=4, bytes=size(row(1), row(2), row(3), large(4)), oldest_ms=1)


def test_what_was_stored_is_not_sent_again_though_the_disk_does_not_let_go_of_it(path):
    box = outbox(path)
    box.add([row(second, stamp_ms=second * 10) for second in (1, 2, 3)])
    fill(box)
    box.add([large(40)])
    box.remove(box.batch(max_rows=1, max_bytes=1, until_ms=EVER_MS))
    assert powers(box.batch(max_rows=1, max_bytes=10**6, until_ms=EVER_MS)) == [2]
    assert powers(box.batch(max_rows=9, max_bytes=10**6, until_ms=EVER_MS)) == [2, 3]
    assert box.counts().rows == 3, "two on disk and one in memory"
    relieve(box)
    box.add([])
    assert [it.stamp_ms for it in everything(box)] == [20, 30, 40]


def test_what_a_full_disk_makes_it_drop_is_counted_with_what_was_dropped_before(path, monkeypatch):
    monkeypatch.setattr(outbox_module, "KEPT_IN_MEMORY", 1)
    box = outbox(path, max_age_s=100)
    box.add([row(1, stamp_ms=1), row(2, stamp_ms=200_000)])
    box.drop_older(now_ms=200_000)
    fill(box)
    box.add([large(3), large(4), large(5)])
    assert (box.counts().rows, box.counts().in_memory, box.counts().dropped) == (2, 1, 3)
    interrupt(box)
    assert box.counts() == Counts(rows=1, in_memory=1, trouble=f"cannot read {path}: interrupted")


def test_a_dead_letter_is_buried_once_the_disk_takes_it(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1)])
    fill(box)
    box.add([large(2)])
    box.bury(everything(box)[0], ["bad"], now_s=7)
    assert box.dead() == []
    relieve(box)
    box.add([])
    assert [it.stamp_ms for it in box.dead()] == [1]
    box.add([])
    assert len(box.dead()) == 1


FAULT = "interrupted"


@pytest.mark.parametrize(
    ("call", "doing"),
    [
        (lambda box: box.add([row(9, stamp_ms=9)]), "write to"),
        (lambda box: box.stamp(OFFSET), "write to"),
        (lambda box: box.drop_older(EVER_MS), "write to"),
        (lambda box: box.note_offset(OFFSET), "write to"),
        (lambda box: box.batch(max_rows=1, max_bytes=1, until_ms=EVER_MS), "read"),
        (lambda box: box.counts(), "read"),
    ],
    ids=["add", "stamp", "drop_older", "note_offset", "batch", "counts"],
)
def test_a_fault_that_is_no_damage_is_told_and_passes(path, call, doing):
    box = outbox(path)
    box.add([row(1, stamp_ms=1), row(2)])
    interrupt(box)
    answer = call(box)
    assert box.trouble == f"cannot {doing} {path}: {FAULT}"
    assert not answer or answer == Counts(trouble=box.trouble)
    assert box.reports == []
    assert box.counts().trouble == box.trouble
    box.add([row(3, stamp_ms=3)])
    assert box.trouble is None
    assert powers(everything(box))[:2] == [1, 3]


def test_room_that_cannot_be_made_now_is_made_later(path):
    filled(path, 200)
    box = outbox(path, max_bytes=size(row(100)))
    interrupt(box)
    box.add([])
    assert (box.trouble, box.reports) == (f"cannot write to {path}: interrupted", [])
    box.add([row(999, stamp_ms=999)])
    assert (powers(everything(box)), box.trouble, box.counts().dropped) == ([999], None, 200)


def test_what_cannot_be_asked_now_is_none_and_no_trouble(path):
    box = outbox(path)
    box.note_offset(OFFSET)
    interrupt(box)
    assert (box.dead(), box.noted_offset(), box.trouble) == ([], None, None)


def test_a_writer_beside_it_is_waited_out(path):
    box = outbox(path)
    box._db.execute("pragma busy_timeout=0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        box.add([row(1, stamp_ms=1)])
        assert box.trouble == f"cannot write to {path}: database is locked"
        assert box.counts() == Counts(rows=1, in_memory=1, trouble=box.trouble)
        other.execute("rollback")
    box.add([row(2, stamp_ms=2)])
    assert powers(everything(box)) == [1, 2]


def test_a_folder_in_its_place_is_no_damage(path):
    path.mkdir()
    box = outbox(path)
    assert box.trouble == f"cannot open {path}: unable to open database file"
    assert box.batch(max_rows=1, max_bytes=1, until_ms=EVER_MS) == []
    assert path.is_dir()


def test_a_folder_that_cannot_be_made_is_named(path):
    path.write_text("a file where a folder should be")
    assert outbox(path / "outbox.db").trouble == f"{path}: File exists"


# ---------------------------------------------------------------------- damage


def test_a_damaged_file_is_named_by_the_time_and_reported_with_what_was_saved(path):
    whole = bytearray(filled(path, 200))
    whole[whole.index(b'grid_power_w": 100}')] = 0x80
    path.write_bytes(whole)
    path.with_name("outbox.db-wal").write_bytes(b"")
    box = outbox(path)
    everything(box)
    aside = re.fullmatch(
        rf"the outbox {path} was damaged \((.+)\); it was put aside as (outbox\.db\.damaged-(\d+)), "
        r"199 rows were still readable and are kept",
        box.reports[0],
    )
    assert aside[1] != "None"
    assert path.with_name(aside[2]).exists()
    assert abs(int(aside[3]) / 1000 - time.time()) < 60


def test_a_check_that_finds_damage_says_what_it_found(path):
    whole = bytearray(filled(path))
    whole[4096 * 5 : 4096 * 6] = bytes(4096)
    path.write_bytes(whole)
    box = outbox(path)
    assert re.search(r"was damaged \((?!None\)).+\); it was put aside", box.reports[0], re.DOTALL)


def page_of(whole, text):
    return whole.index(text) // 4096 * 4096


def tear(box, path, text):
    """Damage the page that holds a text, where the running outbox must meet it."""
    whole = bytearray(path.read_bytes())
    place = page_of(whole, text)
    whole[place : place + 4096] = bytes(4096)
    path.write_bytes(whole)
    box._db.execute("pragma shrink_memory")


def test_a_log_that_someone_else_keeps_open_is_put_aside_with_its_file(path):
    """Else it would be taken for the log of the file that comes after."""
    filled(path, 200)
    box = outbox(path)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("select count(*) from rows").fetchone()
        box.add([row(200, stamp_ms=200)])
        tear(box, path, b'grid_power_w": 0}')
        assert powers(everything(box))[-1] == 200, "what only the log held is saved"
    [aside] = [it for it in path.parent.iterdir() if re.fullmatch(r"outbox\.db\.damaged-\d+", it.name)]
    assert sorted(it.name for it in path.parent.iterdir() if it.name.startswith(aside.name + "-")) == [
        aside.name + "-shm",
        aside.name + "-wal",
    ]


def test_a_disk_that_damages_all_is_not_rescued_without_end(path):
    filled(path, 200)
    box = outbox(path)
    tear(box, path, b'grid_power_w": 0}')
    assert everything(box)
    box.close()
    box.open()
    tear(box, path, b'grid_power_w": 100}')
    assert everything(box) == []
    assert re.fullmatch(rf"{path} was damaged again at once \(.*malformed\); is the disk failing\?", box.trouble)
    box.add([row(999, stamp_ms=999)])
    assert "damaged again at once" in box.trouble
    assert (box.counts().in_memory, len(box.reports)) == (1, 1)
    box._next_rescue_s = time.monotonic()
    box.add([])
    assert (powers(everything(box))[-1], box.trouble, len(box.reports)) == (999, None, 2)


def test_a_damaged_file_that_cannot_be_put_aside_is_trouble_and_rows_wait(path):
    crowded = path.with_name("x" * 240)
    crowded.write_bytes(b"no database" * 1000)
    box = outbox(crowded)
    assert re.fullmatch(
        rf"{crowded} is damaged \(.*not a database\), and a new one cannot be made: .*name too long.*", box.trouble
    )
    box.add([row(1, stamp_ms=1)])
    assert box.counts().in_memory == 1
    assert crowded.read_bytes().startswith(b"no database"), "nothing is lost of it"


def test_damage_among_the_oldest_met_while_room_is_made_leaves_a_sound_outbox(path):
    filled(path, 300)
    box = outbox(path, max_bytes=20_000)
    tear(box, path, b'grid_power_w": 0}')
    box.add([row(1_000, stamp_ms=1_000)])
    assert (box.trouble, len(box.reports)) == (None, 1)
    assert powers(everything(box))[-1] == 1_000
    assert box.counts().bytes <= 20_000


# ---------------------------------------------------------------------- what can be saved


def alter(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def saved(path):
    return [row_id for row_id, _ in readable_rows(path)]


def test_a_sound_file_gives_every_row_as_it_is(path):
    filled(path, 2)
    assert readable_rows(path) == [(1, row(0, stamp_ms=0)), (2, row(1, stamp_ms=1))]
    alter(path, "update rows set stamp_ms = null")
    assert [it.stamp_ms for _, it in readable_rows(path)] == [None, None]


def test_nothing_is_saved_where_nothing_is(path):
    outbox(path).close()
    assert readable_rows(path) == [], "never a row"
    filled(path, 3)
    alter(path, "delete from rows")
    assert readable_rows(path) == [], "all rows are gone"


@pytest.mark.parametrize("where", [".", "missing.db", "missing/outbox.db", "no\0name"])
def test_what_is_no_file_at_all_gives_nothing(tmp_path, where):
    assert readable_rows(Path(f"{tmp_path}/{where}")) == []


def test_a_row_that_makes_no_sense_is_left_behind_and_the_others_are_saved(path):
    filled(path, 9)
    alter(
        path,
        "update rows set devices = 'no json' where id = 2",
        "update rows set devices = '[1]' where id = 3",
        "update rows set devices = x'7b7d' where id = 4",
        "update rows set boot = x'00' where id = 5",
        "update rows set monotonic_s = 'soon' where id = 6",
        "update rows set wall_s = 'late' where id = 7",
        "update rows set stamp_ms = 'never' where id = 8",
    )
    assert saved(path) == [1, 9]


def test_rows_are_found_by_any_end_of_the_table_that_is_left(path):
    filled(path, 2_000)
    alter(path, "update rows set id = id + 5000000", "update sqlite_sequence set seq = 5002000 where name = 'rows'")
    with closing(sqlite3.connect(path)) as db:
        [sequence] = db.execute("select rootpage from sqlite_master where name = 'sqlite_sequence'").fetchone()
        db.execute("pragma wal_checkpoint(truncate)")
    whole = path.read_bytes()
    ends = {
        "sequence": (sequence - 1) * 4096,
        "first": page_of(whole, b'grid_power_w": 0}'),
        "last": page_of(whole, b'grid_power_w": 1999}'),
    }
    for kept in ends:
        torn = bytearray(whole)
        for name, place in ends.items():
            if name != kept:
                torn[place : place + 4096] = bytes(4096)
        path.write_bytes(torn)
        found = saved(path)
        assert len(found) > 1_900, f"only the {kept} is left"
        assert found == sorted(found)


@pytest.mark.parametrize("rubbish", ["'rubbish'", "null", "-5", "9223372036854775807", "x'00'"])
def test_a_sequence_that_makes_no_sense_costs_nothing(path, rubbish):
    filled(path, 5)
    alter(path, f"update sqlite_sequence set seq = {rubbish}")
    assert saved(path) == [1, 2, 3, 4, 5]


def test_the_greatest_id_there_can_be_is_an_id(path):
    filled(path, 1)
    alter(path, "update rows set id = 9223372036854775807")
    assert saved(path) == [9223372036854775807]


def test_a_row_that_was_left_over_from_long_ago_does_not_hide_the_others(path):
    filled(path, 3)
    alter(path, "update rows set id = id + 5000000 where id > 1")
    assert saved(path) == [1, 5_000_002, 5_000_003]


def test_salvage_ends_when_its_time_is_up(path, monkeypatch):
    filled(path, 5)
    monkeypatch.setattr(salvage_module, "SALVAGE_LIMIT_S", -1)
    assert readable_rows(path) == []


def test_a_commit_that_failed_and_came_back_from_the_log_is_there_once(path):
    """What an fsync that fails leaves behind: the row is in the file, and waits in memory all the same."""
    box = outbox(path)
    rows = [row(1, stamp_ms=1000), row(2)]
    box.add(rows)
    counts = box.counts()
    box._waiting, box._in_doubt = list(rows), True
    box.add([row(3)])
    box.stamp(OFFSET)
    assert sorted(powers(everything(box))) == [1, 2, 3]
    assert (box.counts().rows, counts.bytes) == (3, size(*rows))
    assert box.counts().bytes == size(*rows, row(3))
    box.close()


def test_a_row_that_was_moved_on_and_came_back_is_there_once(path):
    box = outbox(path)
    box.add([row(1, stamp_ms=1000), row(2, stamp_ms=1000)])
    box._waiting, box._in_doubt = [row(2, stamp_ms=1000)], True
    box.add(())
    assert sorted(powers(everything(box))) == [1, 2]
    box.close()


def test_rows_of_one_moment_that_say_different_things_are_both_kept(path):
    box = outbox(path)
    other = Unstamped(BOOT, 1.0, 0.0, 1000, 60.0, json.dumps({"energy_meters": {"0": {"grid_power_w": 7}}}))
    box.add([row(1, stamp_ms=1000)])
    box._in_doubt = True
    box.add([other])
    assert sorted(powers(everything(box))) == [1, 7]
    box.close()


def test_only_a_commit_that_failed_puts_rows_in_doubt(path):
    """Here another connection stands in for the log: it brings the row that the failed commit was to write."""
    box = outbox(path)
    box.add([row(1, stamp_ms=1000)])
    box.add([row(1, stamp_ms=1000)])
    assert powers(everything(box)) == [1, 1]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        box.add([row(2, stamp_ms=2000)])
        assert box.trouble
        words = "insert into rows(boot, monotonic_s, wall_s, stamp_ms, duration_s, devices) values (?, ?, ?, ?, ?, ?)"
        it = row(2, stamp_ms=2000)
        other.execute(words, (it.boot, it.monotonic_s, it.wall_s, it.stamp_ms, it.duration_s, it.devices))
        other.execute("commit")
    box.add(())
    assert powers(everything(box)) == [1, 1, 2]
    box.add([row(2, stamp_ms=2000)])
    assert powers(everything(box)) == [1, 1, 2, 2]
    box.close()
