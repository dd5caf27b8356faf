"""The cloud's name: it may be unknown when the proxy starts, vanish while it runs, and lead elsewhere tomorrow.

The proxy runs in a mount namespace of its own, with a hosts file and a resolver that the test holds.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.proxy.cloud import Authority, Cloud
from tests.proxy.house import Function, Proxy, wait_until
from tests.proxy.test_reach import assert_soon, assert_values

Start = Callable[..., Proxy]
NAME = "cloud.example"


class Names:
    """What the proxy's machine knows of names."""

    def __init__(self, folder: Path, unshare: list[str]) -> None:
        self._hosts, resolver, script = folder / "hosts", folder / "resolv.conf", folder / "with-names"
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        mounts = f'mount --bind {self._hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        script.write_text(f"#!/bin/sh\nexec {' '.join(unshare)} sh -c '{mounts}' sh \"$@\"\n")
        script.chmod(0o755)
        self.before: tuple[object, ...] = ("env", "NRGKICK_LOOK_UP_S=1", script)
        self.forget()

    def forget(self) -> None:
        self._hosts.write_text("127.0.0.1 localhost\n")

    def lead_to(self, address: str) -> None:
        self._hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")


@pytest.fixture
def names(tmp_path: Path) -> Names:
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            return Names(tmp_path, unshare)
    return lacking("this machine allows no mount namespaces, so names that vanish are NOT tested")


@pytest.fixture
def cloud(function: Function, authority: Authority) -> Iterator[Cloud]:
    cloud = Cloud(function.url, authority.context(NAME))
    yield cloud
    cloud.close()


@pytest.fixture
def proxy(kind: str, start_proxy: Start, cloud: Cloud, names: Names) -> Proxy:
    """A proxy that was started while nobody knew the cloud's name."""
    return start_proxy(kind, cloud=f"https://{NAME}:{cloud.port}", before=names.before)


def test_without_names_the_proxy_starts_and_the_pusher_answers(proxy: Proxy, cloud: Cloud, names: Names) -> None:
    assert_values(proxy, "pusher")
    names.lead_to("127.0.0.1")
    assert_soon(proxy, "cloud")
    assert set(cloud.names) == {NAME}


def test_when_the_cloud_moves_the_proxy_follows(
    proxy: Proxy, cloud: Cloud, names: Names, function: Function, authority: Authority
) -> None:
    names.lead_to("127.0.0.1")
    assert_soon(proxy, "cloud")
    moved = Cloud(function.url, authority.context(NAME), address="127.0.0.2", port=cloud.port)
    try:
        names.lead_to("127.0.0.2")
        cloud.refuse()
        wait_until(lambda: proxy.ask().status == 200 and moved.asked, "the cloud is asked where it is now")
        assert_soon(proxy, "cloud")
    finally:
        moved.close()


def test_when_names_are_gone_no_poll_goes_without_an_answer(proxy: Proxy, cloud: Cloud, names: Names) -> None:
    names.lead_to("127.0.0.1")
    assert_soon(proxy, "cloud")
    names.forget()
    for _ in range(3):
        cloud.refuse()
        cloud.start()  # every connection is gone, and the name with it
        answer = proxy.ask()
        assert answer.status == 200
        assert answer.is_plain
