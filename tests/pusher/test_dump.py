"""What `dump` prints is what the tests replay: for every template the same readings, and nothing of its owner."""

import asyncio
import json

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pusher.cli import app
from pusher.templates import load_template, template_names
from tests.pusher.sources.replay import play, playing, recorded
from tests.pusher.sources.servers import http_device, modbus_device

INDEX = {"load": True}


def configured(folder, devices):
    """A configuration of these devices, each alone in its role."""
    (folder / "token").write_text("the-token")
    cloud = {"url": "http://127.0.0.1:9", "token_file": str(folder / "token")}
    path = folder / "pusher.yaml"
    path.write_text(json.dumps({"cloud": cloud, "pusher": "barn", "devices": devices}))
    return path


async def dumped(config, device):
    """Run the command `dump`; its exit code, what it printed and what it complained of."""
    result = await asyncio.to_thread(CliRunner().invoke, app, ["dump", device, "--config", str(config)])
    return result.exit_code, result.stdout, result.stderr


def private(name, case):
    """What the owner of a recorded case would not show."""
    parameters = load_template(name).parameters
    return ["127.0.0.1", "the-token"] + [
        value
        for key, value in case.get("parameters", {}).items()
        if parameters[key].type == "secret" or key in ("portal_id", "email")
    ]


@pytest.mark.parametrize("name", template_names())
async def test_what_is_dumped_replays_with_the_same_readings_and_holds_nothing_private(name, tmp_path):
    case = recorded(name)[0]
    async with playing(case, tmp_path) as at:
        devices = [
            {role: INDEX.get(role, 0), "template": name, **case.get("parameters", {}), **at} for role in case["expect"]
        ]
        config = configured(tmp_path, devices)
        dumps = {role: await dumped(config, f"{role}:0" if role != "load" else "load") for role in case["expect"]}
    for role, (code, printed, complaint) in dumps.items():
        assert code == 0, printed + complaint
        for secret in private(name, case):
            assert secret not in printed
        assert not printed.startswith("#"), "a template is recorded as it is"
        [again] = YAML(typ="safe").load(printed)["cases"]
        assert again["expect"] == {role: case["expect"][role]}
        async with asyncio.timeout(20):
            assert await play(name, again, tmp_path) == again["expect"]


async def test_a_login_is_recorded_without_who_logs_in(tmp_path):
    name = "tesla-powerwall"
    case = recorded(name)[0]
    post = case["http"]["posts"]["/api/login/Basic"]
    post["body"] |= {"email": "owner@house.example", "password": "s3cret-password"}
    given = {"email": "owner@house.example", "password": "s3cret-password"}
    async with playing(case, tmp_path) as at:
        config = configured(tmp_path, [{"battery": 0, "template": name, **given, **at}])
        code, printed, _ = await dumped(config, "battery:0")
    assert code == 0
    assert not any(word in printed for word in ("owner", "house.example", "s3cret", "t0ken"))
    [again] = YAML(typ="safe").load(printed)["cases"]
    assert again["parameters"] == {"email": "removed", "password": "removed"}
    assert await play(name, again, tmp_path) == {"battery": case["expect"]["battery"]}


async def test_a_secret_from_a_file_is_recorded_as_a_secret_that_was_given(tmp_path):
    name = "enphase-envoy"
    case = recorded(name)[0]
    (tmp_path / "envoy").write_text("t0ken")
    async with playing(case, tmp_path) as at:
        config = configured(tmp_path, [{"load": True, "template": name, "token_file": str(tmp_path / "envoy"), **at}])
        code, printed, complaint = await dumped(config, "load")
    assert code == 0, complaint
    assert str(tmp_path) not in printed
    [again] = YAML(typ="safe").load(printed)["cases"]
    assert await play(name, again, tmp_path) == {"load": case["expect"]["load"]}


async def test_numbers_that_look_like_text_are_recorded_where_they_are_read(tmp_path):
    async with modbus_device({100: 0x4142, 101: 0x4344, 102: 0x4546, 103: 0x4748, 104: 0x494A}) as device:
        values = {"bat_power_w": {"register": 100, "type": "int16"}, "soc": {"register": 104, "type": "uint16"}}
        values["soc"]["scale"] = 0.001
        config = configured(
            tmp_path, [{"battery": 0, "modbus": {"host": device.host, "port": device.port, "values": values}}]
        )
        code, printed, _ = await dumped(config, "battery:0")
    assert code == 0
    assert printed.startswith('# this device has a source of its own ("modbus")')
    [case] = YAML(typ="safe").load(printed)["cases"]
    assert case["modbus"] == {1: {"holding": {100: [0x4142, 0x4344, 0x4546, 0x4748, 0x494A]}}}


async def test_two_queries_of_one_path_are_said_to_be_more_than_a_recording_holds(tmp_path):
    async with http_device({"/m": {"w": 5, "soc": 50}}) as device:
        values = {"bat_power_w": {"path": "w"}, "soc": {"path": "soc", "url": "/m?id=1"}}
        config = configured(tmp_path, [{"battery": 0, "http": {"url": f"{device.url}/m?id=0", "values": values}}])
        code, printed, _ = await dumped(config, "battery:0")
    assert code == 0
    assert "# /m was asked with different queries; only the last answer is kept" in printed


async def test_a_device_that_cannot_be_read_is_recorded_with_its_error(tmp_path):
    async with http_device({"/status": {"watts": 5}}) as device:
        host = device.url.partition("://")[2]
        config = configured(tmp_path, [{"energy_meter": 0, "template": "shelly-3em", "host": host}])
        code, printed, complaint = await dumped(config, "energy_meter:0")
    assert code == 1
    assert "nothing at path" in complaint
    assert printed.startswith("# it could not be read")
    [case] = YAML(typ="safe").load(printed)["cases"]
    assert case["http"] == {"answers": {"/status": {"watts": 5}}}
    assert "nothing at path" in case["error"]
    assert "expect" not in case
