"""The tunnels: the same nginx in front, and behind it a pipe that may break and comes back by itself.

ssh is real on both ends. gcloud and cloudflared are stood in for by a plain TCP forward that takes their words, for
neither can be had without an account; what they are told is compared with their documentation.
"""

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import free_port, need, stop, wait_for_port
from tests.proxy.cloud import Cloud
from tests.proxy.house import Function, Proxy, wait_until, write_proxy
from tests.proxy.test_reach import assert_soon, assert_values, poll

Start = Callable[..., Proxy]
Processes = Callable[..., "subprocess.Popen[bytes]"]


class Host:
    """A machine of the owner's, with sshd."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._sshd, self._processes, self._folder = need("sshd", "openssh-server"), processes, folder
        folder.mkdir()
        self.port = free_port()
        self.key = folder / "host_key"
        make_key(self.key)
        self.authorized_keys = folder / "authorized_keys"
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.authorized_keys}\nStrictModes no\nPasswordAuthentication no\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks itself in; the package makes it at boot
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            words = (self._sshd, "-D", "-e", "-f", self._folder / "sshd_config")
            self.process = self._processes(*words, stdout=log, stderr=log)
        wait_for_port(self.port, self.process)

    def fail(self) -> None:
        """End sshd and its sessions, which are in groups of their own."""
        listed = subprocess.run(["ps", "-eo", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for parent, pid in (line.split() for line in listed.splitlines())}
        stop(self.process)
        for pid in (pid for pid, parent in parents.items() if self.process.pid in (parent, parents.get(parent))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def let_in(self, folder: Path, target: str) -> None:
        """What README.txt tells the owner to do: a key for one forward, and the host's own key."""
        make_key(folder / "id_ed25519")
        public = (folder / "id_ed25519.pub").read_text()
        self.authorized_keys.write_text(f'restrict,port-forwarding,permitopen="{target}" {public}')
        host_key = " ".join(self.key.with_suffix(".pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")


def make_key(path: Path) -> None:
    need("ssh-keygen", "openssh-client")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@pytest.fixture(autouse=True)
def nginx() -> None:
    need("nginx", "nginx-light")


def test_tls_reaches_through_ssh_to_the_cloud_and_the_tunnel_comes_back(
    start_proxy: Start, cloud: Cloud, tmp_path: Path, processes: Processes
) -> None:
    host = Host(tmp_path / "host", processes)
    proxy = start_proxy("ssh", "--via", f"{getpass.getuser()}@127.0.0.1:{host.port}")
    assert_values(proxy, "pusher")
    host.let_in(proxy.folder, f"localhost:{cloud.port}")
    assert_soon(proxy, "cloud")
    assert set(cloud.names) == {"localhost"}
    host.fail()
    wait_until(lambda: poll(proxy) == "pusher", "the tunnel is down")
    host.start()
    assert_soon(proxy, "cloud")
    assert len(cloud.asked) >= 2


def test_the_ssh_configuration_is_one_that_ssh_understands(tmp_path: Path, tokens: dict[str, Path]) -> None:
    ssh = need("ssh", "openssh-client")
    write_proxy(
        "ssh", "--out", tmp_path, "--listen", "127.0.0.1:1000", "--cloud", "http://127.0.0.1:8080",
        "--token-file", tokens["read"], "--via", "me@vps.example:2222",
    )  # fmt: skip
    environment = {**os.environ, "NRGKICK_STATE": "/state", "NRGKICK_SECRETS": "/secrets"}
    words = [ssh, "-F", tmp_path / "ssh_config", "-G", "cloud"]
    understood = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {
        "hostname vps.example", "user me", "port 2222", "batchmode yes", "stricthostkeychecking true",
        "exitonforwardfailure yes", "streamlocalbindmask 0177", "forwardagent no",
        "localforward /state/cloud.sock [127.0.0.1]:8080",
    } <= set(understood)  # fmt: skip
    said = (tmp_path / "README.txt").read_text()
    assert 'restrict,port-forwarding,permitopen="127.0.0.1:8080"' in said


FORWARD = """#!{python}
import asyncio, os, re, sys

async def pipe(reader, writer):
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()
    writer.close()

async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", {target})
    await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer), return_exceptions=True)

async def main():
    words = " ".join(sys.argv[1:])
    print("told:", words, "with", os.environ.get("TUNNEL_SERVICE_TOKEN_ID"), "pid", os.getpid(), flush=True)
    port = int(re.search(r"(?:--port=|--url 127.0.0.1:)([0-9]+)", words)[1])
    await (await asyncio.start_server(serve, "127.0.0.1", port)).serve_forever()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gcloud", "run services proxy nrgkick --port={port} --region=europe-west1 --project=my-house --quiet"),
        ("cloudflared", "access tcp --hostname cloud.example --url 127.0.0.1:{port}"),
    ],
)
def test_a_tunnel_program_is_told_the_right_words_and_started_again(
    kind: str, words: str, start_proxy: Start, function: Function, tmp_path: Path
) -> None:
    port, programs = free_port(), tmp_path / "programs"
    programs.mkdir()
    program = programs / kind
    program.write_text(FORWARD.format(python=sys.executable, target=function.url.rpartition(":")[2]))
    program.chmod(0o755)
    named = {"region": "europe-west1", "project": "my-house"} if kind == "gcloud" else {}
    proxy = start_proxy(
        kind, cloud="https://cloud.example", tunnel_port=port, ca=None,
        before=("env", f"PATH={programs}:{os.environ['PATH']}"), **named,
    )  # fmt: skip
    assert_soon(proxy, "cloud")
    assert f"told: {words.format(port=port)} with " in proxy.log
    if kind == "cloudflared":
        assert (proxy.folder / "cloudflared.env").stat().st_mode & 0o777 == 0o600
    os.kill(int(proxy.log.rpartition("pid ")[2].split()[0]), 9)
    wait_until(lambda: proxy.log.count("told:") == 2, "the tunnel is started again")
    assert_soon(proxy, "cloud")
    stop(proxy.process)
    with pytest.raises(ConnectionRefusedError):
        proxy.ask()


def test_what_a_tunnel_needs_is_named_where_it_lacks(tmp_path: Path, tokens: dict[str, Path]) -> None:
    write_proxy(
        "cloudflared", "--out", tmp_path / "proxy", "--listen", "127.0.0.1:1000", "--cloud", "https://cloud.example",
        "--token-file", tokens["read"],
    )  # fmt: skip
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "env", "readlink", "dirname", "mkdir", "ln", "rm", "id", "cat", "flock", "nginx"):
        (programs / name).symlink_to(need(name, name))
    if shutil.which("cloudflared", path="/usr/local/sbin:/usr/sbin:/sbin"):
        pytest.skip("cloudflared is where run looks by itself")
    ended = subprocess.run([tmp_path / "proxy" / "run"], env={"PATH": str(programs)}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "cloudflared is not installed" in ended.stderr


def test_the_tailnet_needs_no_tunnel_but_its_daemon(tmp_path: Path, tokens: dict[str, Path]) -> None:
    write_proxy(
        "tailscale", "--out", tmp_path, "--listen", "127.0.0.1:1000", "--cloud", "https://den.tail1234.ts.net",
        "--token-file", tokens["read"],
    )  # fmt: skip
    assert "proxy_ssl_name den.tail1234.ts.net;" in (tmp_path / "nginx.conf").read_text()
    unit = (tmp_path / "nrgkick-proxy.service").read_text()
    assert all("tailscaled.service" in unit.split(f"\n{word}=")[1].splitlines()[0] for word in ("Wants", "After"))
