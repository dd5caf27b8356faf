"""What is the owner's alone is taken out, and what is measured stays."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pusher.redaction import Redaction, without_names

PRIVATE = {
    "wifi_ssid": "Our Network",
    "unique_id": "aabbccddeeff",
    "serialNumber": 2971,
    "note": "at 192.168.1.20 (00:1A:2b:3C:4d:5E), ask owner@example.org, fe80:0:0:1::5",
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abc",
    "external": [{"unique_id": "47303031", "value": 5, "sn": "G0012345"}],
    "00:1a:2b:3c:4d:5e": {"power": 1},
    "apikey": "k",
    "name": "Inverter ABC12345678901",
    "power": -542.5,
    "soc": 78,
    "capacity_wh": 10000,
    "ok": True,
    "when": "2026-11-22T12:00:00Z",
}


def test_what_is_private_is_removed_and_what_is_measured_stays():
    left = Redaction(["Network"]).document(PRIVATE)
    text = json.dumps(left)
    for private in (
        "Network", "aabbccddeeff", "2971", "192.168", "1A:2b", "1a:2b", "owner@", "fe80", "eyJ", "473", "G00", "ABC123",
    ):  # fmt: skip
        assert private not in text
    assert (left["power"], left["soc"], left["ok"], left["when"]) == (-542.5, 78, True, "2026-11-22T12:00:00Z")
    assert (left["capacity_wh"], left["external"][0]["value"], left["apikey"]) == (10000, 5, "removed")


def test_a_short_private_word_is_removed_where_it_is_the_whole_text():
    assert Redaction(["pw"]).document({"a": "pw", "power": "pwr"}) == {"a": "removed", "power": "pwr"}


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=12,
    ),
    word=st.text(st.characters(codec="ascii", categories=["Lu"]), min_size=4, max_size=8),
)
def test_a_private_word_is_nowhere(document, word):
    assert word not in json.dumps(Redaction([word]).document({"a": [document, f"x{word}y", {word: word}]}))


def test_names_in_registers_are_removed_and_numbers_kept():
    name = [0x4652, 0x4F4E, 0x4955, 0x5331]
    assert without_names([1, *name, 2225, 0x4142, 7]) == [1, 0, 0, 0, 0, 2225, 0x4142, 7]
    assert without_names(name, kept={1}) == name, "what is known to be a number is no name"
