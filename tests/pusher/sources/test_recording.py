"""A recording of a device replays as the device, and holds nothing of its owner."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.recording import RecordingError, record, redacted
from pusher.sources import source_module
from pusher.templates import expand
from tests.pusher.sources.replay import CATEGORY_OF, play, playing, recorded
from tests.pusher.sources.servers import http_device


async def record_played(name, case, role, folder, **more):
    async with playing(case, folder) as at:
        kind, options = expand(name, case.get("parameters", {}) | at, CATEGORY_OF[role], None)
        options = source_module(kind).Options.model_validate(options)
        return await record(kind, options, CATEGORY_OF[role], says="recorded", within_s=10, **more)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("fronius-symo", "battery"),
        ("fronius-modbus", "battery"),
        ("fronius-modbus", "energy_meter"),
        ("sungrow-hybrid", "battery"),
        ("openems", "battery"),
        ("openwb-2", "battery"),
        ("tibber-pulse", "energy_meter"),
        ("tesla-powerwall", "battery"),
    ],
)
async def test_what_was_recorded_replays_as_the_device(name, role, tmp_path):
    case = recorded(name)[0]
    made = await record_played(name, case, role, tmp_path)
    assert made["expect"] == {role: case["expect"][role]}
    again = {"parameters": case.get("parameters", {})} | json.loads(json.dumps(made, default=str), parse_int=int)
    if "modbus" in again:  # JSON has texts for keys, YAML has not
        again["modbus"] = made["modbus"]
    if "http" in again:
        again["http"] |= {key: value for key, value in case["http"].items() if key in ("tls", "posts")}
    assert await play(name, again, tmp_path) == made["expect"]


async def test_words_that_the_caller_names_are_hidden_wherever_they_stand(tmp_path):
    case = recorded("victron-mqtt")[0]
    made = await record_played("victron-mqtt", case, "battery", tmp_path, hidden=["c0619ab12345"])
    assert "c0619ab12345" not in str(made)
    assert "N/removed/system/0/Dc/Battery/Power" in made["mqtt"]
    again = made | {"parameters": {"portal_id": "removed"}}
    assert await play("victron-mqtt", again, tmp_path) == made["expect"]


PRIVATE = {
    "wifi_ssid": "Our Network",
    "unique_id": "aabbccddeeff",
    "serialNumber": 2971,
    "note": "at 192.168.1.20 (00:1A:2b:3C:4d:5E), ask ann@example.org, fe80:0:0:1::5",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abc",
    "external": [{"unique_id": "47303031", "value": 5, "sn": "G0012345"}],
    "00:1a:2b:3c:4d:5e": {"power": 1},
    "power": -542.5,
    "soc": 78,
    "ok": True,
    "when": "2026-11-22T12:00:00Z",
}


def test_what_is_private_is_removed_and_what_is_measured_stays():
    left = redacted(PRIVATE, ["Network"])
    text = json.dumps(left)
    for private in (
        "Network",
        "aabbccddeeff",
        "2971",
        "192.168",
        "1A:2b",
        "1a:2b",
        "ann@",
        "fe80",
        "eyJ",
        "473",
        "G00",
    ):
        assert private not in text
    assert (left["power"], left["soc"], left["ok"], left["when"]) == (-542.5, 78, True, "2026-11-22T12:00:00Z")
    assert left["external"][0]["value"] == 5


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    ),
    word=st.text(st.characters(codec="ascii", categories=["Lu"]), min_size=3, max_size=8),
)
def test_a_hidden_word_is_nowhere(document, word):
    assert word not in json.dumps(redacted({"a": [document, f"x{word}y", {word: word}]}, [word]))


async def test_a_device_that_cannot_be_read_is_recorded_with_its_error():
    async with http_device({"/status": {"watts": 5}}) as device:
        module = source_module("http")
        options = module.Options.model_validate({"url": f"{device.url}/status", "values": {"grid_power_w": "power"}})
        made = await record("http", options, "energy_meters", says="odd", within_s=5)
    assert made["http"] == {"answers": {"/status": {"watts": 5}}}
    assert 'nothing at path "power"' in made["error"]
    assert "expect" not in made


async def test_a_house_that_is_only_simulated_is_not_recorded():
    options = source_module("simulated").Options()
    with pytest.raises(RecordingError, match='"simulated" has no device to record'):
        await record("simulated", options, "inverters", says="", within_s=1)
