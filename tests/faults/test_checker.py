"""The checker can fail: each hand-made history breaks one promise, and the same history whole breaks none."""

from dataclasses import replace

import pytest

from tests.faults.checker import check
from tests.faults.history import Event, Header, History, Operation, read_history, write_history

NOON_MS = 1_795_348_800_000
"""2026-11-22T12:00:00Z."""
MINUTE_MS = 60_000


def live(at_s, value, *, pusher="pusher-0", instance=0, ms=None, answer="stored", **more):
    measured_ms = round(NOON_MS + at_s * 1000) if ms is None else ms
    defaults = {"status": 200, "server_ms": NOON_MS, "devices": {"inverters/0": [measured_ms, value]}, "answer": answer}
    return operation("live", f"{pusher}/live", instance, at_s, sent_ms=NOON_MS, **{**defaults, **more})


def readings(at_s, *rows, pusher="pusher-0", instance=0, **more):
    rows = [[NOON_MS + number * MINUTE_MS, value] for number, value in rows]
    defaults = {"status": 200, "server_ms": NOON_MS, "rows": rows, "stored": len(rows)}
    return operation("readings", f"{pusher}/rows", instance, at_s, sent_ms=NOON_MS, **{**defaults, **more})


def operation(op, client, instance, at_s, *, took_s=0.1, **more):
    return Operation(op, client, instance, at_s, at_s + took_s, round(NOON_MS + at_s * 1000), **more)


def site(at_s, value, *, instance=0, since_s=None, withdrawn=False, **more):
    seen = {} if value is None else {"inverters/0": [value, round(NOON_MS + since_s * 1000), withdrawn]}
    return operation("site", f"reader-{instance}", instance, at_s, **{"status": 200, "seen": seen, **more})


def values(at_s, value, *, instance=0, **more):
    seen = {} if value is None else {"inverters/0": value}
    return operation("values", f"reader-{instance}", instance, at_s, **{"status": 200, "seen": seen, **more})


def unavailable(at_s, *, op="values", **more):
    return operation(op, "reader-0", 0, at_s, **{"status": 503, "problem": "x", "retry_after": True, **more})


def archive(at_s, *rows, pusher="pusher-0"):
    seen = [[pusher, NOON_MS + number * MINUTE_MS, value] for number, value in rows]
    return operation("archive", "store", -1, at_s, status=200, final=True, seen=seen)


def good():
    """Two posts and two rows, all taken; both instances are well in the end."""
    return [
        live(1, 11),
        live(2, 12, instance=1),
        readings(2, (0, 60), (1, 120)),
        site(3, 11, since_s=1),
        live(11, 13),
        live(12, 14, instance=1),
        readings(12, (2, 180)),
        readings(12, (3, 240), instance=1),
        site(20, 14, since_s=12),
        site(20, 14, since_s=12, instance=1),
        *(values(20, 14, instance=instance) for instance in (0, 1)),
        *(operation("info", "reader-0", instance, 20, status=200, seen={}) for instance in (0, 1)),
        *(operation("history", "reader-0", instance, 20, status=200, span_ms=[0, 0], seen={}) for instance in (0, 1)),
        operation("days", "last", 0, 21, status=200, final=True, seen={"2026-11-22": 10.0}),
        archive(22, (0, 60), (1, 120), (2, 180), (3, 240)),
    ]


def rules(*more, without=lambda _: False, header=None, events=None):
    operations = [it for it in good() if not without(it)]
    header = header or Header(0, "contention", "firestore")
    events = [Event("fault begins", 5), Event("fault ends", 10)] if events is None else events
    return [found.rule for found in check(History(header, events, [*operations, *more]))]


def seen_last(it):
    return it.op in ("site", "values") and it.invoked_s == 20


def rows_last(it):
    return it.op == "archive"


def totals_last(it):
    return it.op == "days"


def test_a_good_history_holds():
    assert rules() == []


