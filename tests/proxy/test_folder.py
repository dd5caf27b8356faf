"""The folder that the command fills: its secret, its unit, its `run`, and that a second call changes nothing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pusher.cli import app
from pusher.proxy.plan import Kind
from tests.conftest import copied_python, lacking, need
from tests.proxy.cloud import Authority, Cloud, always, slow
from tests.proxy.house import Proxy, Pusher, wait_until, write_proxy
from tests.proxy.wallbox import VALUES, request

Start = Callable[..., Proxy]
EVERY_KIND = pytest.mark.parametrize("any_kind", list(Kind))
USUAL = ("--listen", "127.0.0.1:1000", "--cloud", "https://nrgkick-abc.a.run.app")


@EVERY_KIND
def test_a_folder_holds_all_that_is_needed_and_one_secret(
    any_kind: Kind, tmp_path: Path, tokens: dict[str, Path]
) -> None:
    folder = tmp_path / "proxy"
    said = write_proxy(any_kind, "--out", folder, *USUAL, "--token-file", tokens["read"])
    token = tokens["read"].read_text().strip()
    holders = [path for path in folder.iterdir() if token in path.read_text()]
    assert [path.name for path in holders] == ["token" if any_kind is Kind.CADDY else "token.conf"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert token not in said
    assert {"run", "nrgkick-proxy.service", "README.txt"} <= {path.name for path in folder.iterdir()}
    assert os.access(folder / "run", os.X_OK)
    for word in (f"{folder}/run", f"curl -i http://127.0.0.1:1000{VALUES}", "systemctl enable", "127.0.0.1", "1000"):
        assert word in said
    subprocess.run(["bash", "-n", folder / "run"], check=True)


@EVERY_KIND
def test_a_second_call_with_the_same_words_changes_nothing(
    any_kind: Kind, tmp_path: Path, tokens: dict[str, Path]
) -> None:
    words = ("--out", tmp_path / "proxy", *USUAL, "--token-file", tokens["read"])
    write_proxy(any_kind, *words)
    before = state(tmp_path / "proxy")
    assert "nothing was changed" in write_proxy(any_kind, *words)
    assert state(tmp_path / "proxy") == before
    assert "wrote" in write_proxy(any_kind, *words, "--edge-first")


def state(folder: Path) -> dict[str, tuple[int, ...]]:
    """What tells whether a file was touched; when it was last read does not."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (at.st_ino, at.st_mode, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found.items()}


def test_what_the_owner_wrote_stays(tmp_path: Path, tokens: dict[str, Path]) -> None:
    words = ("--out", tmp_path, *USUAL, "--token-file", tokens["read"])
    write_proxy("cloudflared", *words)
    (tmp_path / "cloudflared.env").write_text("TUNNEL_SERVICE_TOKEN_ID=mine\n")
    write_proxy("cloudflared", *words)
    assert (tmp_path / "cloudflared.env").read_text() == "TUNNEL_SERVICE_TOKEN_ID=mine\n"


@pytest.mark.parametrize("first", list(Kind))
@EVERY_KIND
def test_another_kind_leaves_nothing_of_the_first_but_what_the_owner_wrote(
    first: Kind, any_kind: Kind, tmp_path: Path, tokens: dict[str, Path], authority: Authority
) -> None:
    words = (*USUAL, "--token-file", tokens["read"])
    write_proxy(any_kind, "--out", tmp_path / "proxy", *words)
    fresh = contents(tmp_path / "proxy")
    shutil.rmtree(tmp_path / "proxy")
    write_proxy(first, "--out", tmp_path / "proxy", *words, "--ca", authority.file)
    written = set(contents(tmp_path / "proxy"))
    owners = {
        "cloudflared.env": "TUNNEL_SERVICE_TOKEN_ID=mine\n",
        "id_ed25519": "key",
        "notes": "mine",
        "token.old": "x",
    }
    for name, text in owners.items():
        (tmp_path / "proxy" / name).write_text(text)
    said = write_proxy(any_kind, "--out", tmp_path / "proxy", *words)
    assert contents(tmp_path / "proxy") == fresh | owners
    removed = said.partition(": removed ")[2].partition(", which")[0].split(", ")
    assert set(removed) == written - set(fresh) - set(owners)
    assert "nothing was changed" in write_proxy(any_kind, "--out", tmp_path / "proxy", *words)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_token_file_that_the_owner_keeps_in_the_folder_stays_there(tmp_path: Path, tokens: dict[str, Path]) -> None:
    """Even if it has the name of a file that one kind writes and another removes."""
    kept = Path(shutil.copy(tokens["read"], tmp_path / "token"))
    words = ("--out", tmp_path, *USUAL, "--token-file", kept)
    for kind in ("caddy", "nginx", "ssh"):
        write_proxy(kind, *words)
        assert kept.read_text() == tokens["read"].read_text()
    write_proxy("nginx", *words[:-1], tokens["read"])
    assert kept.exists()


