"""Merge: any order and any repetition of the same posts gives the same state, and the state is what the rules say."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import flat
from schemas.house import house_of, stands
from schemas.merge import PUSHER_LIMIT, ClockSkew, TooManyPushers, canonical, check_clock, check_post, is_ahead, merge
from schemas.messages import LivePost
from schemas.site import Site
from tests.schemas.strategies import EPOCH, examples, fold, posts


@examples(3)
@given(st.data())
def test_any_order_and_any_repetition_gives_the_same_state(data):
    given_posts = data.draw(st.lists(posts(), min_size=1, max_size=7))
    shuffled = data.draw(st.permutations(given_posts + data.draw(st.lists(st.sampled_from(given_posts), max_size=5))))
    assert fold(given_posts).model_dump() == fold(shuffled).model_dump()
    assert house_of(fold(given_posts)) == house_of(fold(shuffled))


@examples(2)
@given(st.lists(posts(), max_size=6))
def test_a_state_survives_its_store(sequence):
    site = fold(sequence)
    assert Site.model_validate_json(site.model_dump_json(exclude_defaults=True)) == site


def by_the_words(sequence):
    """The rules of design section 3.2 and 5 spelled out over the set of posts: device -> (time, pusher, values)."""
    newest_info = {}
    for post in sequence:
        if post.device_info is not None:
            listed = set(flat(post.device_info)) | set(flat(post.device_values))
            words = json.dumps(post.device_info.model_dump(exclude_none=True, exclude_defaults=True), sort_keys=True)
            rank = (post.measured_at, words, sorted(listed))
            newest_info[post.pusher] = max(newest_info.get(post.pusher, rank), rank)
    winners = {}
    for post in sequence:
        times = flat(post.measured) if post.measured else {}
        for device, values in flat(post.device_values).items():
            time = times.get(device) or post.measured_at
            info = newest_info.get(post.pusher)
            if device != "load_power_w" and info and device not in info[2] and time < info[0]:
                continue
            plain = values["load_power_w"] if device == "load_power_w" and values else values
            rank = (time, post.pusher, json.dumps(plain, sort_keys=True, separators=(",", ":")))
            winners[device] = max(winners.get(device, rank), rank)
    return winners


@examples(4)
@given(st.lists(posts(), max_size=6))
def test_the_newest_word_holds_for_each_device(sequence):
    house = house_of(fold(sequence))
    winners = by_the_words(sequence)
    assert {device.key for device in house.devices} == set(winners)
    for device in house.devices:
        time, pusher, word = winners[device.key]
        assert device.pusher == pusher
        if word == "null":
            assert device.withdrawn_at == time
            assert not device.fresh(EPOCH)
        else:
            assert device.measured_at == time
            plain = device.values["load_power_w"] if device.key == "load_power_w" else device.values
            assert json.dumps(plain, sort_keys=True, separators=(",", ":")) == word
            assert device.fresh(time + timedelta(seconds=60))
            assert not device.fresh(time + timedelta(seconds=60.001))


@examples(2)
@given(st.lists(posts(), max_size=5), posts())
def test_a_post_that_is_superseded_changes_nothing_that_is_seen(sequence, post):
    before = fold(sequence)
    after = merge(before, post, EPOCH)
    if not stands(after, post):
        assert visible(after) == visible(before)


def visible(site):
    return [
        (device.key, device.withdrawn_at or (device.values, device.measured_at)) for device in house_of(site).devices
    ]


def post(**more):
    return LivePost.model_validate_json(
        json.dumps(
            {
                "pusher": "pi",
                "sent_at": "2026-11-22T12:00:00Z",
                "measured_at": "2026-11-22T12:00:00Z",
                "device_values": {},
                **more,
            }
        )
    )


def test_a_device_that_its_pusher_no_longer_lists_is_forgotten_and_its_older_values_are_ignored():
    two = post(device_values={"inverters": {"0": {"inv_power_ac_w": 1}, "1": {"inv_power_ac_w": 2}}, "load_power_w": 3})
    one = post(measured_at="2026-11-22T12:00:05Z", device_info={"inverters": {"0": {}}})
    late = post(measured_at="2026-11-22T12:00:04Z", device_values={"inverters": {"1": {"inv_power_ac_w": 9}}})
    back = post(measured_at="2026-11-22T12:00:06Z", device_values={"inverters": {"1": {"inv_power_ac_w": 7}}})
    keys = [device.key for device in house_of(fold([two, one, late])).devices]
    assert keys == ["inverters/0", "load_power_w"]
    assert [device.key for device in house_of(fold([two, one, late, back])).devices][1] == "inverters/1"


def test_ties_are_broken_by_json_with_its_keys_in_order_no_blanks_and_the_load_a_bare_number():
    assert canonical({"soc": 78.2, "bat_power_w": -749, "mode": "ä"}) == '{"bat_power_w":-749,"mode":"ä","soc":78.2}'
    assert canonical({"load_power_w": 1683}) == "1683"
    assert canonical({"load_power_w": 1, "more": 2}) == '{"load_power_w":1,"more":2}'
    assert (canonical(None), canonical({})) == ("null", "{}")
    given, withdrawn = post(device_values={"load_power_w": 5}), post(device_values={"load_power_w": None})
    assert not house_of(fold([given, withdrawn])).devices[0].fresh(EPOCH), "at the same moment it was withdrawn"


def test_of_two_descriptions_of_the_same_moment_the_greater_json_holds_in_either_order():
    one, other = (
        post(device_info={"energy_meters": {"0": {"name": name}}}, device_values=values)
        for name, values in (("A", METER | {"load_power_w": 1}), ("B", METER))
    )
    for sequence in ([one, other], [other, one]):
        assert house_of(fold(sequence)).info == {"energy_meters/0": {"name": "B"}}


def test_a_forgotten_device_that_is_withdrawn_later_has_none_of_its_older_values():
    read = post(device_values={"inverters": {"1": {"inv_power_ac_w": 9}}})
    left_out = post(measured_at="2026-11-22T12:00:05Z", device_info={"inverters": {"0": {}}})
    withdrawn = post(measured_at="2026-11-22T12:00:06Z", device_values={"inverters": {"1": None}})
    [device] = house_of(fold([read, left_out, withdrawn])).devices
    assert (device.values, device.measured_at, device.claimed) == (None, None, {})
    assert device.withdrawn_at == EPOCH + timedelta(seconds=6)


def test_each_pusher_that_reads_a_device_claims_it_and_the_last_values_are_the_newest():
    one = post(pusher="a", measured_at="2026-11-22T12:00:02Z", device_values=METER)
    other = post(pusher="b", device_values={"energy_meters": {"0": {"grid_power_w": 7}}})
    gone = post(pusher="b", measured_at="2026-11-22T12:00:03Z", device_values=GONE)
    [device] = house_of(fold([one, other, gone])).devices
    assert (device.pusher, device.values) == ("b", {"grid_power_w": 1})
    assert device.claimed == {"a": EPOCH + timedelta(seconds=2), "b": EPOCH}


def test_clocks_that_are_off_are_refused_and_nothing_is_corrected():
    for seconds in (-60, 0, 60):
        check_clock(EPOCH + timedelta(seconds=seconds), EPOCH)
    for seconds in (-60.001, 60.001, 3600):
        with pytest.raises(ClockSkew):
            check_clock(EPOCH + timedelta(seconds=seconds), EPOCH)
    with pytest.raises(ClockSkew, match="measured_at"):
        check_post(post(measured_at="2026-11-22T12:01:01Z"), EPOCH)
    check_post(post(measured_at="2020-01-01T00:00:00Z"), EPOCH)


@pytest.mark.parametrize(
    ("seconds", "how"), [(-61, "61 s behind"), (61, "61 s ahead of"), (3600, "3600 s ahead of"), (-90.4, "90 s behind")]
)
def test_a_clock_that_is_off_is_told_by_how_much_and_what_to_do(seconds, how):
    with pytest.raises(ClockSkew) as refused:
        check_clock(EPOCH + timedelta(seconds=seconds), EPOCH)
    assert refused.value.loc == "sent_at"
    assert str(refused.value) == (
        f"the sender's clock is {how} the server's (2026-11-22T12:00:00Z); set it, for example with NTP, and send again"
    )


def test_every_time_of_a_post_is_looked_at_and_the_one_that_is_ahead_is_named():
    values = {"inverters": {"0": {"inv_power_ac_w": 1}}, "load_power_w": 2}

    def measured(**times):
        return post(device_values=values, measured=times)

    check_post(post(device_values=values, measured_at="2026-11-22T12:01:00Z"), EPOCH)
    check_post(measured(inverters={"0": "2026-11-22T12:01:00Z"}, load_power_w="2020-01-01T00:00:00Z"), EPOCH)
    for late, loc in (
        (post(measured_at="2026-11-22T12:01:02Z"), "measured_at"),
        (
            post(device_values=values, measured_at="2026-11-22T12:01:02Z", measured={"inverters": {}}),
            "measured_at",
        ),
        (measured(inverters={"0": "2026-11-22T12:01:02Z"}), "measured/inverters/0"),
        (measured(load_power_w="2026-11-22T12:01:02Z"), "measured/load_power_w"),
    ):
        with pytest.raises(ClockSkew) as refused:
            check_post(late, EPOCH)
        assert refused.value.loc == loc
        assert str(refused.value) == f"{loc} is 62 s ahead of the server's time"
    with pytest.raises(ClockSkew, match="sender's clock"):
        check_post(post(sent_at="2026-11-22T12:01:02Z"), EPOCH)


def test_a_readings_time_may_be_a_minute_ahead():
    assert not is_ahead(EPOCH + timedelta(seconds=60), EPOCH)
    assert is_ahead(EPOCH + timedelta(seconds=60, microseconds=1), EPOCH)


METER = {"energy_meters": {"0": {"grid_power_w": 1}}}
GONE = {"energy_meters": {"0": None}}
DESCRIBED = {"device_info": {"energy_meters": {"0": {"name": "Grid"}}}}


def at(second, values=METER, **more):
    return post(device_values=values, measured_at=f"2026-11-22T12:00:{second:02}Z", **more)


@pytest.mark.parametrize(
    ("before", "last", "stood"),
    [
        ([], at(5), True),
        ([at(5)], at(5), True),
        ([at(6)], at(5), False),
        ([at(5)], at(5, {"energy_meters": {"0": {"grid_power_w": 2}}}), True),
        ([at(5, {"energy_meters": {"0": {"grid_power_w": 2}}})], at(5), False),
        ([at(5, pusher="the-winner")], at(5), False),
        ([at(6, pusher="a")], at(5), False),
        ([at(5)], at(6, GONE), True),
        ([at(6)], at(5, GONE), False),
        ([at(6, GONE)], at(5), False),
        ([at(5, GONE), at(6)], at(5, GONE), False),
        ([at(6, GONE)], at(6, GONE), True),
        ([at(6)], at(5, METER | {"load_power_w": 3}), True),
        ([at(5, pusher="the-winner")], at(5, METER | {"load_power_w": 3}), True),
        ([at(6)], at(5, measured={"energy_meters": {"0": "2026-11-22T12:00:07Z"}}), True),
        ([at(6)], at(7, measured={"energy_meters": {"0": "2026-11-22T12:00:05Z"}}), False),
        ([at(5)], post(), True),
        ([], at(5, {}, **DESCRIBED), True),
        ([at(6, {}, **DESCRIBED)], at(5, {}, **DESCRIBED), False),
        ([at(6, **DESCRIBED)], at(5, **DESCRIBED), False),
        ([at(6)], at(5, **DESCRIBED), True),
        ([at(6, {}, device_info={})], at(5), False),
    ],
)
def test_a_post_stands_if_anything_that_it_gives_holds(before, last, stood):
    site = fold([*before, last])
    assert stands(site, last) is stood


def test_a_site_was_heard_of_when_its_last_post_came_and_lives_again_with_it():
    site = merge(Site(deleted=True), post(), EPOCH)
    assert (site.heard_at, site.deleted) == (EPOCH, False)
    assert merge(site, post(), EPOCH + timedelta(seconds=1)).heard_at == EPOCH + timedelta(seconds=1)
    assert merge(site, post(), EPOCH - timedelta(seconds=1)).heard_at == EPOCH


def test_a_site_remembers_a_bounded_number_of_pushers():
    site = fold([post(pusher=f"pi-{number}") for number in range(PUSHER_LIMIT)])
    merge(site, post(pusher="pi-0"), EPOCH)
    with pytest.raises(TooManyPushers) as refused:
        merge(site, post(pusher="one-more"), EPOCH)
    assert str(refused.value) == (
        "this site knows 32 pushers already; give the pusher one of their names, or remove one that is gone with "
        "`nrgkick-cloud sites forget`"
    )
