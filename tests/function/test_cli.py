"""`nrgkick-cloud`: every command has help with an example or none needed; sites and migration over both stores."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from function.stores import open_store
from schemas.messages import Row
from schemas.site import Site

CLOUD = Path(sys.executable).with_name("nrgkick-cloud")
COMMANDS = (
    ["serve"], ["token"], ["migrate"], ["sites"], ["sites", "list"], ["sites", "show"], ["sites", "set"],
    ["sites", "export"], ["sites", "delete"], ["sites", "forget"],
)  # fmt: skip


def cloud(*arguments, status=0, **environment):
    import os

    done = subprocess.run(
        [CLOUD, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps(command):
    text = cloud(*command, "--help")
    assert len(text.splitlines()) > 5
    assert cloud(*command, "-h") == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--site", "Home", "--scope", "push"], "name of a site"),
        (["--site", "home", "--scope", "write"], "'push', 'read', 'fleet' or 'admin'"),
        (["--site", "*", "--scope", "push", "--expires", "1d"], "--site"),
        (["--site", "*", "--scope", "read"], "--expires"),
        (["--site", "home", "--scope", "fleet"], "every site"),
        (["--site", "home", "--scope", "read", "--expires", "soon"], "30d"),
        (["--site", "home", "--scope", "read", "--store", "mysql:x"], "sqlite:PATH"),
        (["--site", "home", "--scope", "read", "--store", "sqlite:/nowhere/x.db"], "/nowhere"),
        (["--site", "home", "--scope", "read", "--store", "firestore"], "NRGKICK_SIGNING_KEY"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused_in_a_line(arguments, says, tmp_path):
    store = [] if "--store" in arguments else ["--store", f"sqlite:{tmp_path / 'x.db'}"]
    error = cloud("token", *arguments, *store, status=2)
    assert says in error
    assert error.count("\n") == 1


def test_a_short_key_is_refused(tmp_path):
    error = cloud(
        "token", "--site", "home", "--scope", "read", "--store", f"sqlite:{tmp_path / 'x.db'}", status=2,
        NRGKICK_SIGNING_KEY="short",
    )  # fmt: skip
    assert "32 bytes" in error
    assert "short" not in error.replace("too short", "")


def test_the_embedded_stores_file_is_for_its_owner_alone(tmp_path):
    cloud("token", "--site", "home", "--scope", "read", "--store", f"sqlite:{tmp_path / 'x.db'}")
    assert (tmp_path / "x.db").stat().st_mode & 0o077 == 0


def test_sites_are_set_listed_shown_exported_and_deleted(store_address):
    at = ("--store", store_address)
    key = {"NRGKICK_SIGNING_KEY": "k" * 40}
    assert "No site yet" in cloud("sites", "list", *at, **key)
    cloud("sites", "set", "home", "--name", "Home", "--timezone", "Europe/Vienna", *at, **key)
    assert "make new ones" in cloud("sites", "set", "home", "--revoke", *at, **key)
    cloud("sites", "set", "farm", "--member", "home", "--member", "barn:inverters,batteries", *at, **key)
    (farm, home) = json.loads(cloud("sites", "list", "--json", *at, **key))
    assert (home["site"], home["name"], home["status"], home["token_generation"]) == ("home", "Home", "new", 1)
    assert farm["site"] == "farm"
    assert "Europe/Vienna" in cloud("sites", "show", "home", *at, **key)
    shown = json.loads(cloud("sites", "show", "farm", "--json", *at, **key))
    assert shown["settings"]["members"][1] == {"site": "barn", "include": ["inverters", "batteries"]}
    (line,) = cloud("sites", "export", "home", *at, **key).splitlines()
    assert json.loads(line)["state"]["settings"]["name"] == "Home"
    for wrong, says in (
        (("set", "home", "--timezone", "Mars"), "--timezone"),
        (("set", "home", "--token-generation", "0"), "never falls"),
        (("set", "far", "--member", "farm"), "composite"),
        (("set", "far", "--member", "home:sun"), "--member"),
        (("show", "nowhere"), "sites list"),
        (("forget", "home", "pi"), "known: none"),
        (("delete", "nowhere", "--yes"), "sites list"),
    ):
        assert says in cloud("sites", *wrong, *at, status=2, **key)
    cloud("sites", "delete", "home", "--yes", *at, **key)
    assert [site["site"] for site in json.loads(cloud("sites", "list", "--json", *at, **key))] == ["farm"]
    last = 2**31 - 1  # of the generations that a token can have; a deletion goes beyond
    cloud("sites", "set", "barn", "--token-generation", str(last), *at, **key)
    cloud("sites", "delete", "barn", "--yes", *at, **key)
    assert f"token_generation={last + 1}" in cloud("sites", "set", "barn", "--name", "Barn", *at, **key)


async def test_a_migration_takes_everything_once_and_goes_on_where_it_was_broken_off(store_address, tmp_path, store):
    source_address = f"sqlite:{tmp_path / 'source.db'}"
    source = open_store(source_address)
    start = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
    summary = dict.fromkeys(("minute", "pv_w", "grid_w", "battery_w", "load_w", "smart_load_w"), 0)
    await source.save("home", Site(heard_at=start), None, summary)
    rows = [
        Row(measured_at=start + timedelta(hours=hour), duration_s=60.0, device_values={"load_power_w": float(hour)})
        for hour in range(48)
    ]
    await source.append("home", "pi", rows)
    await source.finish_day("home", start.date() - timedelta(days=9), '{"kept": 1}', None, [], start)
    await source.close()
    done = tmp_path / "done.json"
    for _ in range(2):
        said = cloud("migrate", "--from", source_address, "--to", store_address, "--done", str(done))
        assert "1 sites are in" in said
        found = [it async for it in store.rows("home", start - timedelta(days=1), start + timedelta(days=4))]
        assert sorted(it.row.device_values.load_power_w for it in found) == list(range(48))
    assert json.loads(done.read_text())["home"]
    assert (await store.load("home")).site.heard_at == start
    (kept,) = (await store.days("home", start.date() - timedelta(days=20), start.date() - timedelta(days=5))).values()
    assert kept.totals == '{"kept": 1}'