BAD = {
    "an acknowledged row is missing in the archive": (readings(4, (9, 600)), "lost"),
    "an acknowledged row is missing in an answer": (
        operation(
            "history", "reader-0", 0, 4, status=200, span_ms=[NOON_MS, NOON_MS + 5 * MINUTE_MS], seen={NOON_MS: 60.0}
        ),
        "lost",
    ),
    "fewer rows are counted than were sent": (readings(4, (0, 60), stored=0), "lost"),
    "a row that nobody sent": (archive(23, (0, 60), (1, 120), (2, 180), (3, 240), (4, 300)), "invented"),
    "a row lies there twice": (archive(23, (0, 60), (0, 60), (1, 120), (2, 180), (3, 240)), "twice"),
    "totals that leave a row out": (
        operation("days", "last", 1, 21, status=200, final=True, seen={"2026-11-22": 7.0}),
        "totals",
    ),
    "stored, and then missing from the instance that said so": (site(2.5, 11, since_s=1, instance=1), "went back"),
    "stored, and then missing from the other one": (site(19.5, 13, since_s=11), "went back"),
    "stored, and then unknown": (site(3, None), "missing"),
    "what was shown is shown no more": (site(21, 13, since_s=11, instance=0), "went back"),
    "the wallbox is told what was superseded": (values(20, 13, instance=1), "went back"),
    "an older post is stored over a newer one": (live(13, 9, ms=NOON_MS + 500), "went back"),
    "superseded by nothing": (live(13, 15, answer="superseded"), "lost"),
    "a value that nobody sent": (site(20, 99, since_s=12), "invented"),
    "a value with another's time": (site(21, 14, since_s=13), "invented"),
    "withdrawn by nobody": (site(21, 14, since_s=12, withdrawn=True), "invented"),
    "a number older than it may be": (values(100, 14), "stale"),
    "a fresh device is missing in what the wallbox is told": (values(21, None), "missing"),
    "the wallbox is told 503 though all is fresh and well": (unavailable(21), "unavailable"),
    "the wallbox is told nothing though all is fresh and well": (
        unavailable(21, status=None, problem="reset"),
        "unavailable",
    ),
    "the wallbox is told 503 although its devices are known": (unavailable(21, op="info"), "unavailable"),
    "an answer that the contract does not know": (live(13, 15, status=500, problem="x"), "contract"),
    "503 that does not say when to come again": (live(13, 15, status=503, problem="x"), "contract"),
    "clocks that agree are called skewed": (live(13, 15, status=422, problem="x/clock-skew"), "contract"),
    "clocks that differ are taken": (live(13, 15, server_ms=NOON_MS + 61_000), "contract"),
    "no answer although nothing was stopped": (live(13, 15, status=None, problem="reset"), "no answer"),
    "an answer after a long while": (live(13, 15, took_s=31), "slow"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_promise_is_found(name):
    bad, rule = BAD[name]
    assert rule in rules(bad)


def test_a_refused_post_must_never_be_seen():
    skewed = live(13, 15, status=422, problem="x/clock-skew", server_ms=NOON_MS + 61_000)
    assert rules(skewed) == []
    assert rules(skewed, site(21, 15, since_s=13)) == ["invented"]


def test_a_request_that_was_under_way_at_sigterm_is_answered():
    header = Header(0, "sigterm", "firestore", stops_instances=True)
    events = [Event("SIGTERM", 6.0, "1"), Event("fault ends", 10)]
    unanswered = live(5.5, 15, instance=1, took_s=1, status=None, problem="ServerDisconnectedError")
    assert rules(unanswered, header=header, events=events) == ["no answer"]
    for other in (
        replace(unanswered, instance=0),
        replace(unanswered, invoked_s=6.1),
        replace(unanswered, invoked_s=5.9),
    ):
        assert rules(other, header=header, events=events) == []


def test_a_device_that_was_described_bears_its_name():
    described = live(13, 15, described={"inverters/0": "Roof"})
    look = operation("info", "last", 1, 20, status=200, final=True, seen={"inverters/0": "Roof"})
    now_15 = [site(20, 15, since_s=13, instance=instance) for instance in (0, 1)]
    now_15 += [values(20, 15, instance=instance) for instance in (0, 1)]
    assert rules(described, look, *now_15, without=seen_last) == []
    assert rules(described, replace(look, seen={}), *now_15, without=seen_last) == ["missing"]


def test_what_was_withdrawn_is_shown_no_more():
    withdrawal = live(20.5, None)
    assert rules(withdrawal, site(21, 14, since_s=12, withdrawn=True)) == []
    assert rules(withdrawal, values(21, 14)) == ["went back"]


NONE_IS_FRESH = {
    "all are older than they may be": (unavailable(100), values(100, None)),
    "they may be by the time of the answer": (unavailable(70, took_s=4), values(70, None, took_s=4)),
    "they are withdrawn": (live(20.5, None), unavailable(21), values(21, None)),
    "they may be withdrawn, for that was not answered": (
        live(20.5, None, status=None, problem="ServerDisconnectedError"),
        unavailable(21),
        values(21, None),
    ),
}


@pytest.mark.parametrize("name", NONE_IS_FRESH)
def test_where_nothing_is_fresh_the_wallbox_is_rightly_told_nothing(name):
    header = Header(0, "crash", "firestore", stops_instances=True)
    assert rules(*NONE_IS_FRESH[name], header=header) == []


def test_without_its_grid_meter_the_wallbox_is_rightly_told_503():
    fresh_until_30_s = live(20.5, 15, devices={"energy_meters/0": [NOON_MS - 30_000, 15]})
    assert rules(fresh_until_30_s, unavailable(21)) == ["unavailable"]
    assert rules(fresh_until_30_s, values(21, 14)) == ["missing"]
    assert rules(fresh_until_30_s, unavailable(31)) == []


def test_the_wallbox_may_be_told_503_until_all_is_at_rest():
    for lived_through in (unavailable(6), unavailable(19.5), unavailable(20.2)):
        hangs = operation("sites", "reader-1", 1, 9, took_s=11.5, status=200)
        assert rules(lived_through, hangs) == []


@pytest.mark.parametrize("op", ["values", "info", "site", "history", "live", "readings"])
def test_whatever_does_not_come_back_is_found(op):
    found = rules(without=lambda it: it.op == op and it.instance == 1 and it.invoked_s >= 10)
    assert "recovery" in found


def test_what_was_not_answered_may_have_happened_or_not():
    lost = live(13, 15, status=503, problem="x", retry_after=True)
    row = readings(13, (7, 420), status=503, problem="x", retry_after=True)
    assert rules(lost, row) == []
    assert rules(lost, row, site(21, 15, since_s=13, instance=1)) == []


def test_a_row_may_be_replaced_but_not_by_what_was_there_before():
    again = replace(readings(14, (3, 300), instance=1))
    ends = archive(23, (0, 60), (1, 120), (2, 180), (3, 300))
    whole = operation("days", "last", 0, 24, status=200, final=True, seen={"2026-11-22": 11.0})
    assert rules(again, ends, whole, without=lambda it: rows_last(it) or totals_last(it)) == []
    assert "invented" in rules(again, without=totals_last)


def test_the_other_instance_may_lag_by_a_copys_second_and_a_call():
    assert rules(site(13, 13, since_s=11)) == []
    assert rules(site(13, 13, since_s=11, final=True)) == ["went back"]


def test_a_service_that_does_not_come_back_is_found():
    assert rules(events=[Event("fault ends", 11.5)]) == ["recovery"], "live at instance 0"
    assert rules(events=[]) == ["recovery"]


def test_what_the_store_forgets_by_design_is_not_held_against_the_service():
    header = Header(0, "wipe", "firestore", loses_data=True)
    events = [Event("fault begins", 5), Event("data lost", 10), Event("fault ends", 10)]
    ends = archive(22, (2, 180), (3, 240))
    whole = operation("days", "last", 0, 21, status=200, final=True, seen={"2026-11-22": 7.0})

    def last(it):
        return rows_last(it) or totals_last(it)

    assert rules(ends, whole, without=last, header=header, events=events) == []
    assert "lost" in rules(archive(22, (2, 180)), whole, without=last, header=header, events=events)


def test_a_history_is_the_same_after_it_was_kept(tmp_path):
    path = tmp_path / "history.jsonl"
    look = BAD["an acknowledged row is missing in an answer"][0]
    history = History(Header(7, "cut", "firestore"), [Event("fault ends", 10)], [*good(), look])
    write_history(history, path)
    kept = read_history(path)
    assert kept.header == history.header
    assert sorted(map(repr, kept.operations)) == sorted(map(repr, history.operations))
    assert check(kept) == check(replace(history, operations=kept.operations))


@pytest.mark.parametrize(("text", "place"), [("", ":1:"), ("{}", ":1:"), ("rubbish", ":1:"), ("[]", ":1:")])
def test_what_is_no_history_is_named(tmp_path, text, place):
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}{place} this is no history"):
        read_history(path)


def test_a_torn_line_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    write_history(History(Header(1, "cut", "firestore")), path)
    path.write_text(path.read_text() + '{"op": "li')
    with pytest.raises(ValueError, match=f"{path}:2: "):
        read_history(path)
