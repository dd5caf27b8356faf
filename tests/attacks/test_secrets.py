"""Where secrets must not be found: answers, logs, process lists, what is stored, what a crash leaves behind."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from function.stores.firestore import make_client
from pusher import service
from tests.attacks.target import attacked
from tests.benchmarks.servers import BIN, KEY, KEYRING, live_post, running
from tests.conftest import free_port, lacking, need, wait_for_port
from tests.proxy.house import wait_until

PREVIOUS = "the key before, of no worth to anybody either"
FAULTY = "a password in a device's address"
LOCK = "no-one-guesses-this"


def cloud_secrets():
    """Everything that a house and its keeper would rather keep."""
    now = datetime.now(UTC)
    tokens = {scope: KEYRING.make("home", scope, now) for scope in ("push", "read", "admin")}
    tokens["every"] = KEYRING.make("*", "admin", now, expires=timedelta(days=1))
    tokens["expired"] = KEYRING.make("*", "admin", now - timedelta(days=2), expires=timedelta(days=1))
    tokens["foreign"] = tokens["read"][:-9] + "AAAAAAAAA"
    return tokens


def attack_with_tokens(target, tokens):
    """Send them rightly, wrongly, and in places where a confused user would put them; all that came back."""
    said = []
    for token in tokens.values():
        for path in ("/api/v1/values.json", "/api/v1/whoami", "/api/v1/sites", f"/api/v1/sites/{token}", f"/{token}"):
            said.append(target.send(target.head(path + f"?token={token}", token=token, method="GET")))
        post = {**live_post(), token: 1, "device_info": {"inverters": {"0": {"name": 5}}}}
        said += [
            target.post("/api/v1/live", json.dumps(post).encode(), token=token),
            target.post("/api/v1/live", b'{"x": "' + token.encode(), token=token),
            target.post("/api/v1/live", json.dumps(live_post(pusher=token)).encode(), token=token),
            target.post("/api/v1/live", json.dumps(live_post()).encode(), token=token),
            target.post("/api/v1/sites/home", b'{"stale_after_s": 60}', token=token, method="PUT"),
            target.post("/sign-in", json.dumps({"token": token}).encode()),
            target.post("/sign-in", json.dumps({"tokn": token}).encode()),
            target.send(f"GET {token} HTTP/1.1\r\nX-NRGkick-Token: {token}\r\n{token}\r\n\r\n".encode()),
        ]
    return said


def without_its_store(target):
    """The server's own trouble, which it tells in its log."""
    for found in target.log.parent.glob("c.db*"):
        found.unlink()
    (target.log.parent / "c.db").mkdir()
    return [target.post("/api/v1/live", json.dumps(live_post()).encode()), target.get(scope="read")]


@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
def test_the_function_keeps_its_secrets(tmp_path, kind, request, project):
    env, store = {"NRGKICK_PREVIOUS_SIGNING_KEY": PREVIOUS}, None
    if kind == "firestore":
        env |= {"FIRESTORE_EMULATOR_HOST": request.getfixturevalue("emulator"), "GOOGLE_CLOUD_PROJECT": project}
        store = "firestore"
    tokens = cloud_secrets()
    with attacked(tmp_path, env=env, store=store) as target:
        said = attack_with_tokens(target, tokens)
        stored = (tmp_path / "c.db").read_bytes() if kind == "sqlite" else documents(env)
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        if kind == "sqlite":
            assert (tmp_path / "c.db").stat().st_mode & 0o077 == 0
            said += without_its_store(target)
    sessions = {
        answer.headers["set-cookie"].split("=", 1)[1].split(";")[0] for answer in said if "set-cookie" in answer.headers
    }
    assert sessions
    secrets = {KEY, PREVIOUS, *tokens.values(), *sessions}
    found_in = {
        "an answer": b"\n".join(answer.body for answer in said),
        "the log": target.log.read_bytes(),
        "what is stored": stored,
        "the process list": listed.encode(),
    }
    assert {answer.status for answer in said} >= {200, 400, 401, 403, 404, 422}
    assert b"a post was refused" in found_in["the log"]
    for where, text in found_in.items():
        assert text
        for secret in secrets:
            signature = secret.rpartition(".")[2]
            if where == "an answer" and f'"{secret}"'.encode() in text:
                text = text.replace(secret.encode(), b"")  # an unknown key, named to the one who sent it
            assert secret.encode() not in text, where
            assert signature.encode() not in text, where


def documents(env):
    """Every document of the emulator's project, as text."""

    async def read():
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            client = make_client()
        found = []

        async def below(place):
            async for collection in place.collections():
                async for snapshot in collection.stream():
                    found.append(f"{snapshot.reference.path} {snapshot.to_dict()}")
                    await below(snapshot.reference)

        await below(client)
        client.close()
        return "\n".join(found).encode()

    return asyncio.run(read())


def test_a_log_line_cannot_be_made_to_look_like_another(target):
    hostile = "\x1b[31m\r\nerror: all is lost\x9b2J\u202e"
    target.post("/api/v1/live", json.dumps({hostile: 1, **live_post()}).encode()).check(422)
    said = target.log.read_text()
    assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(said)
    assert not [line for line in said.splitlines() if line.startswith("error: all is lost")]


def limit_of(pid, what):
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line[len(what) :].split()[:2] for line in lines if line.startswith(what))