def test_the_list_of_what_was_written_leads_nowhere_else(tmp_path: Path, tokens: dict[str, Path]) -> None:
    (tmp_path / "precious").write_text("mine")
    folder = tmp_path / "proxy"
    (folder / "var").mkdir(parents=True)
    (folder / ".written").write_text("../precious\n..\nvar\nnowhere\n\n" + str(tmp_path / "precious"))
    write_proxy("nginx", "--out", folder, *USUAL, "--token-file", tokens["read"])
    assert (tmp_path / "precious").exists()
    assert (folder / "var").is_dir()


@pytest.mark.parametrize("port", [1000, 8080])
@EVERY_KIND
def test_the_unit_is_valid_and_gives_no_more_rights_than_needed(
    any_kind: Kind, port: int, tmp_path: Path, tokens: dict[str, Path]
) -> None:
    analyze = need("systemd-analyze", "systemd")
    listen = f"192.168.1.10:{port}"
    write_proxy(any_kind, "--out", tmp_path, *USUAL[2:], "--listen", listen, "--token-file", tokens["read"])
    unit = tmp_path / "nrgkick-proxy.service"
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    judge = [analyze, "security", "--offline=true", "--threshold=25", unit]
    judged = subprocess.run(judge, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
    text = unit.read_text()
    assert ("AmbientCapabilities=CAP_NET_BIND_SERVICE" in text) == (port < 1024)
    assert ("DynamicUser=yes" in text) == (any_kind is not Kind.GCLOUD)
    assert "/var/lib/nrgkick-pusher" in text.split("InaccessiblePaths=")[1].splitlines()[0]


def test_the_token_is_in_no_log_and_no_process_list(
    kind: str, start_proxy: Start, cloud: Cloud, tokens: dict[str, Path]
) -> None:
    proxy = start_proxy(kind)
    token = tokens["read"].read_text().strip()
    proxy.ask()
    for fault in (always(401), always(500), always(302, location="https://localhost/x"), slow):
        cloud.fault = fault
        proxy.ask()
    cloud.refuse()
    proxy.ask()
    proxy.ask(request("/x", "POST", "1.1", "Content-Length: 3") + b"a=b")
    secret = "token" if kind == "caddy" else "token.conf"
    everything = [path for path in proxy.folder.rglob("*") if path.is_file() and path.name != secret]
    assert len(everything) > 5
    assert not [path for path in everything if token.encode() in path.read_bytes()]
    assert "127.0.0.1" in proxy.log, "it does tell when who asked"
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert token not in listed


def test_all_that_run_writes_is_below_its_folder_and_it_ends_when_told(kind: str, start_proxy: Start) -> None:
    proxy = start_proxy(kind)
    assert proxy.ask().status == 200
    known = {
        ".written",
        "README.txt",
        "run",
        "ca.pem",
        "nrgkick-proxy.service",
        "log",
        "var",
        "Caddyfile",
        "token",
        "nginx.conf",
    }
    assert {path.name for path in proxy.folder.iterdir()} <= known | {"token.conf"}
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.process.wait(10) in (0, -signal.SIGTERM)
    wait_until(lambda: not members(proxy.process.pid), "nothing of it is left")


def test_a_terminal_that_is_closed_ends_all_of_it(kind: str, start_proxy: Start) -> None:
    """As Ctrl-C does: nothing is left that would answer by halves."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what `nohup make test` ignores is inherited
    try:
        proxy = start_proxy(kind)
    finally:
        signal.signal(signal.SIGHUP, before)
    os.killpg(proxy.process.pid, signal.SIGHUP)
    proxy.process.wait(20)
    wait_until(lambda: not members(proxy.process.pid), "nothing of it is left")
    assert not listens(proxy.port)


def test_an_address_of_another_machine_is_said_to_be_one(
    kind: str, tmp_path: Path, tokens: dict[str, Path], authority: Authority
) -> None:
    words = ("--out", tmp_path / "proxy", "--listen", "192.0.2.1:8181", *USUAL[2:], "--ca", authority.file)
    write_proxy(kind, *words, "--token-file", tokens["read"])
    ended = subprocess.run([tmp_path / "proxy" / "run"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Cannot assign requested address" in ended.stdout + ended.stderr


def test_a_second_start_says_so_and_leaves_the_first_alone(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    second = subprocess.run([proxy.folder / "run"], capture_output=True, text=True)
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert "this proxy runs already" in second.stderr
    elsewhere = shutil.copytree(proxy.folder, proxy.folder.with_name("copy"), ignore=shutil.ignore_patterns("var"))
    third = subprocess.run([elsewhere / "run"], capture_output=True, text=True)
    assert third.returncode == 1
    assert ("Address already in use" if kind == "nginx" else "somebody listens at") in third.stderr
    for sent in (request(VALUES), request("/api/v1/info.json")):
        assert proxy.ask(sent).headers["x-answered-by"] == "cloud"
    assert len(cloud.asked) == 2


def test_after_a_kill_it_starts_again(kind: str, start_proxy: Start, processes: Callable[..., object]) -> None:
    proxy = start_proxy(kind)
    os.killpg(proxy.process.pid, signal.SIGKILL)
    proxy.process.wait()
    wait_until(lambda: not listens(proxy.port), "the last of the killed is gone")
    again = Proxy(proxy.folder, proxy.port, processes(proxy.folder / "run"), proxy.log_file)
    wait_until(lambda: listens(proxy.port), "the proxy listens")
    assert again.ask().headers["x-answered-by"] == "cloud"


def members(group: int) -> list[str]:
    """The processes of a group."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=2) for line in listed.splitlines())
    return [line[2] for line in lines if line[0] == str(group) and not line[1].startswith("Z")]


@pytest.fixture
def open_python(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pusher's Python where every user may enter, as below /opt."""
    monkeypatch.setattr(sys, "executable", str(copied_python(open_folder / "python", "pusher.proxy.share")))


@pytest.mark.usefixtures("open_python")
def test_port_1000_is_served_without_root_as_the_unit_does_it(
    kind: str,
    open_folder: Path,
    cloud: Cloud,
    home: Pusher,
    authority: Authority,
    tokens: dict[str, Path],
    processes: Callable[..., object],
) -> None:
    """With one capability, as another user, and the secret where systemd's LoadCredential puts it."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        lacking("only root can give a process less than it has; ports below 1024 without root are NOT tested")
    port, nobody = low_port(), 65534
    folder, state, credentials = (open_folder / name for name in ("proxy", "state", "credentials"))
    write_proxy(
        kind, "--out", folder, "--listen", f"127.0.0.1:{port}", "--cloud", f"https://localhost:{cloud.port}",
        "--token-file", tokens["read"], "--ca", authority.file, "--socket", home.socket,
    )  # fmt: skip
    for place in (state, credentials):
        place.mkdir(mode=0o700)
        os.chown(place, nobody, nobody)
    for secret in folder.glob("token*"):
        copy = Path(shutil.copy(secret, credentials))
        os.chown(copy, nobody, nobody)
        copy.chmod(0o400)
    log_file = open_folder / "log"
    with log_file.open("wb") as log:
        process = processes(
            "setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "--no-new-privs",
            "--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service", folder / "run",
            stdout=log, stderr=log,
            env={**os.environ, "RUNTIME_DIRECTORY": str(state), "CREDENTIALS_DIRECTORY": str(credentials)},
        )  # fmt: skip
    proxy = Proxy(folder, port, process, log_file)
    wait_until(lambda: listens(port) or process.poll() is not None, "the proxy listens")
    assert process.poll() is None, proxy.log
    assert proxy.ask().headers["x-answered-by"] == "cloud"
    assert not (folder / "var").exists()
    listed = subprocess.run(["ps", "-eo", "pgid=,uid="], capture_output=True, text=True, check=True).stdout
    users = {line.split()[1] for line in listed.splitlines() if line.split()[0] == str(process.pid)}
    assert users == {str(nobody)}


def low_port() -> int:
    for port in range(1000, 900, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_without_a_python_that_may_be_run_it_says_where_the_pusher_should_be(
    tmp_path: Path, tokens: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("caddy", "caddy")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone" / "python"))
    write_proxy("caddy", "--out", tmp_path / "proxy", *USUAL, "--token-file", tokens["read"])
    ended = subprocess.run([tmp_path / "proxy" / "run"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"cannot run the pusher's own {tmp_path}/gone/python; install the pusher where" in ended.stderr


@pytest.mark.parametrize(
    ("python", "seen"), [("/opt/nrgkick/bin/python", "yes"), ("/home/me/.venv/bin/python", "read-only")]
)
def test_the_unit_of_caddy_sees_the_pushers_python(
    python: str, seen: str, open_folder: Path, tokens: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    write_proxy("caddy", "--out", open_folder, *USUAL, "--token-file", tokens["read"])
    assert f"ProtectHome={seen}\n" in (open_folder / "nrgkick-proxy.service").read_text()


def test_a_python_in_a_place_that_needs_quoting_is_in_the_way_of_caddy_alone(
    tmp_path: Path, tokens: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my own" / "python"))
    words = ("--out", str(tmp_path / "proxy"), *USUAL, "--token-file", str(tokens["read"]))
    write_proxy("nginx", *words)
    refused = CliRunner().invoke(app, ["proxy", "caddy", *words])
    assert refused.exit_code == 1
    assert "the pusher's own Python" in refused.output
