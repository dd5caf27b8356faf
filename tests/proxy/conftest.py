"""Fixtures: a house for the proxy, made of the parts in `house`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port, need
from tests.proxy.cloud import Authority, Cloud
from tests.proxy.house import Function, Processes, Proxy, Pusher, run_proxy, running_function, token_files


@pytest.fixture(scope="session")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    with running_function(tmp_path_factory.mktemp("function")) as running:
        yield running


@pytest.fixture(scope="session")
def tokens(function: Function, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with tokens: `read` and `push` of a site with a pusher, `nothing` of a site never heard of."""
    return token_files(function, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def home(function: Function, tokens: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    """A pusher that runs through all tests; so the cloud has fresh values of site `home`."""
    pusher = Pusher(tmp_path_factory.mktemp("home") / "pusher", function.url, tokens["push"])
    yield pusher
    pusher.close()


@pytest.fixture
def mortal(function: Function, tokens: dict[str, Path], tmp_path: Path) -> Iterator[Pusher]:
    """A pusher of the test's own, to be killed."""
    pusher = Pusher(tmp_path / "pusher", function.url, tokens["push"])
    yield pusher
    pusher.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def cloud(function: Function, authority: Authority) -> Iterator[Cloud]:
    cloud = Cloud(function.url, authority.context("localhost"))
    yield cloud
    cloud.close()


@pytest.fixture(params=["nginx", "caddy"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each proxy in turn."""
    need(request.param, request.param)
    return str(request.param)


@pytest.fixture
def start_proxy(
    cloud: Cloud, authority: Authority, tokens: dict[str, Path], home: Pusher, tmp_path: Path, processes: Processes
) -> Callable[..., Proxy]:
    """Writes a proxy before the cloud and starts its `run`; named words replace the usual ones."""

    def start(kind: str, *flags: object, before: tuple[object, ...] = (), **named: object) -> Proxy:
        usual = {
            "listen": f"127.0.0.1:{free_port()}",
            "cloud": f"https://localhost:{cloud.port}",
            "token_file": tokens["read"],
            "socket": home.socket,
            "ca": authority.file,
        }
        return run_proxy(tmp_path, processes, kind, *flags, before=before, **(usual | named))

    return start
