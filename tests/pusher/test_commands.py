"""The first ten minutes: from nothing to a running service, by commands that say what to do next."""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib import metadata

import jsonschema
import pytest
from ruamel.yaml import YAML

from pusher import VERSION
from pusher.service import InstallError, may_run
from tests.conftest import copied_python, lacking, need
from tests.pusher.parts import BIN, Pusher, command, pusher_of, real_function, until
from tests.pusher.sources.servers import http_device, modbus_device, mosquitto

SHELLY = {"/status": {"total_power": -542.0, "emeters": [{"power": -542.0}]}}


@pytest.fixture
async def cloud(tmp_path):
    async with real_function(tmp_path) as function:
        (tmp_path / "token").write_text(await function.token())
        yield function


@pytest.fixture
async def meter():
    async with http_device(SHELLY) as device:
        yield device


def host(device):
    return device.url.partition("://")[2]


async def test_every_command_has_help_and_the_version_is_shown():
    code, said = await command("--version")
    assert (code, said.strip()[0].isdigit()) == (0, True)
    _, overview = await command("--help")
    for name in ("init", "check", "run", "status", "devices", "dump", "proxy", "service", "simulate"):
        assert name in overview
        code, said = await command(name, "--help")
        assert code == 0
        assert "Usage" in said


async def test_without_a_configuration_it_says_how_to_make_one(tmp_path):
    code, said = await command("check", "--config", tmp_path / "none.yaml")
    assert code == 1
    assert "nrgkick-pusher init" in said


async def test_templates_are_listed_and_explained_and_the_nearest_is_named():
    code, said = await command("devices")
    assert code == 0
    assert "fronius-symo" in said
    assert "shelly-3em" in said
    code, said = await command("devices", "shelly-3em")
    assert code == 0
    assert "address of the Shelly" in said
    assert "grid_power_w" in said
    assert await command("devices", "shely-3em") == (
        1,
        'there is no template "shely-3em"; did you mean "shelly-3em"?\n',
    )


async def test_init_by_options_tries_the_device_and_writes_what_runs(cloud, meter, tmp_path):
    arguments = [
        "init", "--url", cloud.url, "--token-file", tmp_path / "token", "--pusher", "barn", "--out", "pusher.yaml",
        "--state-dir", tmp_path / "state", "--run-dir", tmp_path / "run",
        "--device", f"energy_meter:0=shelly-3em,host={host(meter)},name=Grid",
    ]  # fmt: skip
    code, said = await command(*arguments, folder=tmp_path)
    assert code == 0, said
    assert "grid_power_w = -542" in said
    text = (tmp_path / "pusher.yaml").read_text()
    assert (tmp_path / "token").read_text() not in text
    assert text.startswith("# yaml-language-server: $schema=pusher.schema.json")
    schema = json.loads((tmp_path / "pusher.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(YAML(typ="safe").load(text))
    code, said = await command("check", "--online", folder=tmp_path)
    assert code == 0, said
    code, said = await command("run", "--once", folder=tmp_path)
    assert code == 0, said
    code, said = await command(*arguments, folder=tmp_path)
    assert code == 1
    assert "exists already" in said


async def test_init_by_questions_does_the_same(cloud, meter, tmp_path):
    (tmp_path / "token").rename(tmp_path / "kept")
    token = (tmp_path / "kept").read_text()
    answers = [cloud.url, token, "energy_meter", "shelly-3em", host(meter), "", "", "", "Grid", "y", ""]
    code, said = await command("init", answers="\n".join(answers) + "\n", folder=tmp_path)
    assert code == 0, said
    assert "grid_power_w = -542" in said
    assert token not in said
    assert (tmp_path / "token").stat().st_mode & 0o077 == 0
    assert (await command("check", "--online", folder=tmp_path))[0] == 0


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("meter:0=shelly-3em", "is no device; write ROLE:INDEX=TEMPLATE"),
        ("energy_meter:0=shely-3em,host=1", 'did you mean "shelly-3em"?'),
        ("energy_meter:0=shelly-3em,hst=1", 'did you mean "host"?'),
        ("energy_meter:0=shelly-3em", 'needs "host"'),
        ("energy_meter:0=shelly-3em,host=127.0.0.1:9", "a device cannot be read"),
    ],
)
async def test_init_names_a_mistake_and_writes_nothing(tmp_path, device, said):
    (tmp_path / "token").write_text("a-token")
    code, heard = await command(
        "init", "--url", "http://127.0.0.1:9", "--token-file", "token", "--device", device, folder=tmp_path
    )
    assert code == 1
    assert said in heard
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