def allowing_core_files(*words):
    """A command, started by somebody who allows core files."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    allowed = "unlimited" if hard == resource.RLIM_INFINITY else hard
    return ["sh", "-c", f'ulimit -c {allowed}; exec "$@"', "sh", *words]


def assert_no_core_file(pid):
    """Neither of a process nor of those that it started."""
    for member in family_of(pid):
        assert limit_of(member, "Max core file size") == ["0", "0"]


def family_of(pid):
    family = [str(pid)]
    for parent in family:
        family += Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return family


def test_a_crash_of_the_function_leaves_no_memory_on_the_disk(tmp_path):
    port = free_port()
    words = [BIN / "nrgkick-cloud", "serve", "--port", port, "--store", f"sqlite:{tmp_path / 'c.db'}"]
    with running(*allowing_core_files(*words), log=tmp_path / "log") as process:
        wait_for_port(port, process)
        wait_until(lambda: len(family_of(process.pid)) > 1, "it has started others")
        assert_no_core_file(process.pid)


def test_a_crash_of_the_pusher_leaves_none_either(tmp_path):
    assert "\nLimitCORE=0\n" in service._UNIT
    assert "\nUMask=0077\n" in service._UNIT
    token = tmp_path / "token"
    token.write_text("a.token")
    words = [BIN / "nrgkick-pusher", "simulate", "--url", "http://127.0.0.1:9", "--token-file", token]
    log = tmp_path / "log"
    with running(*allowing_core_files(*words, "--folder", tmp_path / "pusher"), log=log) as process:
        wait_until(lambda: " devices for " in log.read_text(), "the pusher runs")
        assert_no_core_file(process.pid)


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_a_crash_of_a_proxy_leaves_none_either(tmp_path, kind):
    need(kind, kind)
    (tmp_path / "token").write_text("a.token")
    (tmp_path / "token").chmod(0o600)
    port = free_port()
    words = ["proxy", kind, "--out", tmp_path / "proxy", "--listen", f"127.0.0.1:{port}"]
    words += ["--cloud", "http://127.0.0.1:9", "--token-file", tmp_path / "token"]
    subprocess.run([BIN / "nrgkick-pusher", *words], capture_output=True, check=True)
    with running(*allowing_core_files(tmp_path / "proxy" / "run"), log=tmp_path / "log") as process:
        wait_for_port(port, process)
        wait_until(lambda: len(family_of(process.pid)) > 1, "it has started others")
        assert_no_core_file(process.pid)


def test_other_users_see_neither_environment_nor_memory(target):
    for pid in target.pids():
        for what in ("environ", "mem", "maps"):
            assert Path(f"/proc/{pid}/{what}").stat().st_mode & 0o077 in (0, 0o044)
    if os.geteuid() != 0:
        lacking("only root can look as somebody else; that is NOT tested")
    for pid in target.pids():
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", f"/proc/{pid}/environ"]
        looked = subprocess.run(nobody, capture_output=True, text=True)
        assert looked.returncode != 0
        assert KEY not in looked.stdout


def test_the_pusher_keeps_its_secrets(tmp_path, target):
    """Its token and its devices' logins: through refusals, a dead device, a dead cloud, and every way to ask it."""
    token_file, run_dir = tmp_path / "token", tmp_path / "run"
    token = KEYRING.make("home", "push", datetime.now(UTC) - timedelta(seconds=5))
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    dead = free_port()
    meter = {"url": f"http://127.0.0.1:{dead}/rpc?key={LOCK}", "basic": {"user": "ann", "password": FAULTY}}
    devices = [
        {"inverter": 0, "every": "1s", "simulated": {}},
        {"energy_meter": 0, "every": "1s", "http": {**meter, "values": {"grid_power_w": {"path": "x"}}}},
    ]
    config = tmp_path / "pusher.yaml"
    config.touch(mode=0o600)
    config.write_text(
        json.dumps(
            {
                "cloud": {"url": f"http://127.0.0.1:{target.port}", "token_file": str(token_file)},
                "pusher": "barn-pi",
                "state_dir": str(tmp_path / "state"),
                "run_dir": str(run_dir),
                "archive": {"every": "1s", "send_every": "1s"},
                "devices": devices,
            }
        )
    )
    command, log, said = BIN / "nrgkick-pusher", tmp_path / "pusher.log", ""
    with running(command, "run", "--config", config, log=log) as process:
        wait_until(lambda: b"inv_power_ac_w" in ask(run_dir, "values.json"), "the pusher answers at its socket")
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        said += ask(run_dir, "../../status").decode() + ask(run_dir, "x").decode()
        wait_until(lambda: str(dead) in log.read_text(), "the dead device is told of")
        token_file.write_text(KEYRING.make("barn", "read", datetime.now(UTC)))
        os.killpg(process.pid, signal.SIGHUP)
        wait_until(lambda: "scope" in log.read_text(), "the refusal is told of")
        for words in (["status", "--json"], ["check", "--online"]):
            done = subprocess.run([command, *words, "--config", config], capture_output=True, text=True)
            said += done.stdout + done.stderr
    once = subprocess.run([command, "run", "--once", "--config", config], capture_output=True, text=True)
    said += once.stdout + once.stderr
    everything = [path for path in tmp_path.rglob("*") if path.is_file() and path not in (token_file, config)]
    assert any(path.name == "outbox.db" for path in everything)
    for secret in (token, token_file.read_text(), token.rpartition(".")[2], FAULTY, LOCK):
        assert secret not in said
        assert secret not in listed
        assert not [path for path in everything if secret.encode() in path.read_bytes()]


def ask(run_dir, path):
    """What pusher.sock answers; nothing while it does not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        try:
            connection.connect(str(run_dir / "pusher.sock"))
            connection.sendall(f"GET /api/v1/{path} HTTP/1.0\r\n\r\n".encode())
            received = b""
            while piece := connection.recv(65536):
                received += piece
        except OSError:
            return b""
        return received
