"""The configuration: read as a whole, every mistake named at once with its line, no secret in any of them."""

import textwrap

import pytest

from pusher.config import size_bytes
from pusher.config_file import load_config
from pusher.yaml_lines import Mistakes

SECRET = "eyJ-very-secret"
GOOD = """\
cloud: {url: "https://nrgkick-abc.a.run.app", token: "${NRGKICK_TOKEN}"}
pusher: barn-pi
devices:
  - energy_meter: 0
    every: 2s
    timeout: 1s
    info: {name: Grid, location: 1}
    simulated: {}
  - load: true
    simulated: {}
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "pusher.yaml"
        path.write_text(textwrap.dedent(text))
        return load_config(path, {"NRGKICK_TOKEN": SECRET, "EMPTY": ""})

    return read


def mistakes(read, text):
    with pytest.raises(Mistakes) as caught:
        read(text)
    assert SECRET not in str(caught.value)
    return str(caught.value).splitlines()


def test_what_is_left_out_has_the_documented_default(read):
    config = read(GOOD)
    assert config.cloud.read_token() == SECRET
    assert (str(config.state_dir), str(config.socket_path)) == (
        "/var/lib/nrgkick-pusher",
        "/run/nrgkick-pusher/pusher.sock",
    )
    assert (config.live.dead_band_w, config.live.heartbeat) == (20, 20)
    assert (config.archive.every, config.archive.send_every) == (60, 300)
    assert (config.archive.max_bytes, config.archive.max_age) == (100_000_000, 30 * 86400)
    assert config.tick_s == 2
    assert [(device.key, device.title, device.every_s) for device in config.devices] == [
        ("energy_meters/0", "Grid", 2),
        ("load_power_w", "house load", 5),
    ]


def test_every_mistake_is_named_at_once_with_its_line(read):
    found = mistakes(
        read,
        """\
        cloud: {url: "http://nrgkick-abc.a.run.app", tokn: x}
        live: {dead_band: 20}
        archive: {every: 20m}
        devices:
          - energy_meter: 0
            intervall: 5s
            info: {nam: Roof}
            simulated: {}
          - energy_meter: 0
            evry: 5s
            simulated: {}
          - battery: 1
            simulated: {}
          - inverter: 0
            http: {url: "http://1.2.3.4/", values: {grid_power_w: x}}
        """,
    )
    text = "\n".join(found)
    for line, said in [
        (1, "loopback only"),
        (1, 'unknown key "tokn" in cloud; did you mean "token"?'),
        (2, 'unknown key "dead_band" in live; did you mean "dead_band_w"?'),
        (3, "archive.every: at most 15m"),
        (6, 'unknown key "intervall"'),
        (7, 'did you mean "name"?'),
        (9, "energy meter 0 is there twice, first in line 5"),
        (10, 'unknown key "evry" in energy meter 0; did you mean "every"?'),
        (12, "the index of battery is 0"),
        (15, '"grid_power_w" is not a value of inverters'),
    ]:
        assert any(one.startswith(f"pusher.yaml:{line}: ") and said in one for one in found), f"{line} {said}: {text}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "pusher.yaml:1: a configuration begins with"),
        ("cloud: [", "not YAML"),
        ("cloud: {url: a, url: b}", "duplicate key"),
        (GOOD.replace("NRGKICK_TOKEN", "NOT_SET"), "the environment variable NOT_SET is not set"),
        (GOOD.replace("NRGKICK_TOKEN", "EMPTY"), '"token" is empty'),
        (
            GOOD.replace('token: "${NRGKICK_TOKEN}"', "token_file: /none/there"),
            "token_file cannot be read: No such",
        ),
        (GOOD.replace('token: "${NRGKICK_TOKEN}"', ""), 'give exactly one of "token_file" and "token"'),
        (GOOD.replace("every: 2s", "every: 2"), 'write "2s" if seconds are meant'),
        (GOOD.replace("load: true", "load: 0"), 'written "load: true"'),
        (GOOD.replace("load: true", "inverter: 5"), "the index of inverter is 0 to 4"),
        (GOOD.replace("load: true", "inverter: 1\n    battery: 0"), "exactly one of"),
        (GOOD.replace("load: true", "info: {}"), "exactly one of"),
        (GOOD.replace("barn-pi", "Barn Pi"), "pusher.yaml:2: pusher:"),
        (GOOD + "    http: {}\n", "says how a device is read; here: simulated and http"),
        (GOOD + "    info: {name: House}\n", "the house load has no info"),
        (GOOD.replace("devices:", "devices: []\nx:"), "pusher.yaml:3: devices"),
    ],
)
def test_a_mistake_says_what_and_where(read, text, said):
    found = mistakes(read, text)
    assert any(said in one for one in found), found


def test_plain_http_is_for_loopback_only(read):
    for good in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"):
        assert read(GOOD.replace("https://nrgkick-abc.a.run.app", good)).cloud.url == good
    for bad in ("http://192.168.1.5", "ftp://x", "nrgkick", "https://user:pw@x", "http://127.0.0.1.evil.example"):
        assert mistakes(read, GOOD.replace("https://nrgkick-abc.a.run.app", bad))


def test_sizes_have_a_unit():
    assert (size_bytes("100MB"), size_bytes("2 GB")) == (100_000_000, 2_000_000_000)
    for wrong in (100, "100", "1.5MB", "MB", None):
        with pytest.raises(ValueError, match="unit"):
            size_bytes(wrong)