async def test_a_dump_shows_what_a_device_answers_but_not_whose_it_is(tmp_path):
    answer = {"total_power": -542.0, "wifi_sta": {"ip": "192.168.1.21", "ssid": "Home"}, "mac": "AABBCCDDEEFF"}
    async with http_device({"/status": answer}) as meter, modbus_device({100: 2225}) as inverter:
        devices = f"""
          - energy_meter: 0
            info: {{name: Grid}}
            template: shelly-3em
            host: {host(meter)}
          - inverter: 0
            modbus:
              host: 127.0.0.1
              port: {inverter.port}
              values: {{inv_power_ac_w: {{register: 100, type: int16}}}}
        """
        pusher = Pusher(tmp_path, "http://127.0.0.1:9", "the-token", devices)
        code, said = await pusher.command("dump", "grid")
        assert code == 0, said
        [case] = YAML(typ="safe").load(said)["cases"]
        assert case["http"]["answers"]["/status"]["total_power"] == -542
        assert case["expect"] == {"energy_meter": {"grid_power_w": -542}}
        for secret in ("192.168.1.21", "Home", "AABBCCDDEEFF", "127.0.0.1", "the-token"):
            assert secret not in said
        code, said = await pusher.command("dump", "inverter:0")
        assert code == 0, said
        [case] = YAML(typ="safe").load(said)["cases"]
        assert case["modbus"] == {1: {"holding": {100: [2225]}}}
        code, said = await pusher.command("dump", "roof")
        assert code == 1
        assert 'there is no device "roof"; there are: Grid, inverter 0' in said


async def test_a_dump_hears_what_a_broker_and_a_home_assistant_say(tmp_path):
    state = {"entity_id": "sensor.boiler", "state": "1500", "attributes": {"unit_of_measurement": "W"}}
    state["last_reported"] = datetime.now(UTC).isoformat()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(tmp_path))
        home = await stack.enter_async_context(http_device({"/api/states/sensor.boiler": state}))
        client = await stack.enter_async_context(broker.client())

        async def speak():
            while True:
                await client.publish("battery", json.dumps({"w": -500, "soc": 78.2, "serial": "ABC12345678901"}))
                await asyncio.sleep(0.5)

        devices = f"""
          - battery: 0
            mqtt:
              host: 127.0.0.1
              port: {broker.port}
              values: {{bat_power_w: {{topic: battery, path: w}}, soc: {{topic: battery, path: soc}}}}
          - smart_load: 0
            homeassistant: {{url: "{home.url}", token: t0ken, values: {{sl_power_w: sensor.boiler}}}}
          - load: true
            command: {{run: echo 1683, values: {{load_power_w: "@"}}}}
        """
        pusher = Pusher(tmp_path, "http://127.0.0.1:9", "the-token", devices)
        speaking = asyncio.create_task(speak())
        code, said = await pusher.command("dump", "battery:0")
        speaking.cancel()
        assert code == 0, said
        [case] = YAML(typ="safe").load(said)["cases"]
        assert case["mqtt"] == {"battery": {"w": -500, "soc": 78.2, "serial": "removed"}}
        assert case["expect"] == {"battery": {"bat_power_w": -500, "soc": 78.2}}
        code, said = await pusher.command("dump", "smart_load:0")
        assert code == 0, said
        assert "1500" in said
        assert "t0ken" not in said
        code, said = await pusher.command("dump", "load")
        assert code == 1
        assert "house load gave nothing to record: its source asks no device" in said


