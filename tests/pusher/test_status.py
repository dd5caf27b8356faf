"""`status`: every figure is the running pusher's own, for programs and for people, and 0 is for when all is well."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from pusher import VERSION
from pusher.tables import show, status_tables
from tests.pusher.parts import BIN, Pusher, pusher_of, until
from tests.pusher.sources.servers import http_device
from tests.pusher.test_endurance import STEPPING

OFTEN = "archive: {every: 0s, send_every: 1s}"
SELDOM = "archive: {every: 0s, send_every: 1h}"


@pytest.fixture
async def devices():
    """A grid meter and a battery."""
    async with http_device({"/meter": {"w": -542.4}, "/battery": {"w": -749, "soc": 78.2}}) as house:
        yield house


def configured(house):
    return f"""
      - energy_meter: 0
        every: 200ms
        info: {{name: "Grid [red]", location: 1}}
        http: {{url: "{house.url}/meter", values: {{grid_power_w: w}}}}
      - battery: 0
        every: 200ms
        http: {{url: "{house.url}/battery", values: {{bat_power_w: w, soc: soc}}}}
    """


async def asked(pusher):
    """The exit code and the document of `status --json`."""
    code, said = await pusher.command("status", "--json")
    return code, json.loads(said)


async def until_well(pusher):
    async def well():
        status = await pusher.status()
        return status["well"] and status["archive"]["last_s"] is not None

    await until(well, "all is well")


def taken(document, *path):
    """Take a figure that changes with time out of a document."""
    for key in path[:-1]:
        document = document[key]
    return document.pop(path[-1])


async def test_document_and_table_say_how_everything_is(cloud, devices, tmp_path):
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), configured(devices), more=OFTEN) as pusher:
        await until_well(pusher)
        before = datetime.now(UTC)
        code, document = await asked(pusher)
        printed_code, printed = await pusher.command("status")
    assert (code, printed_code) == (0, 0), printed
    check_table([" ".join(line.split()) for line in printed.splitlines()])
    for age_s in (taken(document, "devices", 0, "age_s"), taken(document, "devices", 1, "age_s")):
        assert 0 <= age_s < 20
    assert 0 <= taken(document, "live", "last_s") < 30
    assert taken(document, "live", "posts") >= 1
    assert 0 <= taken(document, "archive", "last_s") < 30
    now = datetime.fromisoformat(taken(document, "clock", "now"))
    assert before - timedelta(seconds=5) <= now <= before + timedelta(seconds=20)
    assert abs(taken(document, "clock", "host_ahead_s")) < 5
    for figure in ("rows", "bytes", "oldest"):
        taken(document, "archive", figure)
    assert document == {
        "pusher": "barn",
        "version": VERSION,
        "well": True,
        "problems": [],
        "devices": [
            {
                "device": "energy meter 0", "title": "Grid [red]", "source": "http",
                "values": {"grid_power_w": -542.4}, "error": None, "withdrawn": False, "read_yet": True,
            },
            {
                "device": "battery 0", "title": "battery 0", "source": "http",
                "values": {"bat_power_w": -749, "soc": 78.2}, "error": None, "withdrawn": False, "read_yet": True,
            },
        ],
        "live": {"error": None, "heartbeat_s": 20},
        "archive": {"error": None, "dropped": 0, "dead_letters": 0, "in_memory": 0, "disk": None},
        "held": [],
        "clock": {"known": True, "host_is_off": False},
        "wallbox": {
            "status": 200,
            "detail": "fresh",
            "device_values": {
                "energy_meters": {"0": {"grid_power_w": -542}},
                "batteries": {"0": {"bat_power_w": -749, "soc": 78.2}},
            },
        },
    }  # fmt: skip


def check_table(rows):
    assert any(row.startswith("Grid [red] http grid_power_w = -542.4 ") and row.endswith(" s read") for row in rows)
    assert any(row.startswith("battery 0 http bat_power_w = -749 ") and row.endswith(" s read") for row in rows)
    assert "soc = 78.2" in rows
    assert any(row.startswith("live lane last got through ") for row in rows)
    assert any(row.startswith("archive lane last got through ") for row in rows)
    assert any(row.startswith("outbox ") and row.endswith("0 dropped, 0 dead letters") for row in rows)
    assert any(row.startswith("clock ") and "learnt from the function; the host is " in row for row in rows)
    assert "wallbox reads 200: fresh" in rows
    assert any("'grid_power_w': -542" in row and "'soc': 78.2" in row for row in rows)
    assert rows[-1] == "all is well"


async def test_what_is_not_well_is_named_and_the_outbox_counted(cloud, devices, tmp_path):
    await cloud.stop()
    del devices.answers["/meter"]
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), configured(devices), more=SELDOM) as pusher:

        async def known():
            status = await pusher.status()
            return status["live"]["error"] and status["archive"]["rows"] > 5 and status["devices"][0]["withdrawn"]

        await until(known, "rows wait, and both the meter and the function are missed")
        code, document = await asked(pusher)
        printed_code, printed = await pusher.command("status")
        assert await pusher.stop() == 0
    assert (code, printed_code, document["well"]) == (1, 1, False)
    meter, battery = document["devices"]
    assert "404" in meter["error"]
    assert (meter["values"], meter["age_s"], battery["error"]) == (None, None, None)
    assert document["wallbox"] == {
        "status": 503, "detail": 'energy meter 0 "Grid [red]" could not be read yet', "device_values": None,
    }  # fmt: skip
    archive = document["archive"]
    assert archive["bytes"] > 50 * archive["rows"]
    assert datetime.now(UTC) - datetime.fromisoformat(archive["oldest"]) < timedelta(minutes=2)
    assert document["problems"][0].startswith("Grid [red]: http://127.0.0.1")
    assert any("cannot be reached" in problem for problem in document["problems"])
    assert not document["clock"]["known"]
    for line in ("! Grid [red]: ", "withdrawn: the wallbox is not shown it", "503: energy meter 0"):
        assert line in " ".join(printed.split())
    assert "the host's, for the function has not said it yet" in printed
    assert f", oldest {archive['oldest']}" in printed


async def test_a_clock_of_the_host_that_is_far_off_is_a_problem(cloud, devices, tmp_path):
    steps = tmp_path / "steps"
    steps.write_text("0")
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), configured(devices), start=False) as pusher:
        await pusher.start(wrapper=STEPPING.format(steps=str(steps), config=str(pusher.config)))
        await until_well(pusher)
        for step, said in ((7200, "ahead"), (-86400, "behind")):
            steps.write_text(str(step))
            code, document = await asked(pusher)
            assert code == 1
            assert abs(document["clock"]["host_ahead_s"] - step) < 20
            assert document["clock"]["host_is_off"]
            [problem] = document["problems"]
            assert problem.startswith("the host's clock is ")
            assert f" s {said}; set it" in problem
        code, printed = await pusher.command("status")
        assert code == 1
        assert "; the host is -86" in printed


async def test_a_pusher_that_is_stopped_is_said_not_to_answer(cloud, devices, tmp_path):
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), configured(devices)) as pusher:
        pusher.kill(signal.SIGSTOP)
        code, said = await pusher.command("status")
        assert code == 1
        assert "does not answer within 5 s: it is stopped, or hangs" in said
        assert "no pusher runs" not in said
        pusher.kill(signal.SIGCONT)
        assert await pusher.stop() == 0


async def test_a_full_disk_behind_the_output_is_said_in_one_line(cloud, devices, tmp_path):
    async with pusher_of(tmp_path, cloud.url, await cloud.token(), configured(devices)) as pusher:
        for arguments in (["status"], ["status", "--json"], ["devices"], ["check"]):
            full = os.open("/dev/full", os.O_WRONLY)
            process = await asyncio.create_subprocess_exec(
                BIN / "nrgkick-pusher", *arguments, "--config", pusher.config,
                stdout=full, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            os.close(full)
            _, complaint = await process.communicate()
            assert process.returncode == 1
            assert complaint.decode() == "what this has to say cannot be written: No space left on device\n"


async def test_it_says_so_if_no_pusher_runs(tmp_path, cloud):
    code, said = await Pusher(tmp_path, cloud.url, "x").command("status")
    assert code == 1
    assert "no pusher runs here" in said


DOCUMENT = {
    "well": False,
    "problems": ["Roof: no answer within 3 s"],
    "devices": [
        {"title": "Roof", "source": "sma-modbus", "values": {"inv_power_ac_w": 2225}, "age_s": 17.4,
         "error": "no answer within 3 s", "withdrawn": True},
    ],
    "live": {"error": None, "last_s": 4.4},
    "archive": {"error": None, "last_s": 61.0, "rows": 12, "bytes": 3456, "oldest": "2026-11-22T12:00:00Z",
                "dropped": 5, "dead_letters": 2},
    "clock": {"known": True, "now": "2026-11-22T12:00:59Z", "host_ahead_s": -7.3},
    "wallbox": {"status": 200, "detail": "no surplus, for Grid", "device_values": {"load_power_w": 1}},
}  # fmt: skip


def test_the_table_shows_every_figure_of_the_document(capsys):
    show(*status_tables(DOCUMENT))
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [row for row in rows if row and set(row) != {"─"}] == [
        "device source values age state",
        "Roof sma-modbus inv_power_ac_w = 2225 17 s no answer within 3 s (withdrawn: the wallbox is not shown it)",
        "live lane last got through 4 s ago",
        "archive lane last got through 61 s ago",
        "outbox 12 rows, 3456 bytes, oldest 2026-11-22T12:00:00Z, 5 dropped, 2 dead letters",
        "clock 2026-11-22T12:00:59Z, learnt from the function; the host is -7.3 s off",
        "wallbox reads 200: no surplus, for Grid",
        "{'load_power_w': 1}",
        "! Roof: no answer within 3 s",
    ]
