"""`service --install` as far as systemd, which no test can boot: a program of its name writes down what it is told."""

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from pusher import service
from pusher.config_file import load_config
from pusher.service import InstallError, install, unit_text
from tests.conftest import copied_python, lacking


@pytest.fixture
def house(open_folder, tmp_path, monkeypatch):
    """A configuration and a token of its owner's, a program for everybody, and a systemctl that only listens."""
    if os.geteuid() != 0:
        lacking("only root can give files to another user; service --install is NOT tested")
    told = tmp_path / "told"
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{told}\n')
    (tmp_path / "systemctl").chmod(0o755)
    told.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(service, "USER", "nobody")
    monkeypatch.setattr(service, "UNIT_FOLDER", tmp_path)
    python = copied_python(open_folder / "python", "pusher.cli", "pusher.config_file", "jmespath")
    program = open_folder / "nrgkick-pusher"
    program.write_text(f"#!/bin/sh\nexec {python} -IBc 'from pusher.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    token, config = open_folder / "token", open_folder / "pusher.yaml"
    device = {"inverter": 0, "simulated": {}, "info": {"name": "Roof"}}
    cloud = {"url": "https://cloud.example", "token_file": str(token)}
    token.write_text("a.token")
    config.write_text(json.dumps({"cloud": cloud, "devices": [device]}))
    for path in (token, config):
        path.chmod(0o600)
        os.chown(path, 12345, 12345)
    return open_folder


def state(path):
    found = path.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


def test_what_is_installed_is_the_users_to_read_and_started(house, tmp_path):
    config = house / "pusher.yaml"
    loaded = load_config(config)
    said = install(unit_text(config, loaded, house / "nrgkick-pusher"), config, loaded, house / "nrgkick-pusher")
    assert (tmp_path / "told").read_text().splitlines() == ["daemon-reload", "enable --now nrgkick-pusher.service"]
    assert (
        f"ExecStart={house}/nrgkick-pusher run --config {config}\n" in (tmp_path / "nrgkick-pusher.service").read_text()
    )
    assert {state(house / name) for name in ("pusher.yaml", "token")} == {(0, 0o640)}
    assert any(f"let nobody read {house}/token" in line for line in said)


def test_what_could_not_run_is_not_installed_and_the_files_stay_their_owners(house, tmp_path):
    config = house / "pusher.yaml"
    loaded = load_config(config)
    house.chmod(0o700)
    with pytest.raises(InstallError, match="nobody cannot run"):
        install("[Unit]", config, loaded, house / "nrgkick-pusher")
    assert (tmp_path / "told").read_text() == ""
    assert not (tmp_path / "nrgkick-pusher.service").exists()
    assert {state(house / name) for name in ("pusher.yaml", "token")} == {(12345, 0o600)}


def test_a_program_that_ends_without_a_word_is_not_installed_either(house, tmp_path):
    config = house / "pusher.yaml"
    (house / "nrgkick-pusher").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(InstallError, match=r"said nothing\n\(exit code 3\)"):
        install("[Unit]", config, load_config(config), house / "nrgkick-pusher")
    assert (tmp_path / "told").read_text() == ""


@pytest.mark.parametrize(("at_home", "seen"), [("token", "read-only"), ("python", "read-only"), ("nothing", "yes")])
def test_the_unit_does_not_hide_what_the_pusher_needs(house, monkeypatch, at_home, seen):
    loaded = load_config(house / "pusher.yaml")
    monkeypatch.setattr(service.sys, "prefix", "/opt/nrgkick")
    monkeypatch.setattr(service.sys, "executable", "/root/python" if at_home == "python" else "/usr/bin/true")
    if at_home == "token":
        cloud = loaded.cloud.model_copy(update={"token_file": "/home/me/token"})
        loaded = dataclasses.replace(loaded, cloud=cloud)
    text = unit_text(Path("/etc/nrgkick-pusher/pusher.yaml"), loaded, Path("/opt/nrgkick/bin/nrgkick-pusher"))
    assert f"ProtectHome={seen}\n" in text