async def test_simulate_runs_without_hardware(cloud, tmp_path):
    read = await cloud.token("read")
    process = await asyncio.create_subprocess_exec(
        BIN / "nrgkick-pusher", "simulate", "--url", cloud.url, "--token-file", "token", cwd=tmp_path
    )

    async def read_live():
        status, document = await cloud.get("/api/v1/values.json", read)
        return status == 200 and set(document["device_values"]) == {
            "inverters", "energy_meters", "batteries", "load_power_w",
        }  # fmt: skip

    try:
        await until(read_live, "the wallbox reads the simulated house")
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_the_service_is_accepted_by_systemd_and_hardened(cloud, tmp_path):
    analyze = need("systemd-analyze", "systemd")
    pusher = Pusher(tmp_path, cloud.url, (tmp_path / "token").read_text())
    text = pusher.config.read_text().replace(str(pusher.state_dir), "/var/lib/nrgkick-pusher")
    pusher.config.write_text(text.replace(f"{tmp_path}/run", "/run/nrgkick-pusher"))
    process = await asyncio.create_subprocess_exec(
        BIN / "nrgkick-pusher", "service", "--config", pusher.config,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    unit, hint = await process.communicate()
    assert b"--install" in hint
    for line in (b"Type=notify", b"StateDirectory=", b"RuntimeDirectory=", b"ProtectSystem=strict", b"WatchdogSec="):
        assert line in unit
    place = tmp_path / "nrgkick-pusher.service"
    place.write_bytes(unit)
    for question in (["verify"], ["security", "--offline=true", "--threshold=15"]):
        process = await asyncio.create_subprocess_exec(
            analyze, *question, place, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        assert "nrgkick-pusher.service:" not in out.decode() or question[0] == "security", out.decode()


def test_a_service_that_its_user_could_not_run_is_not_installed(open_folder, tmp_path):
    if os.geteuid() != 0:
        lacking("only root can look as another user; what the service's user may run is NOT tested")
    program = open_folder / "nrgkick-pusher"
    python = copied_python(open_folder / "python", "pusher.cli", "pusher.config_file", "jmespath")
    program.write_text(f"#!/bin/sh\nexec {python} -IBc 'from pusher.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    config, token = open_folder / "pusher.yaml", open_folder / "token"
    token.write_text("a.token")
    for place, missing in ((open_folder, "token_file cannot be read"), (tmp_path, "Permission denied")):
        simulated = {"inverter": 0, "simulated": {}, "info": {"name": "Roof"}}
        cloud = {"url": "https://cloud.example", "token_file": str(token)}
        (place / "pusher.yaml").write_text(json.dumps({"cloud": cloud, "devices": [simulated]}))
        (place / "pusher.yaml").chmod(0o644)
        token.chmod(0o600)
        with pytest.raises(InstallError, match=f"(?s)nobody cannot run.*{missing}.*below /opt") as refused:
            may_run(program, place / "pusher.yaml", "nobody")
        assert "Traceback" not in str(refused.value)
    token.chmod(0o644)
    may_run(program, config, "nobody")
    with pytest.raises(InstallError, match=r"(?s)nobody cannot run.*/nowhere: No such file"):
        may_run(open_folder / "nowhere", config, "nobody")


async def test_a_reload_takes_the_new_devices_and_forgets_the_old_ones(cloud, tmp_path):
    read = await cloud.token("read")
    async with pusher_of(tmp_path, cloud.url, (tmp_path / "token").read_text()) as pusher:

        async def house():
            status, document = await cloud.get("/api/v1/values.json", read)
            return status == 200 and sorted(document["device_values"])

        async def house_is(*categories):
            return await house() == sorted(categories)

        await until(lambda: house_is("inverters", "energy_meters", "load_power_w"), "both devices are shown")
        pusher.write(cloud.url, "\n  - load: true\n    simulated: {}\n")
        pusher.kill(signal.SIGHUP)
        await until(lambda: house_is("load_power_w"), "only the load is left")
        assert (await pusher.ask("/api/v1/values.json"))[1].keys() == {"device_values"}


async def test_a_broken_configuration_ends_run_with_its_mistakes(tmp_path, cloud):
    pusher = Pusher(tmp_path, cloud.url, "x", "  - inverter: 0\n    simulatd: {}\n")
    code, said = await pusher.command("run")
    assert code == 1
    assert 'unknown key "simulatd" in inverter 0; did you mean "simulated"?' in said


def test_the_version_is_the_distributions_own():
    assert metadata.version("nrgkick-cloud") == VERSION
